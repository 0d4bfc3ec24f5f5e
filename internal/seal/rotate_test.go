package seal_test

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

	"github.com/lazaret-health/lazaret/internal/seal"
)

// roots opens the root file with whatever a broken change has left, as a start of the service does.
func (s *site) roots(c *seal.Config) {
	s.t.Helper()
	current, former, err := seal.FileRoots(s.root)
	if err != nil {
		s.t.Fatal(err)
	}
	c.Root, c.Former = current, nil
	if former != nil {
		c.Former = []seal.Root{former}
	}
}

func (s *site) rootID() string {
	s.t.Helper()
	r, err := seal.FileRoot(s.root)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.ID()
}

func TestRotationOfTheRootKeepsEverythingOpen(t *testing.T) {
	s := newSite(t)
	r := s.open()
	before := mustSeal(t, r, home, november, "before")
	other := home
	other.Org = 9
	theirs := mustSeal(t, r, other, november, "theirs")
	blind := mustBlind(t, r, 7, seal.FieldControlID, seal.Lasting, "1")
	oldText, err := os.ReadFile(s.root)
	if err != nil {
		t.Fatal(err)
	}
	oldID := s.rootID()

	next, err := seal.NextFileRoot(s.root)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.ChangeRoot(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if err := r.DropFormer(t.Context()); err == nil {
		t.Error("the former root was dropped with keys still under it")
	}
	var heard []string
	n, err := r.Rewrap(t.Context(), false, func(done, total int) { heard = append(heard, fmt.Sprint(done, "/", total)) })
	if err != nil || n != 3 || strings.Join(heard, " ") != "1/3 2/3 3/3" {
		t.Fatalf("%d keys wrapped anew, %v, progress %q", n, err, heard)
	}
	if err := r.DropFormer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := seal.FinishFileRoot(s.root); err != nil {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(filepath.Dir(s.root)); err != nil || len(names) != 1 {
		t.Errorf("%d files beside the root key, %v", len(names), err)
	}
	if s.rootID() == oldID {
		t.Error("the root key is the same")
	}
	for name, r := range map[string]*seal.Ring{"the same process": r, "after a restart": s.open()} {
		for place, v := range map[seal.Place][]byte{home: before, other: theirs} {
			if _, err := r.Open(t.Context(), place, v); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if mustBlind(t, r, 7, seal.FieldControlID, seal.Lasting, "1") != blind {
			t.Errorf("%s: another blind value", name)
		}
	}
	// The old root opens nothing of today's store.
	if err := os.WriteFile(s.root, oldText, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.open().Open(t.Context(), home, before); !errors.Is(err, seal.ErrRoot) {
		t.Errorf("the former root still opens: %v", err)
	}
}

// The process ends after any number of keys, or at any step of putting the new root in its place; the next start reads all, goes
// on and ends with one root.
func TestRotationOfTheRootSurvivesACrash(t *testing.T) {
	const keys = 4
	for stop := range keys + 3 {
		t.Run(fmt.Sprintf("after step %d", stop), func(t *testing.T) {
			s := newSite(t)
			r := s.open(func(c *seal.Config) { c.Limit = 1 })
			var sealed [][]byte
			for range keys {
				sealed = append(sealed, mustSeal(t, r, home, november, "invented"))
			}
			next, err := seal.NextFileRoot(s.root)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.ChangeRoot(t.Context(), next); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			if stop == 0 {
				cancel()
			}
			_, err = r.Rewrap(ctx, false, func(done, _ int) {
				if done == stop {
					cancel()
				}
			})
			cancel()
			if broken := stop < keys; broken != errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
			switch stop {
			case keys + 1: // linked under the former's name, not renamed yet
				if err := os.Link(s.root, s.root+".former"); err != nil {
					t.Fatal(err)
				}
			case keys + 2: // renamed, the former not erased yet
				if err := os.Link(s.root, s.root+".former"); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(s.root+".next", s.root); err != nil {
					t.Fatal(err)
				}
			}
			r.Close()

			r = s.open(s.roots)
			for i, v := range sealed {
				if _, err := r.Open(t.Context(), home, v); err != nil {
					t.Errorf("between, value %d: %v", i, err)
				}
			}
			if _, err := r.Rewrap(t.Context(), false, nil); err != nil {
				t.Fatal(err)
			}
			if err := r.DropFormer(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := seal.FinishFileRoot(s.root); err != nil {
				t.Fatal(err)
			}
			if _, former, err := seal.FileRoots(s.root); former != nil || err != nil {
				t.Errorf("a former root is left, %v", err)
			}
			r = s.open()
			for i, v := range sealed {
				if _, err := r.Open(t.Context(), home, v); err != nil {
					t.Errorf("at the end, value %d: %v", i, err)
				}
			}
		})
	}
}

func TestADamagedKeyDoesNotEndARotationUnseen(t *testing.T) {
	s := newSite(t)
	mustSeal(t, s.open(), home, november, "invented")
	if err := cut(s.files(".key")[0], 10); err != nil {
		t.Fatal(err)
	}
	r := s.open()
	next, err := seal.NextFileRoot(s.root)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.ChangeRoot(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Rewrap(t.Context(), false, nil); !errors.Is(err, seal.ErrKeyDamaged) {
		t.Errorf("got %v", err)
	}
	if err := r.DropFormer(t.Context()); err == nil {
		t.Error("the former root was dropped though a key may be under it")
	}
}

func TestRenewedKeysSealNothingMoreAndOpen(t *testing.T) {
	s := newSite(t)
	r, replica := s.open(), s.open()
	old := mustSeal(t, r, home, november, "invented")
	mustSeal(t, replica, home, november, "invented")
	retired, err := r.Renew(t.Context(), 7)
	if err != nil || len(retired) == 0 {
		t.Fatalf("retired %v, %v", retired, err)
	}
	if err := replica.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	oldID, _ := seal.KeyOf(old)
	for name, r := range map[string]*seal.Ring{"the same process": r, "another process": replica, "after a restart": s.open()} {
		id, _ := seal.KeyOf(mustSeal(t, r, home, november, "invented"))
		if id == oldID {
			t.Errorf("%s seals with a retired key", name)
		}
		again, err := r.Reseal(t.Context(), home, old)
		if err != nil || again == nil {
			t.Fatalf("%s: sealed anew: %v", name, err)
		}
		if id, _ := seal.KeyOf(again); id == oldID || id.Period() != oldID.Period() {
			t.Errorf("%s: sealed anew under %s", name, id)
		}
		for _, v := range [][]byte{old, again} {
			if text, err := r.Open(t.Context(), home, v); err != nil || string(text) != "invented" {
				t.Errorf("%s opened %q, %v", name, text, err)
			}
		}
		if twice, err := r.Reseal(t.Context(), home, again); err != nil || twice != nil {
			t.Errorf("%s sealed anew what was anew already, %v", name, err)
		}
		elsewhere := home
		elsewhere.Row[0]++
		if _, err := r.Reseal(t.Context(), elsewhere, old); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s sealed anew for another row: %v", name, err)
		}
	}
}

var errAway = errors.New("invented: the service is away")

// farRoot is a root elsewhere, which can be away.
type farRoot struct {
	seal.Root
	away atomic.Bool
}

func (f *farRoot) setAway(away bool) { f.away.Store(away) }

func (f *farRoot) Wrap(ctx context.Context, p, aad []byte) ([]byte, error) {
	if f.away.Load() {
		return nil, errAway
	}
	return f.Root.Wrap(ctx, p, aad)
}

func (f *farRoot) Unwrap(ctx context.Context, w, aad []byte) ([]byte, error) {
	if f.away.Load() {
		return nil, errAway
	}
	return f.Root.Unwrap(ctx, w, aad)
}

func TestWithoutItsRootTheRingGoesOnForAWhile(t *testing.T) {
	s := newSite(t)
	now := november
	far := &farRoot{}
	change := func(c *seal.Config) {
		far.Root, c.Root = c.Root, far
		c.Now = func() time.Time { return now }
		c.Grace = time.Hour
	}
	r := s.open(change)
	sealed := mustSeal(t, r, home, november, "invented")
	mustBlind(t, r, 7, seal.FieldControlID, seal.Lasting, "1")

	far.setAway(true)
	for _, c := range []struct {
		name  string
		after time.Duration
		away  bool
		known error // what is asked of keys in memory
		fresh error // what needs the root
	}{
		{"at once it goes on with what it has", time.Minute, true, nil, seal.ErrRoot},
		{"within the grace too", time.Hour, true, nil, seal.ErrRoot},
		{"then it shuts", time.Hour + time.Minute, true, seal.ErrRootAway, seal.ErrRootAway},
		{"when the root is back, it opens again", 2 * time.Hour, false, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			now = november.Add(c.after)
			far.setAway(c.away)
			if err := r.Probe(t.Context()); c.away != errors.Is(err, errAway) {
				t.Errorf("probe: %v", err)
			}
			_, seals := r.Seal(t.Context(), seal.Message, home, november, nil)
			_, opens := r.Open(t.Context(), home, sealed)
			_, blinds := r.Blind(t.Context(), 7, seal.FieldControlID, seal.Lasting, nil)
			_, seeks := r.Seek(t.Context(), 7, seal.FieldControlID, seal.Lasting, nil)
			for what, err := range map[string]error{"seal": seals, "open": opens, "blind": blinds, "seek": seeks} {
				if !errors.Is(err, c.known) {
					t.Errorf("%s: %v, want %v", what, err, c.known)
				}
			}
			other := home
			other.Org = 100
			if _, err := r.Seal(t.Context(), seal.Message, other, november, nil); !errors.Is(err, c.fresh) {
				t.Errorf("another organisation's first seal: %v, want %v", err, c.fresh)
			}
			if st := r.RootState(); st.Shut != errors.Is(c.known, seal.ErrRootAway) || st.Away.IsZero() == c.away {
				t.Errorf("state %+v", st)
			}
		})
	}
	far.setAway(true)
	if _, err := seal.Open(t.Context(), func() seal.Config { c := s.config(); change(&c); return c }()); !errors.Is(err, seal.ErrRoot) {
		t.Errorf("a start without the root: %v, want ErrRoot", err)
	}
}
