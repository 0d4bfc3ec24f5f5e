package house

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSuitesAgree: what "make test" runs, what test.sh knows and what CONTRIBUTING.md explains are the same suites.
func TestSuitesAgree(t *testing.T) {
	tr := plant(t, repository(t))
	made := regexp.MustCompile(`(?m)^SUITES = (.*)$`).FindStringSubmatch(string(tr.read(t, "Makefile")))
	if made == nil {
		t.Fatal("the Makefile has no line SUITES = ...")
	}
	want := strings.Fields(made[1])
	slices.Sort(want)
	for _, tc := range []struct{ file, pattern string }{
		{"tools/test.sh", `(?m)^suite_([a-z]+)\(\)`},
		{"CONTRIBUTING.md", "(?m)^\\| `make ([a-z]+)` \\|"},
	} {
		var got []string
		for _, m := range regexp.MustCompile(tc.pattern).FindAllStringSubmatch(string(tr.read(t, tc.file)), -1) {
			got = append(got, m[1])
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s has the suites %q, the Makefile %q", tc.file, got, want)
		}
	}
}

// TestSuitesByWrongName: a slip of the pen must not end as "nothing failed".
func TestSuitesByWrongName(t *testing.T) {
	for _, args := range [][]string{{}, {"units"}, {"lint", "everything"}} {
		cmd := exec.Command(filepath.Join(repository(t), "tools/test.sh"), args...)
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "make help") {
			t.Errorf("test.sh %q ended with %v and said %q; want exit code 2 and a hint", args, err, out)
		}
	}
}
