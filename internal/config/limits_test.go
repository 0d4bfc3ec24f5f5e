package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/config"
)

func TestWhatGrowsWithoutEndIsRefused(t *testing.T) {
	lists := "channels:\n- &c0 [x]\n" // ten aliases of ten aliases of …: a thousand million values
	for i := 1; i < 10; i++ {
		lists += fmt.Sprintf("- &c%d [%s]\n", i, strings.Repeat(fmt.Sprintf("*c%d,", i-1), 10))
	}
	deep := strings.Repeat("{log: ", 200) + "1" + strings.Repeat("}", 200)
	for _, c := range []struct {
		name  string
		files map[string]string
	}{
		{"aliases of aliases", map[string]string{"lazaret.yaml": "security_scans:\n  a: {tool: x, targets: &t [" + strings.Repeat("x,", 20_000) + "]}\n" + manyScans(40)}},
		{"an alias of itself", map[string]string{"lazaret.yaml": "security: &s {mfa: *s}\n"}},
		{"aliases of themselves in two files", map[string]string{"lazaret.yaml": "log: &s {log: *s}\n", "lazaret.d/a.yaml": "log: &s {log: *s}\n"}},
		{"values inside values", map[string]string{"lazaret.yaml": deep + "\n"}},
		{"values inside values in JSON", map[string]string{"lazaret.json": strings.Repeat("[", 100_000)}},
		{"values inside values in YAML", map[string]string{"lazaret.yaml": strings.Repeat("[", 100_000)}},
		{"lists of lists of aliases", map[string]string{"lazaret.yaml": lists}},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			all := problems(t, c.files)
			if took := time.Since(start); took > time.Minute {
				t.Errorf("took %s", took)
			}
			if len(all) > 100 {
				t.Errorf("%d problems", len(all))
			}
		})
	}
}

// A configuration as large as a big hospital's reads quickly, and so does the worst that a file can hold.
func TestLargeFilesReadQuickly(t *testing.T) {
	var channels, table, wrong strings.Builder
	channels.WriteString("channels:\n")
	for i := range 1000 {
		fmt.Fprintf(&channels, "- {name: c%d, source: {mllp: {listen: '127.0.0.1:%d'}}, destinations: [{name: d, mllp: {address: 'localhost:1'}, filter: 'true'}]}\n", i, 3000+i)
	}
	table.WriteString("{\"tables\": {\"t\": {\"values\": {\"a\": \"b\"")
	for i := range 20_000 {
		fmt.Fprintf(&table, ",\n \"code %d\": \"%d\"", i, i)
	}
	table.WriteString("}}}}")
	for i := range 100_000 {
		fmt.Fprintf(&wrong, "wrong%d: x\n", i)
	}
	dir := write(t, map[string]string{"lazaret.yaml": channels.String(), "lazaret.d/table.json": table.String(), "wrong/lazaret.yaml": wrong.String()})
	start := time.Now()
	c, err := config.Load(filepath.Join(dir, "lazaret.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	loaded := time.Since(start)
	if len(c.Channels) != 1000 || len(c.Tables["t"].Values) != 20_001 {
		t.Errorf("%d channels, %d values", len(c.Channels), len(c.Tables["t"].Values))
	}
	if p := c.Where("tables.t.values.code 19999"); p.Line != 20_001 || p.Column != 2 {
		t.Errorf("the last value is at %d:%d", p.Line, p.Column)
	}
	start = time.Now()
	c.Check(time.Now())
	checked := time.Since(start)
	start = time.Now()
	_, err = config.Load(filepath.Join(dir, "wrong/lazaret.yaml"))
	var all config.Errors
	if !errors.As(err, &all) || len(all) != 501 {
		t.Errorf("%d problems are listed, want 500 and that there are more", len(all))
	}
	t.Logf("1,000 channels and 20,000 codes: load %s, check %s; 100,000 unknown keys: %s", loaded, checked, time.Since(start))
	if sum := loaded + checked + time.Since(start); sum > time.Minute {
		t.Errorf("took %s", sum)
	}
}

func manyScans(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  b%d: {tool: x, targets: *t}\n", i)
	}
	return b.String()
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := write(t, map[string]string{"big.yaml": strings.Repeat("# twelve byte\n", 400_000)})
	if _, err := config.Load(filepath.Join(dir, "big.yaml")); err == nil || !strings.HasSuffix(err.Error(), "big.yaml is longer than 4MiB") {
		t.Errorf("a file that is too long: %v", err)
	}
	if _, err := config.Load(filepath.Join(dir, "absent.yaml")); !os.IsNotExist(unwrapAll(err)) {
		t.Errorf("a file that is not there: %v", err)
	}
	t.Chdir(dir)
	if _, err := os.Stat("/etc/lazaret/lazaret.yaml"); os.IsNotExist(err) {
		if _, err := config.Load(""); err == nil || !strings.HasPrefix(err.Error(), "no configuration: neither lazaret.yaml here nor /etc/lazaret/lazaret.yaml") {
			t.Errorf("no file at all: %v", err)
		}
	}
	if err := os.WriteFile("lazaret.yaml", []byte("organisation: here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := config.Load(""); err != nil || c.Organisation != "here" || c.Dir() != dir {
		t.Errorf("the file here: %v, %v", c, err)
	}
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		if _, ok := err.(*os.PathError); ok {
			return err
		}
		err = u.Unwrap()
	}
}

func TestAnEmptyFileIsAConfigurationOfDefaults(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "a remark": "# nothing yet\n", "a null": "~\n", "a mark": "\ufeff"} {
		t.Run(name, func(t *testing.T) {
			c, dir := load(t, text)
			if c.Database.String() != "sqlite:"+dir+"/data/lazaret.db" {
				t.Errorf("database: %s", c.Database)
			}
		})
	}
}

func TestATableMayHaveAnEntryForTheEmptyText(t *testing.T) {
	c, _ := load(t, "tables: {t: {values: {'': unknown, ' ': blank, \"~\": tilde, true: truth}}}\n")
	got := c.Tables["t"].Values
	if len(got) != 4 || got[""] != "unknown" || got[" "] != "blank" || got["~"] != "tilde" || got["true"] != "truth" {
		t.Errorf("%v", got)
	}
}

func TestMerge(t *testing.T) {
	dir := write(t, map[string]string{
		"lazaret.yaml":          "organisation: st-mary\nlog: {level: warn}\nchannels:\n- {name: a, source: {mllp: {listen: ':1'}}}\n",
		"lazaret.d/10-b.yaml":   "# a channel of its own file\nchannels:\n- {name: b, source: {mllp: {listen: ':2'}}}\n",
		"lazaret.d/20-c.json":   "{\n\t\"$schema\": \"lazaret.schema.json\",\n\t\"channels\": [\n\t\t{\"name\": \"c\", \"source\": {\"mllp\": {\"listen\": \":3\"}}}\n\t],\n\t\"log\": {\"format\": \"json\"}\n}\n",
		"lazaret.d/.hidden.yml": "organisation: other\n",
		"lazaret.d/old.yaml~":   "organisation: other\n",
	})
	c, err := config.Load(filepath.Join(dir, "lazaret.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, ch := range c.Channels {
		names = append(names, ch.Name)
	}
	if got := strings.Join(names, " "); got != "a b c" || c.Log.Level != "warn" || c.Log.Format != "json" || len(c.Files()) != 3 {
		t.Errorf("channels %s, log %+v, files %v", got, c.Log, c.Files())
	}
	for key, want := range map[string]string{
		"channels.b":                    "lazaret.d/10-b.yaml:3",
		"channels.c.source.mllp.listen": "lazaret.d/20-c.json:4",
		"channels.c.source.mllp.tls":    "lazaret.d/20-c.json:4",
		"log.format":                    "lazaret.d/20-c.json:6",
		"organisation":                  "lazaret.yaml:1",
		"database":                      "lazaret.yaml:1",
	} {
		if got := strings.TrimPrefix(c.Where(key).String(), dir+"/"); got != want {
			t.Errorf("%s is at %s, want %s", key, got, want)
		}
	}
}

func TestExpressionsKnowTheirPlace(t *testing.T) {
	c, _ := load(t, "channels:\n- name: a\n  source: {mllp: {listen: ':1'}}\n  destinations:\n"+
		"  - {name: b, mllp: {address: 'h:1'}, filter: 'PID-3 == \"x\"'}\n"+
		"  - name: c\n    mllp: {address: 'h:1'}\n    filter: |\n      PID-3 == \"x\"\n        or PID-4 == \"y\"\n"+
		"  - name: d\n    mllp: {address: 'h:1'}\n    filter: PID-3 == \"x\"\n"+
		"  - name: e\n    mllp: {address: 'h:1'}\n    filter: >\n      PID-3 == \"x\"\n      or true\n")
	for _, x := range []struct{ dest, line, column, wantLine, wantColumn int }{
		{0, 1, 1, 5, 48}, {0, 1, 7, 5, 54},
		{1, 1, 1, 9, 7}, {1, 2, 3, 10, 9},
		{2, 1, 7, 13, 19},
		{3, 1, 7, 16, 13}, // folded: the place where it begins
	} {
		p := c.Channels[0].Destinations[x.dest].Filter.Place(x.line, x.column)
		if p.Line != x.wantLine || p.Column != x.wantColumn {
			t.Errorf("destination %d, %d:%d is at %d:%d, want %d:%d", x.dest, x.line, x.column, p.Line, p.Column, x.wantLine, x.wantColumn)
		}
	}
}
