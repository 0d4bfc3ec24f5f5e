//go:build faults

package faults_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/hl7/mllp"
	"github.com/lazaret-health/lazaret/internal/faults"
)

// build makes the program from this very tree.
func build(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "lazaret")
	cmd := exec.Command("go", "build", "-o", out, "github.com/lazaret-health/lazaret/cmd/lazaret")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	return out
}

// service is "lazaret serve", a process that can be killed and started again.
type service struct {
	t       *testing.T
	program string
	dir     string
	address string   // of its source
	under   []string // a tracer and its arguments

	settings func(revision int) string
	cmd      *exec.Cmd
	log      bytes.Buffer // of all processes
}

// siteFile is a configuration with two destinations, of which one gets each message with the number of the revision in it.
const siteFile = `organisation: st-mary
database: %q
keys: {root: "file:keys/root/key", store: keys/data}
channels:
  - name: adt
    source: {mllp: {listen: %q}}
    destinations:
      - name: strict
        mllp: {address: %q}
        retry: {first: 20ms, max: 200ms}
      - name: patient
        mllp: {address: %q}
        order: patient
        window: 16
        retry: {first: 20ms, max: 200ms}
        steps:
          - set: {MSH-5: "R%d"}
`

// configure writes the configuration that the next start reads.
func (s *service) configure(revision int) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "site.yaml"), []byte(s.settings(revision)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// newService writes the configuration of a channel with two destinations.
func newService(t *testing.T, program, database, strict, patient string) *service {
	t.Helper()
	s := &service{t: t, program: program, dir: t.TempDir(), address: freeAddress(t)}
	s.settings = func(revision int) string {
		return fmt.Sprintf(siteFile, database, s.address, strict, patient, revision)
	}
	s.configure(0)
	t.Cleanup(func() {
		if s.cmd != nil {
			syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // the tracer's group: it and the service
			s.cmd.Wait()
		}
		if t.Failed() {
			lines := strings.Split(s.log.String(), "\n")
			t.Logf("the service's last words:\n%s", strings.Join(lines[max(0, len(lines)-30):], "\n"))
		}
	})
	return s
}

// freeAddress is an address of this machine at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func (s *service) start() {
	s.t.Helper()
	args := append(append([]string(nil), s.under...), s.program, "serve", "--config", "site.yaml")
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Dir = s.dir
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.cmd.Stderr = &s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// kill ends the process with SIGKILL.
func (s *service) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatalf("kill: %v", err)
	}
	s.cmd.Wait()
	if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		s.t.Fatalf("the service had ended before it was killed: %v", s.cmd.ProcessState)
	}
	s.cmd = nil
}

// end asks the process to stop and requires that it does so in good order.
func (s *service) end() {
	s.t.Helper()
	group := -s.cmd.Process.Pid
	if err := syscall.Kill(group, syscall.SIGTERM); err != nil {
		s.t.Fatalf("ask for a stop: %v", err)
	}
	late := time.AfterFunc(45*time.Second, func() { syscall.Kill(group, syscall.SIGQUIT) })
	err := s.cmd.Wait()
	late.Stop()
	s.cmd = nil
	if err != nil {
		s.t.Fatalf("asked to stop, the service ended with %v", err)
	}
}

// listen is a receiver behind a real socket. It is now and then slow, so that a window is under way when the service dies.
func listen(t *testing.T, seed uint64) (*faults.Receiver, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := faults.NewReceiver()
	var mu sync.Mutex
	lot := rand.New(rand.NewPCG(seed, 9))
	server := &mllp.Server{DrainTimeout: time.Millisecond, Handler: mllp.HandlerFunc(func(_ context.Context, _ *mllp.Peer, block []byte) ([]byte, error) {
		r.Take(block)
		mu.Lock()
		slow := lot.IntN(50) == 0
		mu.Unlock()
		if slow {
			time.Sleep(5 * time.Millisecond)
		}
		m, err := hl7.Parse(block)
		if err != nil {
			return nil, err
		}
		return hl7.NewAck(m, hl7.Ack{Code: hl7.AA, ControlID: "R" + m.ControlID()}), nil
	})}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return r, ln.Addr().String()
}

// load is several senders that send without pause and repeat what was not taken.
type load struct {
	acked  []atomic.Int64 // messages of each sender that were answered AA: all before this number
	again  atomic.Int64
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func startLoad(address string) *load { return startSenders(address, 6) }

func startSenders(address string, n int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel, acked: make([]atomic.Int64, n)}
	for s := range l.acked {
		l.wg.Go(func() {
			c := &mllp.Client{Addr: address, AnswerTimeout: 10 * time.Second, Backoff: mllp.Backoff{Min: 2 * time.Millisecond, Max: 20 * time.Millisecond}}
			defer c.Close()
			for ctx.Err() == nil {
				n := l.acked[s].Load()
				// The context does not end a Send: a message whose answer nobody heard would be neither taken nor not.
				answer, err := c.Send(context.WithoutCancel(ctx), []byte(adt(fmt.Sprintf("S%d-%d", s, n), fmt.Sprintf("P%d", s), 0)))
				var ack hl7.AckResult
				if err == nil {
					ack, err = hl7.ParseAck(answer)
				}
				if err == nil && ack.Code == hl7.AA {
					l.acked[s].Add(1)
					continue
				}
				l.again.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	return l
}

func (l *load) total() (n int) {
	for s := range l.acked {
		n += int(l.acked[s].Load())
	}
	return n
}

// wait waits for n more messages to be taken.
func (l *load) wait(t *testing.T, n int) {
	t.Helper()
	want := l.total() + n
	for range 30000 {
		if l.total() >= want {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("in half a minute %d messages were taken, %d were expected", n-(want-l.total()), n)
}

// stop lets every sender hear its last answer.
func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

// mustHold opens the database after the last process and compares it with the ledgers.
func (s *service) mustHold(database string, l *load, strict, patient *faults.Receiver) (repeats int) {
	t := s.t
	t.Helper()
	site, err := openSite(t, database, filepath.Join(s.dir, "keys"),
		channel(newDoor(), destination("strict", inbox{}), destination("patient", inbox{})), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer site.stop()
	byID, err := site.messages()
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.acked {
		for n := range l.acked[i].Load() {
			id := fmt.Sprintf("S%d-%d", i, n)
			m, there := byID[id]
			if !there {
				t.Errorf("message %s was acknowledged and is lost", id)
				continue
			}
			for _, d := range m.Deliveries {
				if d.State != "sent" {
					t.Errorf("message %s is %s at %s", id, d.State, d.Destination)
				}
			}
			if len(m.Deliveries) != 2 {
				t.Errorf("message %s has %d deliveries", id, len(m.Deliveries))
			}
		}
	}
	strict.MustBeOnceInOrder(t, site.marked(t, "strict"))
	stored := site.marked(t, "patient")
	for i := range l.acked {
		mine := func(id string) bool { return strings.HasPrefix(id, fmt.Sprintf("S%d-", i)) }
		var of []faults.Stored
		for _, x := range stored {
			if mine(x.ControlID) {
				of = append(of, x)
			}
		}
		patient.Only(mine).MustBeOnceInOrder(t, of)
	}
	if err := site.recompute(); err != nil {
		t.Errorf("the audit log does not verify: %v", err)
	}
	return strict.Repeats() + patient.Repeats()
}

// arrived waits until both receivers have everything that was taken.
func (l *load) arrived(t *testing.T, receivers ...*faults.Receiver) {
	t.Helper()
	for _, r := range receivers {
		r.Wait(t, l.total())
	}
}
