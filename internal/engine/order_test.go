package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
)

func ordered(o engine.Order, window int, onReject engine.Policy) func(*engine.Destination) {
	return func(d *engine.Destination) { d.Order, d.Window, d.OnReject = o, window, onReject }
}

// refusing answers AE to a message as long as closed says so, and takes all others.
func refusing(control string, closed func() bool) func(n int, block []byte) (engine.Reply, error) {
	return func(_ int, block []byte) (engine.Reply, error) {
		if strings.Contains(string(block), "|"+control+"|") && closed() {
			return engine.Reply{Code: "AE 207"}, nil
		}
		return engine.Reply{Taken: true, Code: "AA"}, nil
	}
}

// A gate is closed until it is opened.
type gate struct {
	mu   sync.Mutex
	open bool
}

func (g *gate) closed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.open
}

func (g *gate) release() {
	g.mu.Lock()
	g.open = true
	g.mu.Unlock()
}

// TestOrderAndRefusals: the second of five messages is refused. Patients are A, B, A, B and none.
func TestOrderAndRefusals(t *testing.T) {
	in := []string{adt("1A", "A"), adt("2B", "B"), adt("3A", "A"), adt("4B", "B"), message("ADT^A01", "5", "P", "2.5.1")}
	for _, tc := range []struct {
		name     string
		order    engine.Order
		onReject engine.Policy
		before   string // what the receiver has while it refuses
		after    string // and once it no longer does, or the queue was resumed
		state    string // of 2B while it is refused
	}{
		{"strict and retry: all wait", engine.OrderStrict, engine.Retry, "1A", "1A 2B 3A 4B 5", "pending"},
		{"strict and skip: it is set aside, the others go on", engine.OrderStrict, engine.Skip, "1A 3A 4B 5", "1A 3A 4B 5", "error"},
		{"strict and hold: the queue stands until somebody resumes it", engine.OrderStrict, engine.Hold, "1A", "1A 2B 3A 4B 5", "pending"},
		{"patient and retry: only B waits, and what has no patient", engine.OrderPatient, engine.Retry, "1A 3A", "1A 3A 2B 4B 5", "pending"},
		{"patient and skip: it is set aside, the others go on", engine.OrderPatient, engine.Skip, "1A 3A 4B 5", "1A 3A 4B 5", "error"},
		{"patient and hold: the queue stands", engine.OrderPatient, engine.Hold, "1A", "1A 2B 3A 4B 5", "pending"},
		{"none and retry: it alone waits", engine.OrderNone, engine.Retry, "1A 3A 4B 5", "1A 3A 4B 5 2B", "pending"},
		{"none and skip: it is set aside", engine.OrderNone, engine.Skip, "1A 3A 4B 5", "1A 3A 4B 5", "error"},
		{"none and hold: the queue stands", engine.OrderNone, engine.Hold, "1A", "1A 2B 3A 4B 5", "pending"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			each(t, func(t *testing.T, address, keys string) {
				windows := []int{1, 8, 64}
				d, g := newDoor(), &gate{}
				var wards []*ward
				var to []engine.Destination
				for _, n := range windows {
					w := newWard()
					w.do = refusing("2B", g.closed)
					wards, to = append(wards, w), append(to, destination(fmt.Sprintf("window-%d", n), w, ordered(tc.order, n, tc.onReject)))
				}
				h := start(t, address, keys, channel(d, nil, to...))
				d.mustSend(t, in...)
				for i, w := range wards {
					w.wait(t, len(strings.Fields(tc.before)))
					eventually(t, "the refusal is stored", func() bool {
						return h.find("2B").Deliveries[i].State == tc.state && h.find("2B").Deliveries[i].Outcome == "AE 207"
					})
					if tc.onReject == engine.Hold {
						eventually(t, "the queue is held", func() bool {
							return strings.HasPrefix(h.state("adt", to[i].Name).State, "held: the receiver refused a message with AE 207")
						})
					}
					time.Sleep(20 * time.Millisecond)
					if got := controls(t, w.got()); got != tc.before {
						t.Errorf("%s: while it was refused: %s, want %s", to[i].Name, got, tc.before)
					}
				}
				g.release()
				for i, w := range wards {
					if tc.onReject == engine.Hold {
						if err := h.engine.ResumeDestination(context.Background(), clerk(), "adt", to[i].Name); err != nil {
							t.Fatal(err)
						}
					}
					w.wait(t, len(strings.Fields(tc.after)))
				}
				h.settled(t)
				for i, w := range wards {
					if got := controls(t, w.got()); got != tc.after {
						t.Errorf("%s: %s, want %s", to[i].Name, got, tc.after)
					}
				}
				for _, d := range h.find("2B").Deliveries {
					if len(d.Notes) > 0 {
						t.Errorf("%s: a known refusal left the note %q", d.Destination, d.Notes)
					}
				}
				h.verify()
			})
		})
	}
}

// TestPatientsInOrder: while one message of a patient waits, what comes behind it and shares a patient waits too, and nothing
// else does. Each case has a message of patient A that is refused, those that must wait for it, and those that need not.
func TestPatientsInOrder(t *testing.T) {
	event := func(typ, control string, segments ...string) string {
		return message(typ, control, "P", "2.5.1", segments...)
	}
	a := adt("FIRST", "A")
	many := func(n int, prefix string) string {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprintf("%s%d^^^NORTH^MR", prefix, i)
		}
		return "PID|1||" + strings.Join(ids, "~")
	}
	cases := []struct {
		name  string
		first string
		waits []string
		goes  []string
	}{
		{"another patient does not wait", a, []string{adt("W1", "A")}, []string{adt("G1", "B"), adt("G2", "C")}},
		{"an identifier in lower case, with spaces and of another authority is the same", a,
			[]string{event("ADT^A08", "W1", "PID|1|| a ^^^SOUTH^PI")}, []string{adt("G1", "AA")}},
		{"PID-2 and PID-4 identify too", a, []string{event("ADT^A08", "W1", "PID|1|A"), event("ADT^A08", "W2", "PID|1|||A^^^OLD")}, []string{adt("G1", "B")}},
		{"swapped repetitions of PID-3 are the same patient", event("ADT^A08", "FIRST", "PID|1||X^^^N~A^^^N"),
			[]string{event("ADT^A08", "W1", "PID|1||A^^^N~X^^^N"), adt("W2", "X")}, []string{adt("G1", "B")}},
		{"a merge (A40) waits for either side, and passes the wait on", a,
			[]string{event("ADT^A40", "W1", "PID|1||B", "MRG|A"), adt("W2", "B")}, []string{adt("G1", "C")}},
		{"a merge (A18) of old waits", a, []string{event("ADT^A18", "W1", "PID|1||B", "MRG|A"), adt("W2", "B")}, []string{adt("G1", "C")}},
		{"a merge of identifiers (A34) waits", a, []string{event("ADT^A34", "W1", "PID|1||B", "MRG|A"), adt("W2", "B")}, []string{adt("G1", "C")}},
		{"a changed identifier (A47) waits", a, []string{event("ADT^A47", "W1", "PID|1||B", "MRG|A"), adt("W2", "B")}, []string{adt("G1", "C")}},
		{"a link (A24) has two PID", a, []string{event("ADT^A24", "W1", "PID|1||B", "PID|2||A"), adt("W2", "B")}, []string{adt("G1", "C")}},
		{"an unlink (A37) has two PID", a, []string{event("ADT^A37", "W1", "PID|1||B", "PID|2||A"), adt("W2", "B")}, []string{adt("G1", "C")}},
		{"a merge of several (A40) counts every pair", a,
			[]string{event("ADT^A40", "W1", "PID|1||B", "MRG|C", "PID|2||D", "MRG|A"), adt("W2", "C")}, []string{adt("G1", "E")}},
		{"prior alternate and external ids of MRG count", a,
			[]string{event("ADT^A40", "W1", "PID|1||B", "MRG|X|A"), event("ADT^A40", "W2", "PID|1||C", "MRG|Y|||A")}, []string{adt("G1", "E")}},
		{"a message without a patient waits for all, and none waits for it", a, []string{event("MFN^M02", "W1", "MFI|1")}, []string{adt("G1", "B")}},
		{"waits pass on through a chain", a,
			[]string{event("ADT^A40", "W1", "PID|1||B", "MRG|A"), event("ADT^A40", "W2", "PID|1||C", "MRG|B"), adt("W3", "C")}, []string{adt("G1", "D")}},
		{"a message with 64 identifiers waits for its own", a, []string{event("ADT^A08", "W1", many(63, "M")+"~A")}, []string{event("ADT^A08", "G1", many(64, "N"))}},
		{"one with more waits for all, and all wait for it", a, []string{event("ADT^A08", "W1", many(65, "M")), adt("W2", "B")}, nil},
	}
	each(t, func(t *testing.T, address, keys string) {
		g := &gate{}
		doors, channels := make([]*door, len(cases)), []engine.Channel{}
		wards := make([][]*ward, len(cases))
		windows := []int{1, 8, 64}
		for i := range cases {
			doors[i] = newDoor()
			var to []engine.Destination
			for _, n := range windows {
				w := newWard()
				w.do = refusing("FIRST", g.closed)
				wards[i], to = append(wards[i], w), append(to, destination(fmt.Sprintf("window-%d", n), w, ordered(engine.OrderPatient, n, engine.Retry)))
			}
			c := channel(doors[i], nil, to...)[0]
			c.Name = fmt.Sprintf("case-%d", i+1)
			channels = append(channels, c)
		}
		h := start(t, address, keys, channels)
		for i, tc := range cases {
			doors[i].mustSend(t, tc.first)
			doors[i].mustSend(t, tc.waits...)
			doors[i].mustSend(t, tc.goes...)
		}
		for i, tc := range cases {
			for _, w := range wards[i] {
				w.wait(t, len(tc.goes))
			}
		}
		time.Sleep(50 * time.Millisecond)
		for i, tc := range cases {
			for n, w := range wards[i] {
				if got := controls(t, w.got()); got != controls(t, tc.goes) {
					t.Errorf("%s, window %d: while the first waited came %q, want %q", tc.name, windows[n], got, controls(t, tc.goes))
				}
			}
		}
		g.release()
		h.settled(t)
		for i, tc := range cases {
			want := controls(t, slices.Concat(tc.goes, []string{tc.first}, tc.waits))
			for n, w := range wards[i] {
				if got := controls(t, w.got()); got != want {
					t.Errorf("%s, window %d: came %q, want %q", tc.name, windows[n], got, want)
				}
			}
		}
	})
}

// TestOrderSurvivesAChangeOfOrder: deliveries that were queued strictly have no patient keys. Once their queue is ordered by
// patient, what comes later must not overtake them all the same.
func TestOrderSurvivesAChangeOfOrder(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		d, w, g := newDoor(), newWard(), &gate{}
		w.do = refusing("C1", g.closed)
		h := start(t, address, keys, channel(d, nil, destination("lab", w, ordered(engine.OrderStrict, 8, engine.Retry))))
		d.mustSend(t, adt("C1", "P1"))
		eventually(t, "a refusal", func() bool { return h.find("C1").Deliveries[0].Attempts > 0 })
		h.stop()
		h = start(t, address, keys, channel(d, nil, destination("lab", w, ordered(engine.OrderPatient, 8, engine.Retry))))
		d.mustSend(t, adt("C2", "P1"), adt("C3", "P2"))
		time.Sleep(50 * time.Millisecond)
		g.release()
		h.settled(t)
		if got := controls(t, w.got()); got != "C1 C2 C3" {
			t.Errorf("came %s", got)
		}
	})
}

// A trickster is a receiver that refuses, cannot be reached, or takes a message and loses the answer, by lot. It checks at every
// attempt that nothing was overtaken.
type trickster struct {
	t     *testing.T
	order engine.Order
	skip  bool // a refusal is the end of a delivery

	mu    sync.Mutex
	rand  *rand.Rand
	all   []*passage          // in the order of acceptance
	by    map[string]*passage // control ID
	calm  bool                // takes everything
	tried int
}

type passage struct {
	control string
	ids     []string // none: waits for all
	barrier bool     // and all wait for it
	over    bool     // taken, or set aside
	unknown bool     // an attempt ended without an answer
	taken   int
}

func (a *passage) sharesWith(b *passage) bool {
	return a.barrier || b.barrier || len(b.ids) == 0 || slices.ContainsFunc(a.ids, func(id string) bool { return slices.Contains(b.ids, id) })
}

func (tr *trickster) Close() error { return nil }

func (tr *trickster) Send(_ context.Context, block []byte) (engine.Reply, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	m, err := hl7.Parse(block)
	if err != nil {
		tr.t.Error(err)
	}
	tr.tried++
	me := tr.by[m.ControlID()]
	if !me.over {
		for _, earlier := range tr.all {
			if earlier == me {
				break
			}
			if !earlier.over && (tr.order == engine.OrderStrict || earlier.sharesWith(me)) {
				tr.t.Errorf("%s %v was sent before %s %v", me.control, me.ids, earlier.control, earlier.ids)
			}
		}
	}
	lot := tr.rand.IntN(12)
	switch {
	case tr.calm || lot > 4:
		me.over = true
		me.taken++
		return engine.Reply{Taken: true, Code: "AA"}, nil
	case lot == 0:
		return engine.Reply{}, &engine.NotSent{Err: errors.New("no route")}
	case lot == 1: // the answer was lost
		me.over, me.unknown = true, true
		me.taken++
		return engine.Reply{}, errors.New("the connection broke")
	case lot == 2: // the message was
		me.unknown = true
		return engine.Reply{}, errors.New("the connection broke")
	}
	if tr.skip {
		me.over = true
	}
	return engine.Reply{Code: "AE 207"}, nil
}

// TestNothingIsOvertaken: by whatever lot of refusals, outages, lost answers and restarts, a delivery never leaves before an
// earlier one that it has to wait for, and is marked as a possible duplicate exactly when an attempt's fate was not known.
func TestNothingIsOvertaken(t *testing.T) {
	for _, tc := range []struct {
		order  engine.Order
		window int
		policy engine.Policy
		seed   uint64
	}{
		{engine.OrderStrict, 1, engine.Retry, 1}, {engine.OrderStrict, 8, engine.Retry, 2}, {engine.OrderStrict, 64, engine.Skip, 3},
		{engine.OrderPatient, 1, engine.Retry, 4}, {engine.OrderPatient, 8, engine.Retry, 5}, {engine.OrderPatient, 64, engine.Retry, 6},
		{engine.OrderPatient, 64, engine.Skip, 7}, {engine.OrderPatient, 8, engine.Retry, 8},
	} {
		t.Run(fmt.Sprintf("%s,window=%d,%s,seed=%d", tc.order, tc.window, tc.policy, tc.seed), func(t *testing.T) {
			address, keys := dbtest.SQLite(t), t.TempDir()
			if tc.seed%4 == 1 && os.Getenv(dbtest.Variable) != "" {
				address = dbtest.PostgreSQL(t)
			}
			lot := rand.New(rand.NewPCG(tc.seed, 0))
			tr := &trickster{t: t, order: tc.order, skip: tc.policy == engine.Skip, rand: rand.New(rand.NewPCG(tc.seed, 1)), by: map[string]*passage{}}
			d := newDoor()
			channels := channel(d, nil, destination("lab", tr, ordered(tc.order, tc.window, tc.policy), func(d *engine.Destination) {
				d.Retry = engine.Backoff{First: time.Millisecond, Max: 4 * time.Millisecond, Jitter: 0.5}
			}))
			h := start(t, address, keys, channels)
			const rounds, each = 4, 40
			for round := range rounds {
				for i := range each {
					one := &passage{control: fmt.Sprintf("R%dM%d", round, i)}
					block := someone(lot, one)
					tr.mu.Lock()
					tr.all, tr.by[one.control] = append(tr.all, one), one
					tr.mu.Unlock()
					d.mustSend(t, block)
				}
				if round < rounds-1 {
					h.stop()
					h = start(t, address, keys, channels)
				}
			}
			time.Sleep(30 * time.Millisecond)
			tr.mu.Lock()
			tr.calm = true
			tr.mu.Unlock()
			h.settled(t)
			tr.check(h)
			h.verify()
		})
	}
}

// someone is a message about one patient mostly, two now and then, none or too many sometimes.
func someone(lot *rand.Rand, m *passage) string {
	id := func() string { return fmt.Sprintf("P%d", lot.IntN(6)) }
	switch lot.IntN(12) {
	case 0:
		return message("MFN^M02", m.control, "P", "2.5.1", "MFI|1")
	case 1:
		m.barrier = true
		var ids []string
		for i := range 70 {
			ids = append(ids, fmt.Sprintf("X%d", i))
		}
		return message("ADT^A08", m.control, "P", "2.5.1", "PID|1||"+strings.Join(ids, "~"))
	case 2, 3:
		m.ids = []string{id(), id()}
		return message("ADT^A40", m.control, "P", "2.5.1", "PID|1||"+m.ids[0], "MRG|"+m.ids[1])
	case 4, 5:
		m.ids = []string{id(), id()}
		return message("ADT^A08", m.control, "P", "2.5.1", "PID|1||"+m.ids[0]+"~"+m.ids[1])
	}
	m.ids = []string{id()}
	return adt(m.control, m.ids[0])
}

func (tr *trickster) check(h *house) {
	tr.t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	unknown := 0
	for _, m := range h.list(engine.Query{Limit: 1000}) {
		one, del := tr.by[m.ControlID], m.Deliveries[0]
		if one.unknown {
			unknown++
		}
		if marked := len(del.Notes) > 0; marked != one.unknown {
			tr.t.Errorf("%s: marked as possible duplicate: %t; an attempt's fate was unknown: %t", one.control, marked, one.unknown)
		}
		if want := map[bool]string{true: "sent", false: "error"}[one.taken > 0]; del.State != want && !(one.taken > 0 && tr.skip) {
			tr.t.Errorf("%s is %s, and was taken %d times", one.control, del.State, one.taken)
		}
		if !one.over || one.taken > 1 && !one.unknown || !tr.skip && one.taken == 0 {
			tr.t.Errorf("%s: over %t, taken %d times", one.control, one.over, one.taken)
		}
	}
	tr.t.Logf("%d messages, %d attempts, %d with an unknown fate", len(tr.all), tr.tried, unknown)
}
