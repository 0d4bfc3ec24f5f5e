package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// onReplicas runs a test on PostgreSQL alone: an SQLite file belongs to one process.
func onReplicas(t *testing.T, test func(t *testing.T, address, keys string)) {
	if os.Getenv(dbtest.Variable) == "" {
		t.Log("no PostgreSQL: replicas are tested where there is one (make postgres)")
		return
	}
	test(t, dbtest.PostgreSQL(t), t.TempDir())
}

// expire ends the lease of every queue, as time would.
func (h *house) expire() {
	h.t.Helper()
	err := h.db.Commit(context.Background(), 0, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE queue SET lease_until = 0`)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// TestReplicasKeepTheOrder: two replicas accept at once, one delivers, and hands over when it stops in the middle of it. Nothing
// comes twice, nothing is lost, and every sender's messages come in its order.
func TestReplicasKeepTheOrder(t *testing.T) {
	for _, order := range []engine.Order{engine.OrderStrict, engine.OrderPatient} {
		t.Run(string(order), func(t *testing.T) {
			onReplicas(t, func(t *testing.T, address, keys string) {
				one, two, w := newDoor(), newDoor(), newWard()
				var slow atomic.Bool
				slow.Store(true)
				w.do = func(int, []byte) (engine.Reply, error) {
					if slow.Load() {
						time.Sleep(time.Millisecond)
					}
					return engine.Reply{Taken: true, Code: "AA"}, nil
				}
				to := func() engine.Destination { return destination("lab", w, ordered(order, 16, engine.Retry)) }
				a := start(t, address, keys, channel(one, nil, to()))
				b := start(t, address, keys, channel(two, nil, to()))
				const senders, n = 6, 50
				var wg sync.WaitGroup
				for s := range senders {
					wg.Go(func() {
						for i := range n {
							d := one
							if i%2 == s%2 {
								d = two
							}
							answer, err := d.send(adt(fmt.Sprintf("S%d-%d", s, i), fmt.Sprintf("P%d", s)))
							if err != nil || !strings.Contains(answer, "MSA|AA|") {
								t.Errorf("answered %q, %v", answer, err)
							}
						}
					})
				}
				wg.Wait()
				first, second := a, b
				if a.state("adt", "lab").State == "another replica delivers" {
					first, second = b, a
				}
				if s := second.state("adt", "lab"); s.Waiting == 0 || s.State != "another replica delivers" {
					t.Fatalf("the second replica is not waiting: %+v", s)
				}
				if got := len(w.got()); got >= senders*n {
					t.Fatal("everything was delivered before the hand-over")
				}
				began := time.Now()
				first.stop()
				slow.Store(false)
				ledger := w.wait(t, senders*n)
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("the hand-over took %v, want no longer than a look a second", took)
				}
				second.settled(t)
				mustBeInOrder(t, string(order), ledger, senders, n)
				for _, m := range second.list(engine.Query{Limit: 1000}) {
					if notes := m.Deliveries[0].Notes; len(notes) > 0 {
						t.Errorf("%s: %q", m.ControlID, notes)
					}
				}
				second.verify()
			})
		})
	}
}

// TestWhoLostTheLeaseChangesNothing: a holder that was away for longer than its lease finds the queue another's. What it still
// wants to write touches nothing, its open attempt is made again by the successor, and is marked.
func TestWhoLostTheLeaseChangesNothing(t *testing.T) {
	onReplicas(t, func(t *testing.T, address, keys string) {
		one, two := newDoor(), newDoor()
		asleep, awake := newWard(), newWard()
		sending, answer := make(chan struct{}), make(chan struct{})
		asleep.do = func(n int, _ []byte) (engine.Reply, error) {
			if n == 2 {
				close(sending)
				<-answer
			}
			return engine.Reply{Taken: true, Code: "AA"}, nil
		}
		taking, goOn := make(chan struct{}), make(chan struct{})
		awake.do = func(n int, _ []byte) (engine.Reply, error) {
			if n == 1 {
				close(taking)
				<-goOn
			}
			return engine.Reply{Taken: true, Code: "AA"}, nil
		}
		a := start(t, address, keys, channel(one, nil, destination("lab", asleep)))
		one.mustSend(t, adt("C1", "P1"))
		asleep.wait(t, 1)
		a.settled(t)
		one.mustSend(t, adt("C2", "P1"))
		<-sending
		b := start(t, address, keys, channel(two, nil, destination("lab", awake)))
		two.mustSend(t, adt("C3", "P1"))
		b.expire()
		<-taking
		close(answer)
		eventually(t, "the first one knows", func() bool { return a.state("adt", "lab").State == "another replica delivers" })
		if got := b.find("C2").Deliveries[0]; got.State != "started" || got.Attempts != 0 {
			t.Errorf("whoever lost the lease settled %+v", got)
		}
		close(goOn)
		if got := controls(t, awake.wait(t, 2)); got != "C2 C3" {
			t.Errorf("the successor sent %s", got)
		}
		b.settled(t)
		sent := map[string]int{}
		for _, r := range a.recorded(audit.DeliverySent) {
			sent[r.ResourceID]++
		}
		for _, control := range []string{"C1", "C2", "C3"} {
			m := a.find(control)
			if got := m.Deliveries[0]; got.State != "sent" || got.Attempts != 1 || (len(got.Notes) > 0) != (control == "C2") {
				t.Errorf("%s ended as %+v", control, got)
			}
			if sent[m.ID.String()] != 1 {
				t.Errorf("%s was put on record %d times, want 1", control, sent[m.ID.String()])
			}
		}
		// And back: the successor goes, the first one delivers again.
		b.stop()
		one.mustSend(t, adt("C4", "P1"))
		if got := controls(t, asleep.wait(t, 3)); got != "C1 C2 C4" {
			t.Errorf("the first one sent %s", got)
		}
		a.settled(t)
		a.verify()
	})
}

// TestALeaseThatNobodyTook: a process that was suspended longer than its lease, and finds that nobody else had the queue
// meanwhile, goes on with the results it has.
func TestALeaseThatNobodyTook(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		c, d, w := clockAt(time.Now()), newDoor(), newWard()
		w.do = func(n int, _ []byte) (engine.Reply, error) {
			if n%4 == 3 {
				c.advance(10 * time.Minute)
			}
			return engine.Reply{Taken: true, Code: "AA"}, nil
		}
		h := startWith(t, address, keys, channel(d, nil, destination("lab", w, func(d *engine.Destination) { d.Window = 16 })), c.everywhere)
		if err := h.engine.PauseDestination(context.Background(), clerk(), "adt", "lab"); err != nil {
			t.Fatal(err)
		}
		var want []string
		for i := range 20 {
			want = append(want, fmt.Sprintf("C%d", i))
			d.mustSend(t, adt(want[i], "P1"))
		}
		if err := h.engine.ResumeDestination(context.Background(), clerk(), "adt", "lab"); err != nil {
			t.Fatal(err)
		}
		w.wait(t, len(want))
		h.settled(t)
		if got := controls(t, w.got()); got != strings.Join(want, " ") {
			t.Errorf("came %s", got)
		}
		for _, m := range h.list(engine.Query{}) {
			if notes := m.Deliveries[0].Notes; len(notes) > 0 {
				t.Errorf("%s: %q", m.ControlID, notes)
			}
		}
	})
}

// TestSwitchesReachTheOtherReplica: a destination paused, and a channel stopped, through one replica stands on the other.
func TestSwitchesReachTheOtherReplica(t *testing.T) {
	onReplicas(t, func(t *testing.T, address, keys string) {
		ctx := context.Background()
		one, two, w := newDoor(), newDoor(), newWard()
		a := start(t, address, keys, channel(one, nil, destination("lab", w)))
		one.mustSend(t, adt("C1", "P1"))
		w.wait(t, 1)
		a.settled(t)
		b := start(t, address, keys, channel(two, nil, destination("lab", w)))
		if err := b.engine.PauseDestination(ctx, clerk(), "adt", "lab"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the holder stands", func() bool { return a.state("adt", "lab").State == "paused" })
		one.mustSend(t, adt("C2", "P1"))
		time.Sleep(50 * time.Millisecond)
		if got := controls(t, w.got()); got != "C1" {
			t.Errorf("paused elsewhere, and delivered %s", got)
		}
		if err := b.engine.ResumeDestination(ctx, clerk(), "adt", "lab"); err != nil {
			t.Fatal(err)
		}
		w.wait(t, 2)
		if err := b.engine.StopChannel(ctx, clerk(), "adt"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the other's door is shut", func() bool { return !one.isOpen() })
		if err := a.engine.StartChannel(ctx, clerk(), "adt"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "both doors are open", func() bool { return one.isOpen() && two.isOpen() })
		two.mustSend(t, adt("C3", "P1"))
		w.wait(t, 3)
		a.settled(t)
		if got := controls(t, w.got()); got != "C1 C2 C3" {
			t.Errorf("came %s", got)
		}
	})
}

// TestResultsOutliveAFailedCommit: where a commit keeps nothing, what was sent is not sent again, for the results are still there.
func TestResultsOutliveAFailedCommit(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		d, w := newDoor(), newWard()
		var broken atomic.Bool
		failed := make(chan struct{}, 100)
		w.do = func(n int, _ []byte) (engine.Reply, error) {
			if n == 2 {
				broken.Store(true)
			}
			return engine.Reply{Taken: true, Code: "AA"}, nil
		}
		h := start(t, address, keys, channel(d, nil, destination("lab", w)), func(c *db.Config) {
			c.Fault = func(at db.Stage) error {
				if at == db.BeforeCommit && broken.Load() {
					failed <- struct{}{}
					return errors.New("no room for now")
				}
				return nil
			}
		})
		d.mustSend(t, adt("C1", "P1"))
		w.wait(t, 1)
		h.settled(t)
		d.mustSend(t, adt("C2", "P1"))
		<-failed
		broken.Store(false)
		d.mustSend(t, adt("C3", "P1"))
		h.settled(t)
		if got := controls(t, w.got()); got != "C1 C2 C3" {
			t.Errorf("came %s", got)
		}
		for _, m := range h.list(engine.Query{}) {
			if notes := m.Deliveries[0].Notes; len(notes) > 0 {
				t.Errorf("%s: %q", m.ControlID, notes)
			}
		}
		h.verify()
	})
}
