package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/faults"
)

// place is where something breaks.
type place string

const (
	atWrite  place = "write"  // of rows
	atFsync  place = "fsync"  // of the write-ahead log
	atCommit place = "commit" // as a whole
	atAnswer place = "answer" // after the commit, and the process is dead
	atSettle place = "settle" // the result of a delivery
)

// TestFaults breaks every place in two ways: it failed, and it failed but was kept. Senders repeat what was not taken, as real
// ones do. Then the process dies, another one goes on over the same database, and every promise is looked at.
func TestFaults(t *testing.T) {
	for _, at := range []place{atWrite, atFsync, atCommit, atAnswer, atSettle} {
		for _, kept := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,kept=%t", at, kept), func(t *testing.T) {
				dbtest.Each(t, func(t *testing.T, address string) {
					runFault(t, address, at, kept, 0)
					if strings.HasPrefix(address, "sqlite:") && (at == atWrite || at == atFsync) { // quick enough to break elsewhere too
						for later := 1; later <= 5; later++ {
							runFault(t, dbtest.SQLite(t), at, kept, later)
						}
					}
				})
			})
		}
	}
}

const (
	faultSenders = 4
	faultEach    = 24 // messages a sender
)

// runFault breaks a place once, after so many operations have gone well there.
func runFault(t *testing.T, address string, at place, kept bool, later int) {
	tr := newTrial(t, address)
	tr.open()
	switch at {
	case atSettle:
		// Everything is taken while the receivers hold still; then only results are written.
		tr.hold()
		tr.sendAll(faultSenders * faultEach)
		tr.arm(at, kept, later)
		tr.letGo()
	default:
		tr.sendAll(faultSenders * faultEach / 3)
		tr.arm(at, kept, later)
		tr.sendAll(faultSenders * faultEach * 2 / 3) // or until the process ends
	}
	tr.mustBreak()
	if at == atFsync && tr.disk != nil {
		tr.mustHaveStopped()
	}
	tr.crash()
	tr.open()
	if at == atFsync && tr.disk != nil {
		tr.mustHaveCopied()
	}
	tr.sendAll(faultSenders * faultEach)
	tr.mustHold()
}

// trial is an engine over a database that breaks, its senders and its receivers.
type trial struct {
	t       *testing.T
	address string // of the database, through what breaks
	server  string // of the same database, past it
	keys    string
	disk    *faults.Disk // SQLite
	wire    *faults.Wire // PostgreSQL

	house           *house
	door            *door
	strict, patient *ward
	still           chan struct{} // receivers wait for it; nil: they do not
	stopped         atomic.Bool   // a failed fsync was reported
	dead            atomic.Bool   // the process can reach its database no more
	hook            atomic.Pointer[func(db.Stage) error]
	broke           atomic.Int64 // by hook

	mu    sync.Mutex
	next  [faultSenders]int // what each sender sends next: everything before was answered AA
	acked int
}

func newTrial(t *testing.T, address string) *trial {
	tr := &trial{t: t, address: address, server: address, keys: t.TempDir(), strict: newWard(), patient: newWard()}
	if strings.HasPrefix(address, "sqlite:") {
		tr.disk = faults.NewDisk(t)
	} else {
		tr.wire = faults.NewWire(t, address)
		tr.address = tr.wire.URL()
	}
	return tr
}

// open starts a process.
func (tr *trial) open() {
	if tr.disk != nil {
		tr.disk.Revive()
	} else {
		tr.wire.Revive()
	}
	tr.stopped.Store(false)
	tr.dead.Store(false)
	tr.hook.Store(nil)
	tr.door = newDoor()
	channels := channel(tr.door, func(c *engine.Channel) { c.Admit.Duplicates = time.Hour },
		destination("strict", tr.strict),
		destination("patient", tr.patient, func(d *engine.Destination) { d.Order = engine.OrderPatient }))
	tr.house = start(tr.t, tr.address, tr.keys, channels, func(c *db.Config) {
		if tr.disk != nil {
			c.VFS = tr.disk.Name()
		}
		c.Stopped = func(error) { tr.stopped.Store(true) }
		c.Fault = func(s db.Stage) error {
			if fn := tr.hook.Load(); fn != nil {
				return (*fn)(s)
			}
			return nil
		}
	})
}

// kill ends the process for the database: nothing of what it still tries arrives there.
func (tr *trial) kill() {
	tr.dead.Store(true)
	if tr.disk != nil {
		tr.disk.Kill()
	} else {
		tr.wire.Kill()
	}
}

func (tr *trial) crash() {
	tr.t.Helper()
	tr.kill()
	tr.house.stop()
	if tr.wire != nil {
		passLeases(tr.t, tr.server)
	}
}

// passLeases stands for the minute that a successor waits out on PostgreSQL: the dead process may still be about to send.
func passLeases(t *testing.T, address string) {
	t.Helper()
	d, err := db.Open(context.Background(), dbtest.Config(t, address))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	err = d.Commit(context.Background(), 0, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE queue SET lease_until = 0`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// arm prepares the fault. It happens once.
func (tr *trial) arm(at place, kept bool, later int) {
	once := func(stage db.Stage, do func()) {
		var done atomic.Bool
		fn := func(s db.Stage) error {
			if s != stage || !done.CompareAndSwap(false, true) {
				return nil
			}
			do()
			tr.broke.Add(1)
			return errors.New("broken by the test")
		}
		tr.hook.Store(&fn)
	}
	stage := db.BeforeCommit
	if kept {
		stage = db.AfterCommit
	}
	switch {
	case at == atCommit || at == atSettle && tr.disk != nil:
		once(stage, func() {})
	case at == atAnswer && tr.disk != nil:
		once(stage, tr.kill)
	case at == atWrite && tr.disk != nil:
		tr.disk.Break(faults.Break{Op: faults.Write, File: "-wal", After: later, Times: 1, Kept: kept})
	case at == atFsync && tr.disk != nil:
		tr.disk.Break(faults.Break{Op: faults.Sync, File: "-wal", After: later, Times: 1, Kept: kept})
	case at == atWrite:
		tr.wire.Cut(faults.Cut{SQL: "INSERT INTO message", Times: 1, Kept: kept})
	case at == atFsync:
		tr.wire.Cut(faults.Cut{SQL: "COMMIT", Times: 1, Kept: kept, Panic: true})
	default:
		tr.wire.Cut(faults.Cut{SQL: "COMMIT", Times: 1, Kept: kept})
	}
}

// mustBreak waits until the fault has happened: a test whose fault never came proves nothing.
func (tr *trial) mustBreak() {
	tr.t.Helper()
	for range 1000 {
		n := int(tr.broke.Load())
		if tr.disk != nil {
			n += tr.disk.Broke()
		} else {
			n += tr.wire.Cuts()
		}
		if n > 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	tr.t.Fatal("the fault did not happen")
}

// hold makes the receivers wait with their answers.
func (tr *trial) hold() {
	still := make(chan struct{})
	tr.still = still
	wait := func(int, []byte) (engine.Reply, error) {
		<-still
		return engine.Reply{Taken: true, Code: "AA"}, nil
	}
	for _, w := range []*ward{tr.strict, tr.patient} {
		w.mu.Lock()
		w.do = wait
		w.mu.Unlock()
	}
}

func (tr *trial) letGo() { close(tr.still) }

// sendAll lets the senders work until so many messages in all are acknowledged, or the door is gone.
func (tr *trial) sendAll(until int) {
	tr.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if tr.stopped.Load() || tr.dead.Load() {
		return
	}
	var wg sync.WaitGroup
	for s := range faultSenders {
		wg.Go(func() {
			for ctx.Err() == nil {
				tr.mu.Lock()
				i, enough := tr.next[s], tr.acked >= until
				tr.mu.Unlock()
				if enough || i == faultEach {
					return
				}
				late := tr.stopped.Load()
				answer, err := tr.door.knock(ctx, adt(fmt.Sprintf("S%d-%d", s, i), fmt.Sprintf("P%d", s)))
				if err != nil || !strings.Contains(answer, "\rMSA|AA|") {
					if tr.stopped.Load() || tr.dead.Load() {
						return
					}
					time.Sleep(2 * time.Millisecond)
					continue // the same again, as a real sender does
				}
				if late {
					tr.t.Error("a message was acknowledged after a failed fsync")
				}
				tr.mu.Lock()
				tr.next[s]++
				tr.acked++
				tr.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// knock is send that gives up with ctx, for a door may have closed for good.
func (d *door) knock(ctx context.Context, block string) (answer string, err error) {
	d.mu.Lock()
	open := d.open
	d.mu.Unlock()
	select {
	case <-open:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	a, err := d.handler.Accept(ctx, peer, []byte(block))
	return string(a), err
}

func (tr *trial) mustHaveStopped() {
	tr.t.Helper()
	if !tr.stopped.Load() {
		tr.t.Error("a failed fsync was not reported")
	}
	if err := tr.house.db.Err(); err == nil {
		tr.t.Error("the database still takes writes after a failed fsync")
	}
}

func (tr *trial) mustHaveCopied() {
	tr.t.Helper()
	path := strings.TrimPrefix(tr.address, "sqlite:")
	old, _ := filepath.Glob(path + ".suspect-*")
	if len(old) == 0 {
		tr.t.Error("the files of the failed fsync are still in use: no copy was made")
	}
	if _, err := os.Stat(path + ".fsync-failed"); !errors.Is(err, os.ErrNotExist) {
		tr.t.Error("the note of the failed fsync is still there after the copy")
	}
}

// mustHold waits until everything has arrived and checks all that is promised.
func (tr *trial) mustHold() {
	t := tr.t
	t.Helper()
	if tr.acked != faultSenders*faultEach {
		t.Fatalf("%d messages were taken in the end, of %d", tr.acked, faultSenders*faultEach)
	}
	tr.house.settled(t)
	tr.house.verify()
	mustHold(t, tr.house, map[string][]string{"strict": tr.strict.got(), "patient": tr.patient.got()}, func(yield func(string) bool) {
		for s := range faultSenders {
			for i := range faultEach {
				if !yield(fmt.Sprintf("S%d-%d", s, i)) {
					return
				}
			}
		}
	})
}

// mustHold checks the database and the ledgers of the receivers against what was sent and acknowledged. Control IDs have the
// form S1-2: sender 1, its message 2. ledgers are by destination; "strict" keeps the order of all, others that of each sender.
func mustHold(t *testing.T, h *house, ledgers map[string][]string, acked func(func(string) bool)) {
	t.Helper()
	byID := map[string]engine.Summary{}
	q := engine.Query{Limit: 1000}
	for {
		page, err := h.engine.List(context.Background(), engine.Actor{}, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Messages {
			if _, twice := byID[m.ControlID]; twice {
				t.Errorf("message %s is stored twice", m.ControlID)
			}
			byID[m.ControlID] = m
		}
		if q.Before = page.Next; q.Before == 0 {
			break
		}
	}
	last := map[int]int64{} // sender -> number of its message before
	for id := range acked {
		m, there := byID[id]
		if !there {
			t.Errorf("message %s was acknowledged and is not there", id)
			continue
		}
		var s, i int
		fmt.Sscanf(id, "S%d-%d", &s, &i)
		if m.Number <= last[s] {
			t.Errorf("message %s has number %d, an earlier one of its sender %d", id, m.Number, last[s])
		}
		last[s] = m.Number
		if len(m.Deliveries) != len(ledgers) {
			t.Errorf("message %s has %d deliveries, want %d", id, len(m.Deliveries), len(ledgers))
		}
		for _, d := range m.Deliveries {
			if d.State != "sent" {
				t.Errorf("message %s is %s at %s", id, d.State, d.Destination)
			}
		}
	}
	for name, ledger := range ledgers {
		mustBeMarked(t, name, ledger, byID)
	}
	mustBeWithoutGaps(t, h, len(byID))
	mustBeOnRecord(t, h, byID)
}

// mustBeMarked checks one receiver's ledger: everything there, in order, and what came twice is marked.
func mustBeMarked(t *testing.T, name string, ledger []string, byID map[string]engine.Summary) {
	t.Helper()
	times := map[string]int{}
	last := map[int]int64{} // the highest number that came, of each sender, or of all under 0
	for _, block := range ledger {
		m, err := hl7.Parse([]byte(block))
		if err != nil {
			t.Fatal(err)
		}
		id := m.ControlID()
		known, there := byID[id]
		if !there {
			t.Errorf("%s got message %s, which is not stored", name, id)
			continue
		}
		if times[id]++; times[id] > 1 {
			continue
		}
		line := 0
		if name != "strict" {
			fmt.Sscanf(id, "S%d-", &line)
		}
		if known.Number < last[line] {
			t.Errorf("%s got message %s after a later one", name, id)
		}
		last[line] = known.Number
	}
	for id, m := range byID {
		marked := false
		for _, d := range m.Deliveries {
			if d.Destination == name && strings.Contains(strings.Join(d.Notes, " "), "possible duplicate") {
				marked = true
			}
		}
		switch {
		case times[id] == 0:
			t.Errorf("%s never got message %s", name, id)
		case times[id] > 1 && !marked:
			t.Errorf("%s got message %s %d times, and the delivery is not marked", name, id, times[id])
		}
	}
}

func mustBeWithoutGaps(t *testing.T, h *house, count int) {
	t.Helper()
	err := h.db.Read(context.Background(), func(tx *db.Tx) error {
		var n, lowest, highest int64
		if err := tx.QueryRow(`SELECT count(*), min(number), max(number) FROM message`, nil, &n, &lowest, &highest); err != nil {
			return err
		}
		if int(n) != count || highest-lowest+1 != n {
			t.Errorf("%d messages have the numbers %d to %d, and %d are listed", n, lowest, highest, count)
		}
		line, err := tx.Line()
		if err == nil && line.Next != highest+1 {
			t.Errorf("the next number is %d after %d", line.Next, highest)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// mustBeOnRecord checks that each message was put on record once as accepted, and once a destination as sent.
func mustBeOnRecord(t *testing.T, h *house, byID map[string]engine.Summary) {
	t.Helper()
	for id, m := range byID {
		trace, err := h.engine.Trace(context.Background(), engine.Actor{}, m.ID)
		if err != nil {
			t.Fatal(err)
		}
		n := map[string]int{}
		for _, e := range trace.Entries {
			n[e.Event]++
		}
		if n["message-accepted"] != 1 || n["delivery-sent"] != len(m.Deliveries) {
			t.Errorf("message %s is on record %d times as accepted and %d times as sent", id, n["message-accepted"], n["delivery-sent"])
		}
	}
}
