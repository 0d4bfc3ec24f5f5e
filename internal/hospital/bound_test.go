package hospital

import (
	"testing"
	"time"
)

// A hospital that runs for ever does not grow for ever.
func TestListsStayBounded(t *testing.T) {
	for name, next := range map[string]func(*Hospital) Message{
		"everything":    (*Hospital).Next,
		"orders only":   (*Hospital).ORM,
		"results only":  (*Hospital).ORU,
		"patients only": (*Hospital).ADT,
	} {
		t.Run(name, func(t *testing.T) { bounded(t, next) })
	}
}

func bounded(t *testing.T, next func(*Hospital) Message) {
	const known = 25
	h, err := New(Config{Seed: 2, Start: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC), Facility: "STMARY", Patients: known})
	if err != nil {
		t.Fatal(err)
	}
	for range 20_000 {
		next(h)
		if len(h.out)+len(h.in) > 5*known+8 || len(h.open) > 2*known+16 || len(h.duplicates) > 20 || len(h.linked) > 20 {
			t.Fatalf("%d out, %d in, %d orders, %d duplicates, %d links", len(h.out), len(h.in), len(h.open), len(h.duplicates), len(h.linked))
		}
	}
}
