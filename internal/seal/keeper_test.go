package seal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lazaret-health/lazaret/internal/seal"
)

// A ledger is a record of acts; it can fail.
type ledger struct {
	mu     sync.Mutex
	acts   []string
	failed error
}

func (l *ledger) RecordKeyAct(_ context.Context, who seal.Actor, a seal.Act) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	l.acts = append(l.acts, fmt.Sprintf("%s %s %d failed=%v", a.What, who.OSUser, len(a.Keys), a.Failed))
	return nil
}

func (l *ledger) has(act string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.acts, act)
}

// noRecords has nothing to seal anew.
type noRecords struct{}

func (noRecords) Reseal(context.Context, bool, func(int64, int64)) (int64, error) { return 0, nil }
func (noRecords) Unfinished(context.Context) (bool, error)                        { return false, nil }

var kim = seal.Actor{OSUser: "kim", Program: "lazaret key"}

// keep makes a keeper over a site, as a start of the service does, and runs it until the test's end.
func (s *site) keep(l *ledger, change ...func(*seal.Config)) (*seal.Keeper, *seal.Ring, func()) {
	s.t.Helper()
	var root seal.Root
	r := s.open(s.roots, func(c *seal.Config) {
		c.Now = time.Now
		for _, f := range change {
			f(c)
		}
		root = c.Root
	})
	k, err := seal.NewKeeper(seal.KeeperConfig{Ring: r, Root: root, Dir: s.store, File: s.root, Record: l, Reseal: noRecords{}, Now: time.Now,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(stop)
	return k, r, stop
}

// ended waits for the work under way.
func ended(t *testing.T, k *seal.Keeper) seal.Work {
	t.Helper()
	for range 500 {
		if w := k.Work(); !w.Ended.IsZero() {
			return w
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the work does not end")
	return seal.Work{}
}

func TestKeeperRotatesTheRootAndAsksForANewCopy(t *testing.T) {
	s, l := newSite(t), &ledger{}
	k, r, stop := s.keep(l)
	sealed := mustSeal(t, r, home, november, "invented")
	shares, err := k.Copy(t.Context(), kim, 2, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	back, err := seal.JoinRoot(shares.Shares[1:])
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Confirm(t.Context(), kim, back.ID()); err != nil {
		t.Fatal(err)
	}
	if st, err := k.Status(t.Context()); err != nil || !st.Recovered || !st.Local || len(st.Keys) != 1 {
		t.Errorf("status %+v, %v", st, err)
	}
	if err := k.RotateRoot(t.Context(), kim); err != nil {
		t.Fatal(err)
	}
	if err := k.RotateRoot(t.Context(), kim); !errors.Is(err, seal.ErrBusy) && k.Work().Busy() {
		t.Errorf("two works at once: %v", err)
	}
	if w := ended(t, k); w.Error != "" || w.Done != 1 || w.Total != 1 {
		t.Errorf("work %+v", w)
	}
	st, err := k.Status(t.Context())
	if err != nil || st.Recovered || st.Root.ID == back.ID() || st.Keys[0].Root != st.Root.ID {
		t.Errorf("after the rotation: %+v, %v", st, err)
	}
	if err := k.Confirm(t.Context(), kim, back.ID()); !errors.Is(err, seal.ErrOtherRoot) {
		t.Errorf("the copy of the former root was taken: %v", err)
	}
	stop()
	for _, act := range []string{"recovery-made kim 0 failed=false", "recovery-tried kim 0 failed=false", "root-changed kim 0 failed=false",
		"recovery-tried kim 0 failed=true", "made  1 failed=false"} {
		if !l.has(act) {
			t.Errorf("%q is not on record: %q", act, l.acts)
		}
	}
	if _, err := s.open().Open(t.Context(), home, sealed); err != nil {
		t.Error(err)
	}
}

// A rotation that a crash has broken off is finished by the next start, without anybody asking.
func TestKeeperFinishesARotation(t *testing.T) {
	s, l := newSite(t), &ledger{}
	sealed := mustSeal(t, s.open(), home, november, "invented")
	before := s.rootID()
	if _, err := seal.NextFileRoot(s.root); err != nil {
		t.Fatal(err)
	}
	k, r, _ := s.keep(l)
	if w := ended(t, k); w.Error != "" {
		t.Error(w.Error)
	}
	if s.rootID() == before {
		t.Error("the former root is still in place")
	}
	if _, err := r.Open(t.Context(), home, sealed); err != nil {
		t.Error(err)
	}
}

func TestNothingIsDestroyedOffTheRecord(t *testing.T) {
	s, l := newSite(t), &ledger{}
	k, r, _ := s.keep(l)
	past := time.Now().AddDate(0, -2, 0)
	sealed := mustSeal(t, r, home, past, "invented")
	l.mu.Lock()
	l.failed = errors.New("invented: the log takes nothing")
	l.mu.Unlock()
	if _, err := k.Shred(t.Context(), kim, home.Org, seal.Message, seal.PeriodOf(past)); !errors.Is(err, l.failed) {
		t.Errorf("got %v", err)
	}
	if _, err := r.Open(t.Context(), home, sealed); err != nil {
		t.Errorf("destroyed all the same: %v", err)
	}
	l.mu.Lock()
	l.failed = nil
	l.mu.Unlock()
	ids, err := k.Shred(t.Context(), kim, home.Org, seal.Message, seal.PeriodOf(past))
	if err != nil || len(ids) != 1 || !l.has("shredding kim 0 failed=false") || !l.has("shredded kim 1 failed=false") {
		t.Errorf("destroyed %v, %v; on record %q", ids, err, l.acts)
	}
	if _, err := k.Shred(t.Context(), kim, home.Org, seal.Message, seal.PeriodOf(time.Now())); !errors.Is(err, seal.ErrNotOver) {
		t.Errorf("the present month: %v", err)
	}
}

func TestKeeperWatchesTheRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l, far := newSite(t), &ledger{}, &farRoot{}
		_, r, stop := s.keep(l, func(c *seal.Config) { far.Root, c.Root = c.Root, far; c.Grace = time.Hour })
		sealed := mustSeal(t, r, home, november, "invented")
		time.Sleep(5 * time.Minute)
		far.setAway(true)
		time.Sleep(30 * time.Minute)
		if _, err := r.Open(t.Context(), home, sealed); err != nil {
			t.Errorf("within the grace: %v", err)
		}
		time.Sleep(45 * time.Minute)
		if _, err := r.Open(t.Context(), home, sealed); !errors.Is(err, seal.ErrRootAway) {
			t.Errorf("beyond the grace: %v", err)
		}
		far.setAway(false)
		time.Sleep(2 * time.Minute)
		if _, err := r.Open(t.Context(), home, sealed); err != nil {
			t.Errorf("when it is back: %v", err)
		}
		stop()
		if !l.has("root-away  0 failed=true") || !l.has("root-back  0 failed=false") {
			t.Errorf("on record %q", l.acts)
		}
	})
}
