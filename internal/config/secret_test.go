package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/config"
	"go.yaml.in/yaml/v4"
)

const clear = "Tell-no-one-4711" // an invented secret

// oauth is the guide's block with a secret in the clear.
const oauth = "oauth2:\n  providers:\n    google:\n      client_id: us\n      client_secret: " + clear + "\n"

func TestASecretShowsItselfToNothing(t *testing.T) {
	c, _ := load(t, "database: \"postgres://lazaret:"+clear+"@db.example/lazaret\"\n"+oauth)
	s := c.OAuth2.Providers["google"].ClientSecret
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{s, &s, c.OAuth2, *c, c, c.Database, struct{ inner config.Secret }{s}, []config.Secret{s}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "config", c.OAuth2)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", s, "config", c.OAuth2)
	for _, encode := range []func(any) ([]byte, error){json.Marshal, func(v any) ([]byte, error) { return yaml.Dump(v) }} {
		for _, v := range []any{s, c.OAuth2, c.Database} {
			b, err := encode(v)
			if err != nil {
				t.Fatal(err)
			}
			out.Write(b)
		}
	}
	for _, f := range c.Check(time.Now()) {
		fmt.Fprintln(&out, f)
	}
	if hex := fmt.Sprintf("%x", clear); strings.Contains(out.String(), clear) || strings.Contains(out.String(), hex) {
		t.Errorf("the secret is shown:\n%s", out.String())
	}
	if v, err := s.Resolve(); v != clear || err != nil {
		t.Errorf("resolve: %v, or not the secret", err)
	}
	if dsn, err := c.Database.DSN(); err != nil || dsn != "postgres://lazaret:"+clear+"@db.example/lazaret" {
		t.Errorf("the DSN lacks the password: %v", err)
	}
}

// Each scalar of a good file, and each whole value, is replaced in turn by something that could be a secret.
func TestNoErrorQuotesAValue(t *testing.T) {
	var doc yaml.Node
	if err := yaml.Load([]byte(site+oauth+"security_scans: {a: {tool: b, targets: [c]}}\n"), &doc); err != nil {
		t.Fatal(err)
	}
	tried, path := 0, filepath.Join(t.TempDir(), "lazaret.yaml")
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		for i, child := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 0 {
				continue // keys may be shown
			}
			for _, put := range []yaml.Node{
				{Kind: yaml.ScalarNode, Tag: "!!str", Value: clear + " !\x1b", Style: yaml.DoubleQuotedStyle},
				{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: clear}}},
				{Kind: yaml.ScalarNode, Tag: "!!str", Value: "env:" + clear + " =", Style: yaml.DoubleQuotedStyle},
				{Kind: yaml.ScalarNode, Tag: "!!str", Value: "postgres://" + clear + ":" + clear + ":1:1/", Style: yaml.DoubleQuotedStyle},
				{Kind: yaml.ScalarNode, Tag: "!!str", Value: "-----BEGIN " + clear, Style: yaml.DoubleQuotedStyle},
			} {
				old := *child
				*child = put
				text, err := yaml.Dump(&doc)
				*child = old
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
				_, err = config.Load(path)
				tried++
				var all config.Errors
				if errors.As(err, &all) {
					if s := fmt.Sprintf("%v %+v", err, all); strings.Contains(s, clear) {
						t.Fatalf("an error quotes the value: %s\nof\n%s", s, text)
					}
				}
			}
			walk(child)
		}
	}
	walk(&doc)
	if tried < 300 {
		t.Errorf("only %d values tried", tried)
	}
	// And what is not legible at all.
	for _, text := range []string{"a: *" + clear, "a: '" + clear, "a: \"\\" + clear + "\"", "a: !" + clear + "!x y", "{a: " + clear, "a: " + clear + ": " + clear, "%" + clear + "\n---\n"} {
		for _, name := range []string{"lazaret.yaml", "lazaret.json"} {
			dir := write(t, map[string]string{name: text})
			if _, err := config.Load(filepath.Join(dir, name)); err == nil || strings.Contains(err.Error(), clear) {
				t.Errorf("%s %q: %v", name, text, err)
			}
		}
	}
}

func TestSecretsAreResolved(t *testing.T) {
	dir := write(t, map[string]string{
		"lazaret.yaml": "database: {url: 'postgres://lazaret@/lazaret', password: file:db.secret}\n",
		"db.secret":    "p@ss:word/1\n", "empty": "\n", "long": strings.Repeat("x", 70_000),
	})
	c, err := config.Load(filepath.Join(dir, "lazaret.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if dsn, err := c.Database.DSN(); err != nil || dsn != "postgres://lazaret:p%40ss%3Aword%2F1@/lazaret" {
		t.Errorf("DSN: %v", err)
	}
	t.Setenv("LAZARET_TEST_SECRET", "from the environment")
	t.Setenv("LAZARET_TEST_EMPTY", "")
	for _, c := range []struct{ ref, want, err string }{
		{"env:LAZARET_TEST_SECRET", "from the environment", ""},
		{"env:LAZARET_TEST_ABSENT", "", "environment variable LAZARET_TEST_ABSENT is not set"},
		{"env:LAZARET_TEST_EMPTY", "", "env:LAZARET_TEST_EMPTY is empty"},
		{"file:" + dir + "/empty", "", "file:" + dir + "/empty is empty"},
		{"file:" + dir + "/long", "", "read secret: " + dir + "/long is longer than 64KiB"},
		{"", "", ""},
	} {
		s := config.ParseSecret(c.ref)
		got, err := s.Resolve()
		said := ""
		if err != nil {
			said = err.Error()
		}
		if got != c.want || said != c.err || s.Reference() != c.ref {
			t.Errorf("%s: %q, %q, want %q, %q", c.ref, got, said, c.want, c.err)
		}
	}
	if _, err := config.ParseSecret("file:" + dir + "/absent").Resolve(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
}

func TestADatabaseThatCannotBeMeant(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"another engine", "database: mysql://x", "database: is neither sqlite: nor postgres://"},
		{"SQLite in memory, which keeps nothing", "database: 'sqlite::memory:'", "database: names no file for SQLite"},
		{"SQLite with options, which are not the user's to set", "database: 'sqlite:a.db?mode=ro'", "database: names no file for SQLite"},
		{"a password among the options", "database: 'postgres://h/d?password=x'", "database: holds password among its options"},
		{"two passwords", "database: {url: 'postgres://u:x@h/d', password: env:P}", "database.url: holds a password, and password is given too"},
		{"a password for SQLite", "database: {url: 'sqlite:a.db', password: env:P}", "database.password: SQLite has no password"},
		{"a password for nobody", "database: {url: 'postgres://h/d', password: env:P}", "database.url: names no user for the password"},
		{"no URL", "database: {password: env:P}", "database: has no url"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := problems(t, map[string]string{"lazaret.yaml": c.text + "\n"})
			if got := strings.TrimPrefix(all[0].Error(), "lazaret.yaml:1: "); got != c.want || len(all) != 1 {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
