package seal_test

import (
	"encoding/binary"
	"testing"

	"github.com/lazaret-health/lazaret/internal/seal"
)

// FuzzOpenElsewhere holds the invariant: a sealed value opens, unchanged, in the place it was sealed for; and nothing else does.
func FuzzOpenElsewhere(f *testing.F) {
	f.Add([]byte("invented"), uint16(1), uint16(1), uint32(7), uint64(3), uint16(1), uint16(1), uint32(7), uint64(3), uint16(0), byte(0))
	f.Add([]byte("invented"), uint16(1), uint16(1), uint32(7), uint64(3), uint16(1), uint16(1), uint32(7), uint64(4), uint16(0), byte(0))
	f.Add([]byte{}, uint16(0x0102), uint16(0x0304), uint32(0), uint64(0), uint16(0x0203), uint16(0x0401), uint32(0), uint64(0), uint16(0), byte(0))
	f.Add([]byte("invented"), uint16(1), uint16(1), uint32(7), uint64(3), uint16(1), uint16(1), uint32(7), uint64(3), uint16(20), byte(0x80))
	r := newSite(f).open()
	f.Fuzz(func(t *testing.T, text []byte, table, column uint16, org uint32, row uint64, table2, column2 uint16, org2 uint32, row2 uint64, at uint16, flip byte) {
		org, org2 = org%4, org2%4 // few keys, and no file for each input
		here := seal.Place{Table: table, Column: column, Org: org}
		there := seal.Place{Table: table2, Column: column2, Org: org2}
		binary.BigEndian.PutUint64(here.Row[8:], row)
		binary.BigEndian.PutUint64(there.Row[8:], row2)
		sealed, err := r.Seal(t.Context(), seal.Message, here, november, text)
		if err != nil {
			t.Fatal(err)
		}
		i := int(at) % len(sealed)
		sealed[i] ^= flip
		got, err := r.Open(t.Context(), there, sealed)
		if here == there && flip == 0 {
			if err != nil || string(got) != string(text) {
				t.Fatalf("in its own place it opened to %d bytes and %v", len(got), err)
			}
			return
		}
		if err == nil || got != nil {
			t.Fatalf("sealed for %+v and changed by %#x at byte %d, it opened in %+v", here, flip, i, there)
		}
	})
}

func TestEveryFlippedBitAndEveryCutIsFound(t *testing.T) {
	r := newSite(t).open()
	sealed := mustSeal(t, r, home, november, "invented")
	for i := range sealed {
		for bit := range 8 {
			bad := append([]byte(nil), sealed...)
			bad[i] ^= 1 << bit
			if _, err := r.Open(t.Context(), home, bad); err == nil {
				t.Errorf("opened with bit %d of byte %d flipped", bit, i)
			}
		}
		if _, err := r.Open(t.Context(), home, sealed[:i]); err == nil {
			t.Errorf("opened when cut to %d bytes", i)
		}
	}
	if _, err := r.Open(t.Context(), home, append(sealed[:len(sealed):len(sealed)], 0)); err == nil {
		t.Error("opened with a byte too many")
	}
}
