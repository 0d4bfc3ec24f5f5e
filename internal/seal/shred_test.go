package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/seal"
)

// december is when november's keys may be destroyed.
func december(c *seal.Config) {
	c.Now = func() time.Time { return november.AddDate(0, 1, 0) }
}

func TestWhatWasShreddedOpensNeverAgain(t *testing.T) {
	s := newSite(t)
	nov := seal.PeriodOf(november)
	first := s.open(func(c *seal.Config) { december(c); c.Limit = 2 })
	var sealed [][]byte
	for range 5 {
		sealed = append(sealed, mustSeal(t, first, home, november, "invented"))
	}
	other := mustSeal(t, first, home, november.AddDate(0, 1, 0), "december")
	neighbour := home
	neighbour.Org = 8
	theirs := mustSeal(t, first, neighbour, november, "the other organisation")
	mustBlind(t, first, 7, seal.FieldControlID, nov, "1")

	gone, err := first.Shred(t.Context(), 7, seal.Message, nov)
	if err != nil || len(gone) != 3 {
		t.Fatalf("destroyed %v, %v; want 3 keys", gone, err)
	}
	if keys, err := first.Shred(t.Context(), 7, seal.BlindIndex, nov); err != nil || len(keys) != 1 {
		t.Fatalf("destroyed %v, %v; want the blind key", keys, err)
	}
	for name, r := range map[string]*seal.Ring{"the same process": first, "after a restart": s.open(december)} {
		for i, v := range sealed {
			if _, err := r.Open(t.Context(), home, v); !errors.Is(err, seal.ErrKeyMissing) {
				t.Errorf("%s: value %d: %v, want ErrKeyMissing", name, i, err)
			}
		}
		if _, err := r.Seal(t.Context(), seal.Message, home, november, nil); !errors.Is(err, seal.ErrShredded) {
			t.Errorf("%s sealed into the past: %v", name, err)
		}
		if _, err := r.Blind(t.Context(), 7, seal.FieldControlID, nov, []byte("1")); !errors.Is(err, seal.ErrShredded) {
			t.Errorf("%s made blind values of the past: %v", name, err)
		}
		if _, err := r.Seek(t.Context(), 7, seal.FieldControlID, nov, []byte("1")); !errors.Is(err, seal.ErrKeyMissing) {
			t.Errorf("%s searches in the past: %v", name, err)
		}
		for place, v := range map[seal.Place][]byte{home: other, neighbour: theirs} {
			if _, err := r.Open(t.Context(), place, v); err != nil {
				t.Errorf("%s lost another slot: %v", name, err)
			}
		}
		again, err := r.Shred(t.Context(), 7, seal.Message, nov)
		if err != nil || !slices.Equal(again, gone) {
			t.Errorf("%s: once more: %v, %v; want the same list", name, again, err)
		}
		list, err := r.Disposals(t.Context(), 7)
		if err != nil || len(list) != 2 || list[0].Period != nov || !list[0].At.Equal(november.AddDate(0, 1, 0)) {
			t.Errorf("%s: disposals %+v, %v", name, list, err)
		}
	}
	for _, f := range s.files("") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range gone {
			if bytes.Contains(text, []byte(`"wrapped"`)) && bytes.Contains(text, []byte(id.String())) {
				t.Errorf("%s still holds key %s", f, id)
			}
		}
	}
}

func TestOnlyWhatIsOverIsShredded(t *testing.T) {
	r := newSite(t).open(december)
	dec := seal.PeriodOf(november) + 1
	for p, want := range map[seal.Period]error{dec: seal.ErrNotOver, dec + 1: seal.ErrNotOver, dec - 1: nil, dec - 40: nil} {
		if _, err := r.Shred(t.Context(), 7, seal.Message, p); !errors.Is(err, want) {
			t.Errorf("%s in %s: %v, want %v", p, dec, err, want)
		}
	}
	if _, err := r.Shred(t.Context(), 7, seal.AuditSubject, seal.Lasting); err == nil {
		t.Error("a lasting key was destroyed")
	}
}

// Each step of destroying fails; the process ends; the next one finishes, knows all keys, and between nothing opens.
func TestCrashWhileKeysAreDestroyed(t *testing.T) {
	nov := seal.PeriodOf(november)
	for _, at := range []string{"write", "sync", "rename", "sync directory", "overwrite", "unlink"} {
		for nth := 1; nth <= 4; nth++ {
			t.Run(fmt.Sprintf("%s, time %d", at, nth), func(t *testing.T) {
				s := newSite(t)
				r := s.open(func(c *seal.Config) { december(c); c.Limit = 1 })
				sealed := [][]byte{mustSeal(t, r, home, november, "one"), mustSeal(t, r, home, november, "two")}
				r.Close()
				seen, hit := 0, false
				store, err := seal.FaultyDirStore(s.store, func(what string) error {
					if what == at {
						if seen++; seen == nth {
							hit = true
							return errPowerCut
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				r = s.open(december, func(c *seal.Config) { c.Store = store })
				_, err = r.Shred(t.Context(), 7, seal.Message, nov)
				if hit != errors.Is(err, errPowerCut) {
					t.Fatalf("got %v", err)
				}
				r.Close()
				r = s.open(december)
				marked := slices.ContainsFunc(s.files(".gone"), func(p string) bool { return !strings.HasPrefix(filepath.Base(p), ".tmp-") })
				for _, v := range sealed {
					if _, err := r.Open(t.Context(), home, v); errors.Is(err, seal.ErrKeyMissing) != marked {
						t.Errorf("between: %v, marked %v", err, marked)
					}
				}
				keys, err := r.Shred(t.Context(), 7, seal.Message, nov)
				if err != nil || len(keys) != 2 {
					t.Errorf("finished with %v, %v; want both keys", keys, err)
				}
				if left := append(s.files(".key"), s.files(".count")...); len(left) != 0 {
					t.Errorf("left behind: %q", left)
				}
			})
		}
	}
}

func TestOtherProcessesLetGoOfShreddedKeys(t *testing.T) {
	s := newSite(t)
	a, b := s.open(december), s.open(december)
	sealed := mustSeal(t, a, home, november, "invented")
	mustBlind(t, b, 7, seal.FieldControlID, seal.PeriodOf(november), "1")
	if _, err := b.Open(t.Context(), home, sealed); err != nil {
		t.Fatal(err)
	}
	for _, p := range []seal.Purpose{seal.Message, seal.BlindIndex} {
		if _, err := a.Shred(t.Context(), 7, p, seal.PeriodOf(november)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context(), home, sealed); !errors.Is(err, seal.ErrKeyMissing) {
		t.Errorf("the other process still opens: %v", err)
	}
	if _, err := b.Seek(t.Context(), 7, seal.FieldControlID, seal.PeriodOf(november), []byte("1")); !errors.Is(err, seal.ErrKeyMissing) {
		t.Errorf("the other process still searches: %v", err)
	}
}

func TestKeysAreListed(t *testing.T) {
	s := newSite(t)
	r := s.open(func(c *seal.Config) { c.Limit = 2 })
	for range 3 {
		mustSeal(t, r, home, november, "invented")
	}
	mustBlind(t, r, 7, seal.FieldControlID, seal.Lasting, "1")
	list, err := r.Keys(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range list {
		got = append(got, fmt.Sprint(k.Purpose, " ", k.Period, " ", k.Seals, " ", k.Spent, " ", k.Created.Equal(november)))
	}
	want := []string{"message 2026-11 2 true true", "message 2026-11 2 true true", "blind-index lasting 0 false true"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if orgs, err := r.Organisations(t.Context()); err != nil || !slices.Equal(orgs, []uint32{7}) {
		t.Errorf("organisations %v, %v", orgs, err)
	}
	for _, p := range seal.Purposes() {
		if back, err := seal.ParsePurpose(p.String()); back != p || err != nil {
			t.Errorf("%s reads back as %s, %v", p, back, err)
		}
	}
	for _, p := range []seal.Period{seal.Lasting, seal.PeriodOf(november)} {
		if back, err := seal.ParsePeriod(p.String()); back != p || err != nil {
			t.Errorf("%s reads back as %s, %v", p, back, err)
		}
	}
}
