//go:build faults && linux

package faults_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestTheAnswerFollowsTheSync watches the system calls of the real program: when an acknowledgement is written to a socket, all
// that was written to the log before has been synced, and something was since the acknowledgement before.
func TestTheAnswerFollowsTheSync(t *testing.T) {
	database := "sqlite:" + filepath.Join(t.TempDir(), "lazaret.db")
	s := newService(t, build(t), database, "127.0.0.1:9", "127.0.0.1:9")
	// Nothing is delivered, so that every write is an acceptance's.
	site := filepath.Join(s.dir, "site.yaml")
	text, err := os.ReadFile(site)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.ReplaceAll(string(text), "        retry:", "        enabled: false\n        retry:"))
	if err := os.WriteFile(site, text, 0o600); err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(s.dir, "trace")
	s.under = []string{"strace", "-f", "-yy", "-qq", "-s", "400", "-e", "trace=write,pwrite64,fdatasync,fsync", "-e", "signal=none", "-o", trace}
	s.start()
	l := startSenders(s.address, 1)
	l.wait(t, 40)
	l.stop()
	s.end()
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	answers, faults := checkTrace(string(b))
	for _, f := range faults {
		t.Error(f)
	}
	if answers < l.total() {
		t.Errorf("%d answers were seen, of %d", answers, l.total())
	}
	// The check is worth something only if it finds an answer without a sync.
	without := regexp.MustCompile(`(?m)^.*fdatasync.*\n`).ReplaceAllString(string(b), "")
	if _, found := checkTrace(without); len(found) == 0 {
		t.Error("nobody noticed that the syncs were gone")
	}
}

// checkTrace reads what strace wrote. It returns the number of answers and what is wrong about them.
func checkTrace(text string) (answers int, wrong []string) {
	var (
		writes  = regexp.MustCompile(`^\d+ +(?:write|pwrite64)\(\d+<[^>]*-wal>`)
		synced  = regexp.MustCompile(`^\d+ +(?:fdatasync|fsync)\(\d+<[^>]*-wal>\) += 0`)
		begins  = regexp.MustCompile(`^(\d+) +(?:fdatasync|fsync)\(\d+<[^>]*-wal> <unfinished`)
		resumed = regexp.MustCompile(`^(\d+) +<\.\.\. (?:fdatasync|fsync) resumed>\) += 0`)
		answer  = regexp.MustCompile(`^\d+ +write\(\d+<TCP[^ ]*, "\\vMSH.*MSA\|AA\|`)
	)
	dirty, kept := 0, 0       // writes that no sync covers; writes that one did since the last answer
	under := map[string]int{} // thread -> writes that its sync under way covers
	for i, line := range strings.Split(text, "\n") {
		switch {
		case writes.MatchString(line):
			dirty++
		case synced.MatchString(line):
			dirty, kept = 0, kept+dirty
		case begins.MatchString(line):
			under[begins.FindStringSubmatch(line)[1]] = dirty
		case resumed.MatchString(line):
			thread := resumed.FindStringSubmatch(line)[1]
			dirty, kept = dirty-under[thread], kept+under[thread]
			delete(under, thread)
		case answer.MatchString(line):
			answers++
			if dirty > 0 || kept == 0 {
				wrong = append(wrong, fmt.Sprintf("line %d of the trace: answer %d left with %d writes not synced and %d synced since the one before", i+1, answers, dirty, kept))
			}
			kept = 0
		}
	}
	return answers, wrong
}

// TestAFailedFsyncEndsTheService makes the real program's fdatasync fail. It must end by itself and acknowledge nothing more; the
// next start copies, and everything that was acknowledged is there.
func TestAFailedFsyncEndsTheService(t *testing.T) {
	strict, at := listen(t, 6)
	patient, other := listen(t, 7)
	path := filepath.Join(t.TempDir(), "lazaret.db")
	s := newService(t, build(t), "sqlite:"+path, at, other)
	s.start() // makes keys and tables without a fault
	l := startLoad(s.address)
	l.wait(t, 20)
	s.end()
	s.under = []string{"strace", "-f", "-qq", "-o", filepath.Join(s.dir, "trace"), "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=12+", "-e", "signal=none"}
	s.start()
	ended := make(chan error, 1)
	go func() { ended <- s.cmd.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended with 0 after a failed fsync")
		}
	case <-time.After(60 * time.Second):
		t.Fatal("it did not end after a failed fsync")
	}
	s.cmd = nil
	if _, err := os.Stat(path + ".fsync-failed"); err != nil {
		t.Errorf("no note was left: %v", err)
	}
	s.under = nil
	s.start()
	l.wait(t, 50)
	l.stop()
	l.arrived(t, strict, patient)
	s.end()
	if old, _ := filepath.Glob(path + ".suspect-*"); len(old) == 0 {
		t.Error("no copy was made")
	}
	repeats := s.mustHold("sqlite:"+path, l, strict, patient)
	t.Logf("%d messages taken, %d deliveries repeated and marked", l.total(), repeats)
}
