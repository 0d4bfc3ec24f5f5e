package retention_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/retention"
)

// The brakes: each step is a day on which the schedule runs, and what is left of six contents of January.
func TestTheScheduleDoesNotDestroyByMistake(t *testing.T) {
	type step struct {
		day   string
		waits bool
		left  int64
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"a new policy waits a day", []step{{"2026-06-01", false, 6}, {"2026-06-01", false, 6}, {"2026-06-02", false, 0}}},
		{"a clock that jumped ahead waits for a person", []step{{"2026-02-01", false, 6}, {"2026-02-02", false, 6}, {"2036-02-03", true, 6}}},
		{"so does a service that stood still", []step{{"2026-04-01", false, 6}, {"2026-05-10", true, 6}, {"2026-05-11", true, 6}}},
		{"and a clock that went back", []step{{"2026-02-01", false, 6}, {"2026-02-03", false, 6}, {"2026-01-20", true, 6}}},
		{"day after day it goes when it is due", []step{{"2026-04-10", false, 6}, {"2026-05-01", false, 6}, {"2026-05-02", false, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, address string) {
				h := build(t, address, newClock("2026-01-10"), ninety())
				h.fill("adt", "2026-01-10", 6)
				for _, s := range c.steps {
					h.clock.set(s.day)
					err := h.keeper.Scheduled(context.Background())
					if s.waits != errors.Is(err, retention.ErrWaits) || !s.waits && err != nil {
						t.Fatalf("%s: %v, waits should be %v", s.day, err, s.waits)
					}
					if n := h.count(`SELECT count(*) FROM content`); n != s.left {
						t.Fatalf("%s: %d contents are left, want %d", s.day, n, s.left)
					}
				}
				if last := c.steps[len(c.steps)-1]; last.waits {
					if p := h.run(); p.Error != "" { // a person has looked
						t.Fatal(p.Error)
					}
					if err := h.keeper.Scheduled(context.Background()); err != nil {
						t.Errorf("after a person's run the schedule says %v", err)
					}
				}
			})
		})
	}
}

func TestOneRunAtATime(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		h := build(t, address, newClock("2026-01-10"), ninety())
		h.fill("adt", "2026-01-10", 3)
		h.clock.set("2026-06-01")
		if err := h.keeper.Start(who); err != nil {
			t.Fatal(err)
		}
		if err := h.keeper.Start(who); !errors.Is(err, retention.ErrConflict) {
			t.Errorf("a second start: %v", err)
		}
		h.run2()
	})
}

// run2 waits for what was asked for already.
func (h *house) run2() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.keeper.Run(ctx) }()
	h.wait(2)
	cancel()
	if err := <-ended; err != nil {
		h.t.Errorf("the keeper ended with %v", err)
	}
	if n := h.count(`SELECT count(*) FROM content`); n != 0 {
		h.t.Errorf("%d contents are left", n)
	}
}

// Of two replicas one disposes. When it dies, its lease runs out.
func TestOneReplicaDisposes(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		h := build(t, address, newClock("2026-01-10"), ninety())
		if h.db.Engine() != db.PostgreSQL {
			return // SQLite has one process
		}
		h.fill("adt", "2026-01-10", 3)
		h.clock.set("2026-06-01")
		lease := func(until time.Time) {
			t.Helper()
			err := h.db.Commit(context.Background(), 0, func(tx *db.Tx) error {
				_, err := tx.Exec(`INSERT INTO retention_state (organisation, policy, seen_at, checked_at, holder, lease_until) VALUES ($1, '', 0, 0, $2, $3)
					ON CONFLICT (organisation) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until`,
					int64(h.engine.OrganisationNumber()), db.ID{2}, until.UnixMicro())
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		lease(time.Now().Add(time.Minute)) // by the server's clock, which is the machine's
		if p := h.run(); !strings.Contains(p.Error, "another replica") {
			t.Errorf("beside another replica the run says %q", p.Error)
		}
		if n := h.count(`SELECT count(*) FROM content`); n != 3 {
			t.Errorf("%d contents are left, want all 3", n)
		}
		lease(time.Now().Add(-time.Second))
		if p := h.run(); p.Error != "" {
			t.Errorf("after its lease the run says %q", p.Error)
		}
		if n := h.count(`SELECT count(*) FROM content`); n != 0 {
			t.Errorf("%d contents are left", n)
		}
	})
}
