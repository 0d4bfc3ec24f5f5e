package seal_test

import (
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/seal"
)

func mustBlind(t testing.TB, r *seal.Ring, org uint32, field uint16, p seal.Period, v string) [seal.BlindSize]byte {
	t.Helper()
	b, err := r.Blind(t.Context(), org, field, p, []byte(v))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBlindValuesMeetOnlyWithinOrganisationFieldAndPeriod(t *testing.T) {
	s := newSite(t)
	r := s.open()
	nov, dec := seal.PeriodOf(november), seal.PeriodOf(november)+1
	home := mustBlind(t, r, 7, seal.FieldPatientIdentifier, nov, "900001")
	for _, c := range []struct {
		name  string
		other [seal.BlindSize]byte
		same  bool
	}{
		{"the same value again is the same", mustBlind(t, r, 7, seal.FieldPatientIdentifier, nov, "900001"), true},
		{"after a restart too", mustBlind(t, s.open(), 7, seal.FieldPatientIdentifier, nov, "900001"), true},
		{"another value is another", mustBlind(t, r, 7, seal.FieldPatientIdentifier, nov, "900002"), false},
		{"another organisation's is another", mustBlind(t, r, 8, seal.FieldPatientIdentifier, nov, "900001"), false},
		{"another field's is another", mustBlind(t, r, 7, seal.FieldControlID, nov, "900001"), false},
		{"another month's is another", mustBlind(t, r, 7, seal.FieldPatientIdentifier, dec, "900001"), false},
		{"the lasting one is another", mustBlind(t, r, 7, seal.FieldPatientIdentifier, seal.Lasting, "900001"), false},
	} {
		if (c.other == home) != c.same {
			t.Errorf("%s: not so", c.name)
		}
	}
}

func TestSearchMakesNoKeyAndDiesWithIt(t *testing.T) {
	s := newSite(t)
	r := s.open()
	nov := seal.PeriodOf(november)
	if _, err := r.Seek(t.Context(), 7, seal.FieldControlID, nov, []byte("1")); !errors.Is(err, seal.ErrKeyMissing) {
		t.Errorf("search of a month without data: %v, want ErrKeyMissing", err)
	}
	if n := len(s.files(".key")); n != 0 {
		t.Errorf("a search made %d keys", n)
	}
	want := mustBlind(t, r, 7, seal.FieldControlID, nov, "1")
	for name, ring := range map[string]*seal.Ring{"with the key in memory": r, "after a restart": s.open()} {
		if got, err := ring.Seek(t.Context(), 7, seal.FieldControlID, nov, []byte("1")); err != nil || got != want {
			t.Errorf("%s the search asks for %x, %v; stored was %x", name, got, err, want)
		}
	}
	for _, f := range s.files(".key") {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.open().Seek(t.Context(), 7, seal.FieldControlID, nov, []byte("1")); !errors.Is(err, seal.ErrKeyMissing) {
		t.Errorf("after its key was destroyed: %v, want ErrKeyMissing", err)
	}
}

// Two replicas meet a new month at the same moment: their blind values must be found by each other.
func TestReplicasAgreeOnABlindKey(t *testing.T) {
	for range 10 {
		s := newSite(t)
		a, b := s.open(), s.open()
		var va, vb [seal.BlindSize]byte
		var wg sync.WaitGroup
		wg.Go(func() { va = mustBlind(t, a, 7, seal.FieldControlID, seal.PeriodOf(november), "1") })
		wg.Go(func() { vb = mustBlind(t, b, 7, seal.FieldControlID, seal.PeriodOf(november), "1") })
		wg.Wait()
		if va != vb {
			t.Fatal("two replicas made a blind key each")
		}
	}
}

func TestBlindIsSafeForManyAtOnce(t *testing.T) {
	r := newSite(t).open()
	want := mustBlind(t, r, 7, seal.FieldControlID, seal.Lasting, "1")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if got := mustBlind(t, r, 7, seal.FieldControlID, seal.Lasting, "1"); got != want {
					t.Error("a blind value changed")
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkBlind(b *testing.B) {
	r := newSite(b).open()
	v := []byte("900001^^^LAZARET^MR")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Blind(b.Context(), 7, seal.FieldPatientIdentifier, seal.PeriodOf(november), v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	r := newSite(b).open()
	msg := make([]byte, 1250)
	at := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Seal(b.Context(), seal.Message, home, at, msg); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	r := newSite(b).open()
	sealed, err := r.Seal(b.Context(), seal.Message, home, november, make([]byte, 1250))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(1250)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Open(b.Context(), home, sealed); err != nil {
			b.Fatal(err)
		}
	}
}
