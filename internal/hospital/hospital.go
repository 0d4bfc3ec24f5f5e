// Package hospital is a simulated hospital: a source of HL7 v2 messages for the demo, the tests and the benchmarks.
//
// It keeps patients, visits and orders, lets something happen to one of them at a time, and says so as the hospital's
// systems would: admissions, transfers, updates, discharges, cancellations, merges, links and changed identifiers (ADT);
// orders (ORM^O01 from a 2.3 system, OML^O21 from a 2.5.1 one); results with numbers, notes and now and then a PDF
// (ORU^R01). Histories are coherent: who is transferred was admitted, who is merged was registered, a result follows its
// order, and no time lies after the simulated clock.
//
// The same Config gives the same messages, byte for byte. Everything in them is invented. Family names are made up;
// telephone numbers are 555-01xx, which nobody has; national identifiers look like US social security numbers of the
// ranges 9xx-01 to 9xx-49, which neither that office nor the tax office issues; codes of tests are the hospital's own.
//
// It imports no HL7 library, so that a mistake in ours cannot hide behind itself. It is no model of medicine: values
// are drawn around their reference range and mean nothing together.
package hospital

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The feeds of a Message.
const (
	FeedADT = "adt"
	FeedORM = "orm"
	FeedORU = "oru"
)

// Config describes a hospital.
type Config struct {
	Seed     uint64    // the same seed gives the same messages; different seeds give different control IDs
	Start    time.Time // the clock before the first message; it moves on by 5 to 60 seconds with each, in UTC
	Facility string    // MSH-4 and assigning authority: capitals and digits, at most 20
	Patients int       // known to the hospital when it starts; at least 2
}

// A Message is one message and what a test needs to know of it.
type Message struct {
	Bytes     []byte // in its character set, each segment ended by CR; no MLLP frame
	Type      string // MSH-9.1
	Event     string // MSH-9.2
	ControlID string // MSH-10
	Version   string // MSH-12
	Charset   string // MSH-18
	Feed      string // FeedADT, FeedORM or FeedORU
	Time      time.Time
	Patients  []string // identifiers it touches, without authority: both sides of a merge or link; never empty
}

// A Hospital makes messages, one at a time. It is for one goroutine.
type Hospital struct {
	facility string
	rand     *rand.Rand
	now      time.Time
	prefix   string // of control IDs, from the seed
	messages int
	serial   int // of patients, accounts and orders

	known      int           // how many patients it wants to know
	out        []*patient    // known, not in the house
	in         []*patient    // in the house, or visiting
	duplicates [][2]*patient // one person registered twice: who stays, who goes
	linked     [][2]*patient // by A24, not yet unlinked
	open       []*order      // waiting for a result, oldest first

	main, clinic system
}

// A system is one of the hospital's programs that send messages.
type system struct {
	admission, orders, laboratory string // MSH-3 by feed
	version                       string
	charset                       string // MSH-18
	latin1                        bool
}

// New builds a hospital. Nothing has happened in it yet: the known patients are out of the house.
func New(c Config) (*Hospital, error) {
	switch {
	case c.Start.IsZero():
		return nil, errors.New("hospital: Start is not set; give the simulated clock a time")
	case !validFacility(c.Facility):
		return nil, errors.New("hospital: Facility must be 1 to 20 capitals and digits")
	case c.Patients < 2:
		return nil, errors.New("hospital: Patients must be at least 2, for one cannot be merged or linked")
	}
	h := &Hospital{
		facility: c.Facility,
		rand:     rand.New(rand.NewPCG(c.Seed, 0x6c617a61726574)),
		now:      c.Start.UTC().Truncate(time.Second),
		known:    c.Patients,
		main: system{admission: "HIS", orders: "HIS", laboratory: "LAB",
			version: "2.5.1", charset: "UNICODE UTF-8"},
		clinic: system{admission: "CLINIC", orders: "CLINIC", laboratory: "OLDLAB",
			version: "2.3", charset: "8859/1", latin1: true},
	}
	h.prefix = fmt.Sprintf("%08X", uint32(mix(c.Seed)))
	h.serial = int(mix(c.Seed+1) % 50_000_000)
	for range c.Patients {
		h.out = append(h.out, h.newPatient())
	}
	return h, nil
}

func validFacility(s string) bool {
	for _, r := range s {
		if (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 20
}

// mix spreads neighbouring seeds (the finisher of SplitMix64), so that hospitals 1 and 2 have unlike control IDs.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Next lets the next thing happen: about half are ADT, a quarter orders, a quarter results, most of them of those orders.
func (h *Hospital) Next() Message {
	switch n := h.rand.IntN(100); {
	case n < 50:
		return h.ADT()
	case n < 74 && len(h.open) <= h.known/2+4, len(h.open) == 0 && n < 96:
		return h.ORM()
	default:
		return h.ORU()
	}
}

// Now is the simulated clock: the time of the last message.
func (h *Hospital) Now() time.Time { return h.now }

// tick moves the clock to the next message.
func (h *Hospital) tick() { h.now = h.now.Add(time.Duration(5+h.rand.IntN(56)) * time.Second) }

// chance is true n times in a hundred.
func (h *Hospital) chance(n int) bool { return h.rand.IntN(100) < n }

func (h *Hospital) next() int {
	h.serial++
	return h.serial
}

// one draws from a list.
func one[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// find draws from a list until it finds one that fits, and gives up soon: the list may be long, and nothing depends on
// finding the only one.
func find(r *rand.Rand, list []*patient, fits func(*patient) bool) *patient {
	for range min(12, 3*len(list)) {
		if p := one(r, list); fits(p) {
			return p
		}
	}
	return nil
}
