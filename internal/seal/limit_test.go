package seal_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/seal"
)

// keysUsed counts how often each key sealed.
func keysUsed(t *testing.T, sealed [][]byte) map[seal.KeyID]int {
	t.Helper()
	used := map[seal.KeyID]int{}
	for _, s := range sealed {
		id, ok := seal.KeyOf(s)
		if !ok {
			t.Fatal("a sealed value names no key")
		}
		used[id]++
	}
	return used
}

func TestKeyEndsAtItsLimit(t *testing.T) {
	s := newSite(t)
	r := s.open(func(c *seal.Config) { c.Limit = 10 })
	var all [][]byte
	for range 25 {
		all = append(all, mustSeal(t, r, home, november, "invented"))
	}
	used := keysUsed(t, all)
	if len(used) != 3 {
		t.Errorf("25 seals at 10 a key took %d keys, want 3", len(used))
	}
	for id, n := range used {
		if n > 10 {
			t.Errorf("key %s sealed %d times, over its limit of 10", id, n)
		}
		if id.Period() != seal.PeriodOf(november) || id.Purpose() != seal.Message || id.Org() != home.Org {
			t.Errorf("key %s is of %s, %s, organisation %d", id, id.Purpose(), id.Period(), id.Org())
		}
	}
	for i, sealed := range all {
		if _, err := s.open().Open(t.Context(), home, sealed); err != nil {
			t.Errorf("value %d: %v", i, err)
		}
	}
}

// A restart in the middle of a block throws the rest of the block away; it never uses it again.
func TestCountSurvivesARestart(t *testing.T) {
	s := newSite(t)
	var all [][]byte
	for range 30 {
		r := s.open(func(c *seal.Config) { c.Limit = 10; c.Store = smallBlocks{c.Store} })
		all = append(all, mustSeal(t, r, home, november, "invented"))
		r.Close()
	}
	for id, n := range keysUsed(t, all) {
		if n > 5 { // blocks of two, one of each pair thrown away
			t.Errorf("key %s sealed %d times in processes that reserved two seals each and used one; its limit is 10", id, n)
		}
	}
}

// smallBlocks makes every reservation one of two seals.
type smallBlocks struct{ seal.Store }

func (s smallBlocks) Reserve(ctx context.Context, id seal.KeyID, _, limit uint64) (uint64, uint64, error) {
	return s.Store.Reserve(ctx, id, 2, limit)
}

func TestLimitHoldsForManyAtOnce(t *testing.T) {
	s := newSite(t)
	const rings, workers, each, limit = 2, 4, 100, 32
	var mu sync.Mutex
	var all [][]byte
	var wg sync.WaitGroup
	for range rings { // two processes over one store
		r := s.open(func(c *seal.Config) { c.Limit = limit; c.Store = smallBlocks{c.Store} })
		for range workers {
			wg.Go(func() {
				for range each {
					out, err := r.Seal(context.Background(), seal.Message, home, november, []byte("invented"))
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					all = append(all, out)
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	total := 0
	for id, n := range keysUsed(t, all) {
		total += n
		if n > limit {
			t.Errorf("key %s sealed %d times, over its limit of %d", id, n, limit)
		}
	}
	if total != rings*workers*each {
		t.Errorf("%d values, want %d", total, rings*workers*each)
	}
}

func TestMonthsHaveTheirOwnKeys(t *testing.T) {
	r := newSite(t).open()
	east := time.FixedZone("east", 9*3600)
	for _, c := range []struct {
		name string
		at   time.Time
		want string
	}{
		{"the last microsecond of a month is of that month", time.Date(2026, 11, 30, 23, 59, 59, 999999000, time.UTC), "2026-11"},
		{"the first instant of a month is of that month", time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), "2026-12"},
		{"the month is that of UTC, wherever the clock hangs", time.Date(2026, 12, 1, 8, 59, 0, 0, east), "2026-11"},
		{"a year begins in January", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), "2027-01"},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, _ := seal.KeyOf(mustSeal(t, r, home, c.at, "invented"))
			if got := id.Period().String(); got != c.want {
				t.Errorf("sealed under %s, want %s", got, c.want)
			}
			if seal.PeriodOf(id.Period().Start()) != id.Period() || id.Period().Start().After(c.at) {
				t.Errorf("period %s starts at %s", id.Period(), id.Period().Start())
			}
		})
	}
	a, err := r.Seal(t.Context(), seal.AuditSubject, home, november, []byte("invented"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Seal(t.Context(), seal.AuditSubject, home, november.AddDate(6, 0, 0), []byte("invented"))
	if err != nil {
		t.Fatal(err)
	}
	ida, _ := seal.KeyOf(a)
	idb, _ := seal.KeyOf(b)
	if ida != idb || ida.Period() != seal.Lasting {
		t.Errorf("audit subjects lie under %s and %s, want one lasting key", ida, idb)
	}
	if _, err := r.Seal(t.Context(), 0, home, november, nil); err == nil {
		t.Error("a purpose that is none sealed")
	}
}
