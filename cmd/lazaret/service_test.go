package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/control"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
)

// newProgram is the command inside a test.
func newProgram(t *testing.T) (p *program, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	return &program{
		stdin: strings.NewReader(""), stdout: stdout, stderr: stderr, width: 80, env: func(string) string { return "" },
		now: func() time.Time { return time.Now().UTC() }, rand: rand.Reader,
		exit: func(code int) { t.Errorf("the process would have ended at once with %d", code) },
	}, stdout, stderr
}

func loadSite(t *testing.T, text string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const quietSite = `
organisation: st-mary
keys: {root: "file:keys/root"}
listen: {metrics: "127.0.0.1:0"}
channels:
  - name: adt
    source: {mllp: {listen: "127.0.0.1:0"}}
`

// TestServiceIsOnRecord starts and stops the service twice in this process: nothing is left running (TestMain holds that), and
// the audit log tells of both, and of the key.
func TestServiceIsOnRecord(t *testing.T) { dbtest.Each(t, serviceIsOnRecord) }

func serviceIsOnRecord(t *testing.T, address string) {
	p, _, _ := newProgram(t)
	c := loadSite(t, quietSite+fmt.Sprintf("database: %q\n", address))
	for range 2 {
		s, err := p.openService(t.Context(), c, p.logger("error", "text"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.run(ctx) }()
		client := control.Dial(string(c.Control.Socket), "test")
		for end := time.Now().Add(10 * time.Second); client.Ready(ctx) != nil; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not ready")
			}
		}
		client.Close()
		stop()
		if err := <-done; err != nil {
			t.Fatalf("run ended with %v", err)
		}
		if err := s.close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	s, err := p.openService(t.Context(), c, p.logger("error", "text"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	seen := map[audit.Event]int{}
	err = s.db.Read(t.Context(), func(tx *db.Tx) error {
		page, err := s.audit.Search(tx, audit.Query{Limit: 100})
		for _, r := range page.Records {
			seen[r.Event]++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for event, want := range map[audit.Event]int{audit.ServiceStarted: 2, audit.ServiceStopped: 2, audit.KeyCreated: 1} {
		if seen[event] != want {
			t.Errorf("%s is on record %d times, want %d", event, seen[event], want)
		}
	}
}

func TestServiceDoesNotStart(t *testing.T) {
	for _, c := range []struct {
		name, site, want string
	}{
		{"where a source has no such address", quietSite + "  - {name: two, source: {mllp: {listen: \"192.0.2.1:9\"}}}\n", `channel "two"`},
		{"where the metrics' port is taken", strings.Replace(quietSite, "127.0.0.1:0\"}", "192.0.2.1:9\"}", 1), "listen.metrics"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _, _ := newProgram(t)
			s, err := p.openService(t.Context(), loadSite(t, c.site), p.logger("error", "text"))
			if err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				err = s.run(ctx)
				if closed := s.close(); closed != nil {
					t.Errorf("close: %v", closed)
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error about %s", err, c.want)
			}
		})
	}
}

// TestReport holds what a person sees of an error, and the exit code.
func TestReport(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		code int
		want string
	}{
		{"nothing", nil, 0, ""},
		{"what was found is said already", errFound, 1, ""},
		{"wrong use", usage("--to is not given", "send"), 2, "lazaret: --to is not given\nhint: run \"lazaret send --help\"\n"},
		{"an error with a next step", hint(os.ErrPermission, "be root"), 1, "lazaret: permission denied\nhint: be root\n"},
		{"problems of a configuration", config.Errors{{File: "a.yaml", Line: 3, Key: "k", What: "is wrong", Next: "make it right"}}, 1, "lazaret: a.yaml:3: k: is wrong\nhint: make it right\n"},
		{"an interrupt", context.Canceled, 1, "lazaret: interrupted\n"},
		{"control characters of a peer's words", &control.Problem{Title: "no\x1b[2J"}, 1, "lazaret: no\\x1b[2J\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, stdout, stderr := newProgram(t)
			if code := p.report(c.err); code != c.code || stderr.String() != c.want || stdout.Len() != 0 {
				t.Errorf("code %d, stderr %q, stdout %q; want %d, %q", code, stderr, stdout, c.code, c.want)
			}
		})
	}
}
