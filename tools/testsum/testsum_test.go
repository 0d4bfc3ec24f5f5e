package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testsum calls the command as the shell would.
func testsum(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var b bytes.Buffer
	code = program(context.Background(), args, &b, &b)
	return code, b.String()
}

func lastLine(s string) string {
	s = strings.TrimRight(s, "\n")
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// module writes a little module of its own with one test file and makes it the working directory.
func module(t *testing.T, body string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module example.org/m\n\ngo 1.26.0\n",
		"m_test.go": "package m\n\nimport \"testing\"\n\n" + body,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("GOFLAGS", "")
}

func TestRealSuites(t *testing.T) {
	for _, tc := range []struct {
		name, body, last, contains string
		code                       int
	}{
		{
			name: "a suite that passes ends with 0",
			body: "func TestA(t *testing.T) { t.Run(\"x\", func(t *testing.T) {}); t.Run(\"y\", func(t *testing.T) {}) }\n",
			last: "2 passed, 0 failed, 0 skipped",
		},
		{
			name: "a failure shows its output and ends with 1",
			body: "func TestA(t *testing.T) { t.Error(\"the lamp is out\") }\nfunc TestB(t *testing.T) {}\n",
			code: 1, last: "1 passed, 1 failed, 0 skipped", contains: "the lamp is out",
		},
		{
			name: "what does not compile is a failure and says why",
			body: "func TestA(t *testing.T) { nothing() }\n",
			code: 1, last: "0 passed, 1 failed, 0 skipped", contains: "undefined: nothing",
		},
		{
			name: "a skip without leave is a failure",
			body: "func TestA(t *testing.T) { t.Skip(\"not today\") }\nfunc TestB(t *testing.T) {}\n",
			code: 1, last: "1 passed, 1 failed, 0 skipped", contains: "not today",
		},
		{
			name: "a skip for missing sample data is a skip",
			body: "func TestA(t *testing.T) { t.Skip(\"../shared/data is missing\") }\nfunc TestB(t *testing.T) {}\n",
			last: "1 passed, 0 failed, 1 skipped", contains: "s: example.org/m.TestA",
		},
		{
			name: "a panic is a failure",
			body: "func TestA(t *testing.T) { panic(\"smoke\") }\n",
			code: 1, last: "0 passed, 1 failed, 0 skipped", contains: "smoke",
		},
		{
			name: "an exit from within a test is a failure",
			body: "func TestA(t *testing.T) {}\nfunc TestMain(m *testing.M) { m.Run(); println(\"left early\"); panic(\"x\") }\n",
			code: 1, last: "1 passed, 1 failed, 0 skipped", contains: "left early",
		},
		{
			name: "a suite that runs nothing has failed",
			body: "func helper(t *testing.T) {}\nvar _ = helper\n",
			code: 1, last: "0 passed, 1 failed, 0 skipped", contains: "ran nothing",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			module(t, tc.body)
			into := t.TempDir()
			runCode, runOut := testsum(t, "run", "-suite", "s", "-into", into, "--", "go", "test", "./...")
			code, out := testsum(t, "report", "-into", into, "-want", "s")
			if code != tc.code || lastLine(out) != tc.last || !strings.Contains(out, tc.contains) {
				t.Errorf("code %d, want %d with last line %q and %q in it; got\n%s%s", code, tc.code, tc.last, tc.contains, runOut, out)
			}
			if tc.contains != "ran nothing" && runCode != tc.code {
				t.Errorf("run ended with %d, want %d", runCode, tc.code)
			}
		})
	}
}

func TestProof(t *testing.T) {
	module(t, "func TestA(t *testing.T) { t.Run(\"SQLite\", func(t *testing.T) {}) }\n")
	into := t.TempDir()
	for word, want := range map[string]int{"SQLite": 0, "PostgreSQL": 1} {
		if code, out := testsum(t, "run", "-suite", "s", "-into", into, "-proof", word, "--", "go", "test", "./..."); code != want {
			t.Errorf("proof %s: code %d, want %d\n%s", word, code, want, out)
		}
	}
}

func TestSuiteThatTakesTooLong(t *testing.T) {
	module(t, "func TestA(t *testing.T) { select {} }\n")
	into := t.TempDir()
	start := time.Now()
	// The limit covers compiling too; what counts here is that the command ends and says so.
	code, _ := testsum(t, "run", "-suite", "s", "-into", into, "-timeout", "2s", "--", "go", "test", "./...")
	if code != 1 || time.Since(start) > 30*time.Second {
		t.Fatalf("code %d after %s, want 1 soon after 2 s", code, time.Since(start))
	}
	if _, out := testsum(t, "report", "-into", into, "-want", "s"); !strings.Contains(out, "took too long") {
		t.Errorf("the report does not say why:\n%s", out)
	}
}

func TestSteps(t *testing.T) {
	into := t.TempDir()
	for _, tc := range []struct {
		name string
		args []string
		code int
	}{
		{"a command that ends well passes", []string{"-name", "a", "--", "true"}, 0},
		{"a command that ends badly fails", []string{"-name", "b", "--", "sh", "-c", "echo broken; exit 3"}, 1},
		{"a command that should be silent and is not fails", []string{"-name", "c", "-silent", "--", "echo", "file.go"}, 1},
		{"a command that may speak passes", []string{"-name", "d", "--", "echo", "fine"}, 0},
		{"a command that does not exist fails", []string{"-name", "e", "--", "no-such-command-here"}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out := testsum(t, append([]string{"step", "-suite", "lint", "-into", into}, tc.args...)...)
			if code != tc.code {
				t.Errorf("code %d, want %d\n%s", code, tc.code, out)
			}
		})
	}
	code, out := testsum(t, "report", "-into", into, "-want", "lint")
	if code != 1 || lastLine(out) != "2 passed, 3 failed, 0 skipped" || !strings.Contains(out, "broken") || !strings.Contains(out, "file.go") {
		t.Errorf("report ended with %d:\n%s", code, out)
	}
}

func TestNobodyIsLeftBehind(t *testing.T) {
	into, mark := t.TempDir(), filepath.Join(t.TempDir(), "alive")
	// The child outlives its parent and would write the file two seconds later.
	code, out := testsum(t, "step", "-suite", "s", "-into", into, "-name", "a", "--",
		"sh", "-c", "(sleep 2; echo x > "+mark+") >/dev/null 2>&1 & exit 0")
	if code != 0 {
		t.Fatalf("code %d: %s", code, out)
	}
	time.Sleep(2500 * time.Millisecond)
	if _, err := os.Stat(mark); err == nil {
		t.Error("a child of the step was still alive after it")
	}
}

func TestElsewhere(t *testing.T) {
	skipped := note{Name: "p.TestA/postgres", Text: "set SERVER\n"}
	for _, tc := range []struct {
		name    string
		other   result
		part    bool
		failed  int
		skipped int
	}{
		{name: "the same test ran in another suite", other: result{Passed: []string{"p.TestA/postgres"}}},
		{name: "its subtests ran in another suite", other: result{Passed: []string{"p.TestA/postgres/order"}}},
		{name: "it ran nowhere", other: result{Passed: []string{"p.TestB"}}, failed: 1},
		{name: "it ran nowhere, for only a part was asked for", other: result{Passed: []string{"p.TestB"}}, part: true, skipped: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			unit := &result{Suite: "unit", Passed: []string{"p.TestC"}, Elsewhere: []note{skipped}}
			settle([]*result{unit, &tc.other}, tc.part)
			if len(unit.Failed) != tc.failed || len(unit.Skipped) != tc.skipped {
				t.Errorf("got %d failed and %d skipped, want %d and %d", len(unit.Failed), len(unit.Skipped), tc.failed, tc.skipped)
			}
		})
	}
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{
		{}, {"run"}, {"dance", "-into", "x", "-suite", "s", "--", "true"}, {"run", "-into", "x"},
		{"run", "-into", "x", "-suite", "../s", "--", "go", "test"}, {"run", "-into", "x", "-suite", "s", "--", "true"},
		{"step", "-into", "x", "-suite", "s", "--", "true"}, {"report", "-into", "x"}, {"report", "-nonsense"},
	} {
		if code, out := testsum(t, args...); code != 2 {
			t.Errorf("%q: code %d, want 2\n%s", args, code, out)
		}
	}
}
