package retention_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/retention"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// Every commit of a disposal fails once, and once its answer is lost. Whatever was reached, the next start finishes it, and
// there is one certificate that counts all of it.
func TestADisposalIsFinishedWhereverItStops(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		for _, kept := range []bool{false, true} {
			t.Run(fmt.Sprintf("kept=%v", kept), func(t *testing.T) {
				begunAtLeastOnce := false
				step := int64(1)
				if testing.Short() {
					step = 3
				}
				for at := int64(1); ; at += step {
					place := address
					if at > 1 || kept {
						place = another(t, address)
					}
					failed, begun := crashAt(t, place, at, kept)
					begunAtLeastOnce = begunAtLeastOnce || begun
					if !failed {
						if at < 8 {
							t.Errorf("a disposal had %d commits, which is too few to be one", at-1)
						}
						break
					}
				}
				if !begunAtLeastOnce {
					t.Error("no crash came between the keys and the certificate")
				}
			})
		}
	})
}

func another(t *testing.T, address string) string {
	if strings.HasPrefix(address, "sqlite:") {
		return dbtest.SQLite(t)
	}
	return dbtest.PostgreSQL(t)
}

// crashAt fails commit number at of a run. failed: the run came so far. keyless: the keys were gone and the certificate not there.
func crashAt(t *testing.T, address string, at int64, kept bool) (failed, keyless bool) {
	t.Helper()
	h := build(t, address, newClock("2026-01-10"), ninety())
	defer h.stop()
	ids := h.fill("adt", "2026-01-10", 3)
	h.fill("lab", "2026-02-10", 2)
	h.clock.set("2026-05-15")
	var n atomic.Int64
	broken := errors.New("broken by the test")
	stage := db.BeforeCommit
	if kept {
		stage = db.AfterCommit
	}
	fault := func(s db.Stage) error {
		if s == stage && n.Add(1) == at {
			return broken
		}
		return nil
	}
	h.fault.Store(&fault)
	h.run()
	h.fault.Store(nil)
	failed = n.Load() >= at
	if _, err := h.ring.Seek(context.Background(), h.engine.OrganisationNumber(), seal.FieldPatientIdentifier, seal.PeriodOf(date("2026-01-10")), []byte("P1")); errors.Is(err, seal.ErrKeyMissing) {
		keyless = h.count(`SELECT count(*) FROM disposal WHERE state = 3`) == 0
		for _, id := range ids { // in between nothing is legible, and nothing breaks
			if err := h.show(id); !errors.Is(err, engine.ErrNotFound) && !errors.Is(err, seal.ErrKeyMissing) {
				t.Errorf("commit %d: show in the middle of it: %v", at, err)
			}
			if _, err := h.engine.Resend(context.Background(), engine.Actor{}, id, nil); !errors.Is(err, engine.ErrNotFound) {
				t.Errorf("commit %d: resend in the middle of it: %v", at, err)
			}
		}
	}
	h.restart()
	if p := h.run(); p.Error != "" {
		t.Fatalf("commit %d: the run after it: %s", at, p.Error)
	}
	if n := h.count(`SELECT count(*) FROM content`); n != 2 {
		t.Errorf("commit %d: %d contents are left, want February's 2", at, n)
	}
	list, err := h.keeper.Certificates(context.Background())
	if err != nil || len(list) != 1 || list[0].Messages != 3 || len(list[0].Keys) != 2 {
		t.Errorf("commit %d: certificates %+v, %v", at, list, err)
	}
	if n := h.count(`SELECT count(*) FROM audit_log WHERE event_type = 'disposal-begun'`); n != 1 {
		t.Errorf("commit %d: it was begun %d times", at, n)
	}
	h.verify()
	return failed, keyless
}

// A run that is stopped between batches goes on behind them, also where only a channel's part goes.
func TestARunGoesOnBehindItsBatches(t *testing.T) {
	part := ninety()
	part.Channels = []retention.Channel{{Name: "lab", Content: retention.Span{}, Rejected: days(90)}}
	for name, policy := range map[string]retention.Policy{"a month": ninety(), "a channel's part": part} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, address string) {
				h := build(t, address, newClock("2026-01-10"), policy)
				const all = 450
				for i := range all {
					h.knock("adt", fmt.Sprintf("C%d", i), "P1", "ADT^A01")
				}
				h.fill("lab", "2026-01-11", 1)
				h.clock.set("2026-06-01")
				pauses := 0
				h.sleep = func(context.Context, time.Duration) error {
					if pauses++; pauses == 1 {
						return context.Canceled
					}
					return nil
				}
				h.run()
				left := h.count(`SELECT count(*) FROM content`)
				if left == 0 || left > all {
					t.Fatalf("%d contents are left in the middle of it", left)
				}
				h.restart()
				if p := h.run(); p.Error != "" {
					t.Fatal(p.Error)
				}
				list, err := h.keeper.Certificates(context.Background())
				sum := int64(0)
				for _, c := range list {
					sum += c.Messages
				}
				want := int64(all)
				if name == "a month" {
					want++
				}
				if err != nil || sum != want {
					t.Errorf("%d certificates count %d messages, want %d: %v", len(list), sum, want, err)
				}
				h.verify()
			})
		})
	}
}

// An older copy of the database that takes the present one's place brings rows back whose keys are gone. They go again.
func TestARestoredCopyIsDisposedOfAgain(t *testing.T) {
	h := build(t, dbtest.SQLite(t), newClock("2026-01-10"), ninety())
	ids := h.fill("adt", "2026-01-10", 3)
	path := strings.TrimPrefix(h.address, "sqlite:")
	h.stop()
	older, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wal, _ := os.ReadFile(path + "-wal") // there may be none
	h.start()
	h.clock.set("2026-06-01")
	if p := h.run(); p.Error != "" || len(p.Certificates) != 1 {
		t.Fatalf("the first disposal: %+v", p)
	}
	h.stop()
	copied := t.TempDir() + "/older.db"
	for name, text := range map[string][]byte{copied: older, copied + "-wal": wal} {
		if len(text) > 0 {
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.address = "sqlite:" + copied
	h.start()
	if n := h.count(`SELECT count(*) FROM content`); n != 3 {
		t.Fatalf("the copy has %d contents", n)
	}
	for _, id := range ids {
		if err := h.show(id); !errors.Is(err, seal.ErrKeyMissing) && !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("content of the copy: %v", err)
		}
	}
	if m := h.plan()["2026-01"]; m.State != retention.Unfinished {
		t.Errorf("the plan for the copy is %q", m.State)
	}
	if err := h.keeper.Unfinished(context.Background()); err != nil { // what a start does by itself
		t.Fatal(err)
	}
	list, err := h.keeper.Certificates(context.Background())
	if err != nil || len(list) != 1 || list[0].Messages != 3 || !strings.Contains(list[0].Note, "destroyed before") || len(list[0].Keys) != 2 {
		t.Errorf("certificates in the copy: %+v, %v", list, err)
	}
	if n := h.count(`SELECT count(*) FROM content`); n != 0 {
		t.Errorf("%d contents are left in the copy", n)
	}
	h.verify()
}

// A key store from before a disposal that takes the present one's place brings keys back. They go again.
func TestARestoredKeyStoreIsShreddedAgain(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		h := build(t, address, newClock("2026-01-10"), ninety())
		h.fill("adt", "2026-01-10", 3)
		older := t.TempDir()
		if err := os.CopyFS(older, os.DirFS(h.dir)); err != nil {
			t.Fatal(err)
		}
		h.clock.set("2026-06-01")
		if p := h.run(); p.Error != "" {
			t.Fatal(p.Error)
		}
		h.stop()
		for _, dir := range []string{"/root", "/keys"} { // private again: a copy has other modes
			err := filepath.WalkDir(older+dir, func(path string, d os.DirEntry, err error) error {
				if err != nil {
					return err
				}
				if d.IsDir() {
					return os.Chmod(path, 0o700)
				}
				return os.Chmod(path, 0o600)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		h.dir = older
		h.start()
		january := seal.PeriodOf(date("2026-01-10"))
		seek := func() error {
			_, err := h.ring.Seek(context.Background(), h.engine.OrganisationNumber(), seal.FieldPatientIdentifier, january, []byte("P1"))
			return err
		}
		if err := seek(); err != nil {
			t.Fatalf("the older key store has no key of January: %v", err)
		}
		if p := h.run(); p.Error != "" || len(p.Certificates) != 1 {
			t.Errorf("the run: %+v", p)
		}
		if err := seek(); !errors.Is(err, seal.ErrKeyMissing) {
			t.Errorf("January's key after the run: %v", err)
		}
		list, err := h.keeper.Certificates(context.Background())
		if err != nil || len(list) != 2 || !strings.Contains(list[1].Note, "came back") || len(list[1].Keys) != 2 {
			t.Errorf("certificates: %+v, %v", list, err)
		}
	})
}

// What waits for delivery when a month's keys are destroyed by hand is set aside, and the queue goes on.
func TestKeysDestroyedByHand(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		h := build(t, address, newClock("2026-01-10"), retention.Policy{})
		h.ward.away = true
		id := h.send("adt", "C1", "P1", "ADT^A01")
		h.clock.set("2026-02-10")
		january := seal.PeriodOf(date("2026-01-10"))
		for _, p := range []seal.Purpose{seal.Message, seal.BlindIndex} {
			if _, err := h.ring.Shred(context.Background(), h.engine.OrganisationNumber(), p, january); err != nil {
				t.Fatal(err)
			}
		}
		h.restart() // the queue had its bytes in memory
		h.settled()
		if n := h.count(`SELECT count(*) FROM delivery WHERE state = 5`); n != 1 {
			t.Errorf("%d deliveries are set aside, want 1", n)
		}
		if p := h.run(); p.Error != "" {
			t.Fatal(p.Error)
		}
		if err := h.show(id); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("show: %v", err)
		}
		if n := h.count(`SELECT count(*) FROM content`); n != 0 {
			t.Errorf("%d contents are left", n)
		}
		h.verify()
	})
}
