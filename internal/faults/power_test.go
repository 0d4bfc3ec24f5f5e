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
	"testing"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/faults"
)

// A run is a recorded life of an engine: what it wrote, when it synced, and when which acknowledgement left.
type run struct {
	disk  *faults.Disk
	keys  string
	sizes int
}

// record lets an engine take n messages of a size, one after another, and stop in good order.
func record(t *testing.T, n, size int) *run {
	t.Helper()
	r := &run{disk: faults.NewDisk(t), keys: t.TempDir(), sizes: size}
	r.disk.Record()
	d := newDoor()
	s, err := openSite(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"), r.keys, channel(d, destination("lab", inbox{})), true,
		func(c *db.Config) { c.VFS = r.disk.Name() })
	if err != nil {
		t.Fatal(err)
	}
	h := <-d.handler
	for k := range n {
		answer, err := h.Accept(context.Background(), ward, []byte(adt(fmt.Sprintf("C%d", k), "P1", size)))
		if err != nil || !strings.Contains(string(answer), "\rMSA|AA|") {
			t.Fatalf("message %d: %q, %v", k, answer, err)
		}
		r.disk.Note(k)
	}
	s.stop()
	return r
}

// lose cuts the power at a moment, starts again on what is left, and says what of the acknowledged is missing. acked is how many
// acknowledgements had left.
func (r *run) lose(t *testing.T, at faults.Moment, acked int, u faults.Unsynced, lot *rand.Rand, ignore func(string) bool) error {
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
	return s.holds(acked)
}

// holds checks that the messages C0 to Cn-1 are there with their deliveries and entries, and that the audit log verifies.
func (s *site) holds(n int) error {
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
	for k := range n {
		m, there := byID[fmt.Sprintf("C%d", k)]
		switch {
		case !there:
			return fmt.Errorf("message %d was acknowledged and is lost", k)
		case len(m.Deliveries) != 1:
			return fmt.Errorf("message %d has %d deliveries", k, len(m.Deliveries))
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

// ackedAt is how many acknowledgements had left at a moment.
func ackedAt(at faults.Moment, acks []faults.Moment) int {
	n, _ := slices.BinarySearch(acks, at+1)
	return n
}

// TestPowerLoss cuts the power after each acknowledgement and at moments drawn by lot. Of what was not synced, the disk has kept
// nothing, all, or torn pieces.
func TestPowerLoss(t *testing.T) {
	r := record(t, 40, 0)
	acks, _ := r.disk.Noted()
	if len(acks) != 40 {
		t.Fatalf("%d acknowledgements were recorded", len(acks))
	}
	lot := rand.New(rand.NewPCG(1, 2))
	cuts := slices.Clone(acks)
	for range 40 {
		cuts = append(cuts, acks[0]+faults.Moment(lot.IntN(int(r.disk.End()-acks[0]))))
	}
	losses := 0
	for i, at := range cuts {
		if testing.Short() && i%4 != 0 { // the race detector makes each start slow
			continue
		}
		for _, u := range []faults.Unsynced{faults.Lost, faults.Torn, faults.Kept} {
			if i >= len(acks) && u == faults.Kept {
				continue
			}
			losses++
			if err := r.lose(t, at, ackedAt(at, acks), u, lot, nil); err != nil {
				t.Errorf("the power went at moment %d, unsynced writes were %s: %v", at, u, err)
			}
		}
	}
	t.Logf("the power went %d times", losses)
}

// TestPowerLossNoticesAMissingSync: the check above is worth something only if it finds what it looks for.
func TestPowerLossNoticesAMissingSync(t *testing.T) {
	r := record(t, 12, 0)
	acks, _ := r.disk.Noted()
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
				for i, at := range acks {
					err = errors.Join(err, r.lose(t, at, i+1, u, lot, c.ignore))
				}
				if err == nil {
					t.Errorf("nobody noticed, with unsynced writes %s", u)
				}
			}
		})
	}
}
