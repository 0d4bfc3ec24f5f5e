package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// An event is one line of "go test -json" (go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // instead of Package, for build-output and build-fail
	FailedBuild string
	Test        string
	Elapsed     float64
	Output      string
}

// maxOutput is how much of a test's output is kept: its end, where the reason usually stands.
const maxOutput = 32 << 10

// A test is one name of one package while its suite runs.
type test struct {
	pkg, name string
	state     string // "", pass, fail, skip
	output    []byte
	since     time.Time
	subtests  bool
}

// A reader turns events into a result. Its methods may be called by two goroutines: who reads, and who asks what runs.
type reader struct {
	mu        sync.Mutex
	out       io.Writer
	now       func() time.Time
	root      string // of the repository: "../shared" is looked for from here
	elsewhere string // a skip that says this word is run by another suite
	trim      string // prefix of import paths that nobody needs to read

	tests  map[string]*test  // by package and name
	pkgs   map[string][]byte // output of a package outside its tests
	builds map[string][]byte // compiler output, by import path
	notes  []note            // failures of whole packages
}

func newReader(out io.Writer, now func() time.Time, root, elsewhere string) *reader {
	return &reader{
		out: out, now: now, root: root, elsewhere: elsewhere, trim: "github.com/lazaret-health/lazaret/",
		tests: map[string]*test{}, pkgs: map[string][]byte{}, builds: map[string][]byte{},
	}
}

// read takes events until r ends. A line that is no event belongs to the command itself and is printed.
func (r *reader) read(in io.Reader) error {
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 0, 64<<10), 64<<20)
	for s.Scan() {
		var e event
		if json.Unmarshal(s.Bytes(), &e) != nil || e.Action == "" {
			fmt.Fprintf(r.out, "    %s\n", s.Bytes())
			continue
		}
		r.take(e)
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("read the events of go test: %w", err)
	}
	return nil
}

func (r *reader) take(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case e.Action == "build-output":
		r.builds[e.ImportPath] = keep(r.builds[e.ImportPath], e.Output)
	case e.Package == "" || e.Action == "build-fail":
	case e.Test == "":
		r.takePackage(e)
	default:
		t := r.test(e.Package, e.Test)
		switch e.Action {
		case "output":
			t.output = keep(t.output, e.Output)
		case "pass", "fail", "skip":
			t.state = e.Action
			if e.Action == "pass" {
				t.output = nil
			}
		}
	}
}

func (r *reader) takePackage(e event) {
	switch e.Action {
	case "output":
		r.pkgs[e.Package] = keep(r.pkgs[e.Package], e.Output)
	case "skip": // no test files
		delete(r.pkgs, e.Package)
	case "pass", "fail":
		passed, failed, skipped, known := 0, 0, 0, false
		for _, t := range r.tests {
			if t.pkg != e.Package {
				continue
			}
			known = known || t.state == "fail"
			switch t.verdict(e.Action) {
			case "pass":
				passed++
			case "fail":
				failed++
			case "skip":
				skipped++
			}
		}
		if e.Action == "fail" && failed == 0 && !known {
			text := r.pkgs[e.Package]
			if e.FailedBuild != "" {
				text = keep(r.builds[e.FailedBuild], string(text))
			}
			r.notes = append(r.notes, note{r.short(e.Package), string(text)})
			failed++
		}
		word := "ok  "
		if e.Action == "fail" {
			word = "FAIL"
		}
		fmt.Fprintf(r.out, "    %s %-28s %6.1f s  %s\n", word, r.short(e.Package), e.Elapsed, counts(passed, failed, skipped))
		delete(r.pkgs, e.Package)
	}
}

func counts(passed, failed, skipped int) string {
	s := fmt.Sprintf("%d passed", passed)
	if failed > 0 {
		s += fmt.Sprintf(", %d failed", failed)
	}
	if skipped > 0 {
		s += fmt.Sprintf(", %d skipped", skipped)
	}
	return s
}

// test finds or makes the test, and tells its parents that they have children: those are not counted themselves.
func (r *reader) test(pkg, name string) *test {
	key := pkg + " " + name
	t := r.tests[key]
	if t == nil {
		t = &test{pkg: pkg, name: name, since: r.now()}
		r.tests[key] = t
		if i := strings.LastIndexByte(name, '/'); i > 0 {
			r.test(pkg, name[:i]).subtests = true
		}
	}
	return t
}

// verdict is what a test counts for once its package has ended with the given state: "" for one with subtests that
// passed or failed through them, and fail for one that never came to an end.
func (t *test) verdict(pkg string) string {
	switch {
	case t.state == "" && pkg == "fail" && !t.subtests:
		return "fail"
	case t.subtests && t.state != "skip":
		return ""
	}
	return t.state
}

// result counts. Tests with subtests count through these, except where one failed and none of its subtests did.
func (r *reader) result(suite string) *result {
	r.mu.Lock()
	defer r.mu.Unlock()
	res := &result{Suite: suite, Failed: slices.Clone(r.notes)}
	failedBelow := map[string]bool{}
	for _, t := range r.tests {
		if t.verdict("fail") == "fail" {
			for n := t.name; ; {
				i := strings.LastIndexByte(n, '/')
				if i < 0 {
					break
				}
				n = n[:i]
				failedBelow[t.pkg+" "+n] = true
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.tests)) {
		t := r.tests[key]
		name := r.short(t.pkg) + "." + t.name
		n := note{name, string(t.output)}
		switch t.verdict("fail") {
		case "pass":
			res.Passed = append(res.Passed, name)
		case "fail":
			if t.state == "" {
				n.Text += "did not come to an end\n"
			}
			res.Failed = append(res.Failed, n)
		case "skip":
			switch {
			case r.mayskip(n.Text):
				res.Skipped = append(res.Skipped, n)
			case r.elsewhere != "" && strings.Contains(n.Text, r.elsewhere):
				res.Elsewhere = append(res.Elsewhere, n)
			default:
				n.Text += "skipped, and only a missing path of ../shared may be a reason\n"
				res.Failed = append(res.Failed, n)
			}
		default:
			if t.state == "fail" && !failedBelow[key] {
				res.Failed = append(res.Failed, n)
			}
		}
	}
	return res
}

// sharedPath finds what a skip says is missing.
var sharedPath = regexp.MustCompile(`\.\./shared(/[A-Za-z0-9_./-]*[A-Za-z0-9_-])?`)

// mayskip: the text names a path of ../shared, or what should lie beside the project, and it is not there.
func (r *reader) mayskip(text string) bool {
	named := sharedPath.FindAllString(text, -1)
	if len(named) == 0 && strings.Contains(text, "beside the project") {
		named = []string{"../shared"}
	}
	for _, p := range named {
		if _, err := os.Stat(filepath.Join(r.root, p)); err == nil {
			return false
		}
	}
	return len(named) > 0
}

// running names the test that has been under way for longest, for those who wait.
func (r *reader) running() (name string, since time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.tests {
		if d := r.now().Sub(t.since); t.state == "" && !t.subtests && d > since {
			name, since = r.short(t.pkg)+"."+t.name, d
		}
	}
	return name, since
}

func (r *reader) short(pkg string) string { return strings.TrimPrefix(pkg, r.trim) }

// keep appends, and holds on to the last maxOutput bytes.
func keep(b []byte, s string) []byte {
	b = append(b, s...)
	if len(b) > maxOutput {
		b = append([]byte("...\n"), b[len(b)-maxOutput:]...)
	}
	return b
}
