package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/faults"
)

// A run is a recorded life of an engine: what it wrote, when it synced, when which acknowledgement left, and when the first byte
// of which delivery did.
type run struct {
	disk  *faults.Disk
	keys  string
	notes []int           // k: message k was acknowledged; -1-k: it is being delivered
	noted []faults.Moment // when
	acks  []faults.Moment // those of the acknowledgements
}

// record lets an engine take n messages of a size from each of several senders, and stop in good order.
func record(t *testing.T, senders, n, size int) *run {
	t.Helper()
	r := &run{disk: faults.NewDisk(t), keys: t.TempDir()}
	r.disk.Record()
	d := newDoor()
	s, err := openSite(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"), r.keys, channel(d, destination("lab", noting{r.disk})), true,
		func(c *db.Config) { c.VFS = r.disk.Name() })
	if err != nil {
		t.Fatal(err)
	}
	h := <-d.handler
	var wg sync.WaitGroup
	for sender := range senders {
		wg.Go(func() {
			for k := sender * n; k < (sender+1)*n; k++ {
				answer, err := h.Accept(context.Background(), ward, []byte(adt(fmt.Sprintf("C%d", k), "P1", size)))
				if err != nil || !strings.Contains(string(answer), "\rMSA|AA|") {
					t.Errorf("message %d: %q, %v", k, answer, err)
				}
				r.disk.Note(k)
			}
		})
	}
	wg.Wait()
	s.stop()
	r.noted, r.notes = r.disk.Noted()
	for i, at := range r.noted {
		if r.notes[i] >= 0 {
			r.acks = append(r.acks, at)
		}
	}
	if len(r.acks) != senders*n {
		t.Fatalf("%d acknowledgements were recorded", len(r.acks))
	}
	return r
}

// noting is a receiver that takes everything, and notes when.
type noting struct{ disk *faults.Disk }

func (r noting) Send(ctx context.Context, block []byte) (engine.Reply, error) {
	m, err := hl7.Parse(block)
	if err != nil {
		return engine.Reply{}, err
	}
	var k int
	fmt.Sscanf(m.ControlID(), "C%d", &k)
	r.disk.Note(-1 - k)
	return inbox{}.Send(ctx, block)
}
func (noting) Close() error { return nil }

// lose cuts the power at a moment, starts again on what is left, and says what of the acknowledged is missing.
func (r *run) lose(t *testing.T, at faults.Moment, u faults.Unsynced, lot *rand.Rand, ignore func(string) bool) error {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "after")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, b := range r.disk.After(at, u, lot, ignore) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := openSite(t, "sqlite:"+filepath.Join(dir, "l.db"), r.keys, channel(newDoor(), destination("lab", inbox{})), false,
		func(c *db.Config) { c.Readers = 1 })
	if err != nil {
		return fmt.Errorf("it does not start: %w", err)
	}
	defer s.stop()
	upto, _ := slices.BinarySearch(r.noted, at+1)
	return s.holds(r.notes[:upto])
}

// holds checks that what was acknowledged is there with its delivery and its entries, that what was being delivered is marked as
// started, and that the audit log verifies. Messages have control IDs C0, C1, and so on.
func (s *site) holds(notes []int) error {
	byID, err := s.messages()
	if err != nil {
		return err
	}
	entries, err := s.recorded(audit.MessageAccepted)
	if err != nil {
		return err
	}
	sent, err := s.recorded(audit.DeliverySent)
	if err != nil {
		return err
	}
	for _, k := range notes {
		under := k < 0
		if under {
			k = -1 - k
		}
		m, there := byID[fmt.Sprintf("C%d", k)]
		switch {
		case !there:
			return fmt.Errorf("message %d was acknowledged or delivered and is lost", k)
		case len(m.Deliveries) != 1:
			return fmt.Errorf("message %d has %d deliveries", k, len(m.Deliveries))
		case under && m.Deliveries[0].State == "pending":
			return fmt.Errorf("message %d was being delivered, and nothing says so", k)
		}
	}
	for id, m := range byID {
		if entries[m.ID.String()] != 1 {
			return fmt.Errorf("message %s is on record as accepted %d times", id, entries[m.ID.String()])
		}
		if done := m.Deliveries[0].State == "sent"; done != (sent[m.ID.String()] == 1) {
			return fmt.Errorf("message %s is %s, and on record as sent %d times", id, m.Deliveries[0].State, sent[m.ID.String()])
		}
	}
	return s.recompute()
}

// TestPowerLoss cuts the power after each acknowledgement, after the first byte of each delivery, and at moments drawn by lot. Of
// what was not synced, the disk has kept nothing, all, or torn pieces.
func TestPowerLoss(t *testing.T) {
	for _, senders := range []int{1, 5} {
		t.Run(fmt.Sprintf("senders=%d", senders), func(t *testing.T) {
			r := record(t, senders, 30/senders, 0)
			lot := rand.New(rand.NewPCG(1, 2))
			cuts := slices.Clone(r.noted)
			for range 30 {
				cuts = append(cuts, r.acks[0]+faults.Moment(lot.IntN(int(r.disk.End()-r.acks[0]))))
			}
			losses := 0
			for i, at := range cuts {
				if testing.Short() && i%4 != 0 { // the race detector makes each start slow
					continue
				}
				for _, u := range []faults.Unsynced{faults.Lost, faults.Torn, faults.Kept} {
					if u == faults.Kept && i%4 != 0 {
						continue
					}
					losses++
					if err := r.lose(t, at, u, lot, nil); err != nil {
						t.Errorf("the power went at moment %d, unsynced writes were %s: %v", at, u, err)
					}
				}
			}
			t.Logf("the power went %d times", losses)
		})
	}
}

// TestPowerLossNoticesAMissingSync: the check above is worth something only if it finds what it looks for.
func TestPowerLossNoticesAMissingSync(t *testing.T) {
	r := record(t, 1, 12, 0)
	for _, c := range []struct {
		name   string
		ignore func(file string) bool
	}{
		{"no sync counts", func(string) bool { return true }},
		{"no sync of the write-ahead log counts", func(file string) bool { return strings.HasSuffix(file, "-wal") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			lot := rand.New(rand.NewPCG(3, 4))
			for _, u := range []faults.Unsynced{faults.Lost, faults.Torn} {
				var err error
				for _, at := range r.acks {
					err = errors.Join(err, r.lose(t, at, u, lot, c.ignore))
				}
				if err == nil {
					t.Errorf("nobody noticed, with unsynced writes %s", u)
				}
			}
		})
	}
}
