package engine_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// answerID is MSH-10 of an answer.
func answerID(t *testing.T, answer string) string {
	t.Helper()
	m, err := hl7.Parse([]byte(answer))
	if err != nil {
		t.Fatal(err)
	}
	return m.ControlID()
}

func window(w time.Duration) func(*engine.Channel) {
	return func(c *engine.Channel) { c.Admit.Duplicates = w }
}

// TestDuplicates sends two messages, the second some time after the first, and looks at what the second is taken for.
func TestDuplicates(t *testing.T) {
	const again, flagged, accepted = "again", "flagged", "accepted"
	in := adt("C1", "P1")
	north, south := named("north"), named("south")
	from := func(addr string) engine.Peer { return engine.Peer{Addr: netip.MustParseAddrPort(addr)} }
	cases := []struct {
		name     string
		window   time.Duration
		one, two engine.Peer
		first    string
		later    time.Duration
		second   string
		want     string
	}{
		{"the same from the same sender is a duplicate", time.Hour, north, north, in, time.Minute, in, again},
		{"other content under the same control ID is accepted and flagged", time.Hour, north, north, in, time.Minute, adt("C1", "P2"), flagged},
		{"one byte more is other content", time.Hour, north, north, in, time.Minute, in + "\r", flagged},
		{"another control ID is another message", time.Hour, north, north, in, time.Minute, adt("C2", "P1"), accepted},
		{"the same from another sender is another message", time.Hour, north, south, in, time.Minute, in, accepted},
		{"a sender without a certificate is its address, whatever the port", time.Hour, from("10.0.0.1:1"), from("10.0.0.1:2"), in, time.Minute, in, again},
		{"another address is another sender", time.Hour, from("10.0.0.1:1"), from("10.0.0.2:1"), in, time.Minute, in, accepted},
		{"at the end of the window it is still a duplicate", time.Hour, north, north, in, time.Hour - time.Minute, in, again},
		{"outside the window it is a new message, without a flag", time.Hour, north, north, in, time.Hour + time.Minute, in, accepted},
		{"outside the window other content is not flagged", time.Hour, north, north, in, time.Hour + time.Minute, adt("C1", "P2"), accepted},
		{"without a window nothing is a duplicate", 0, north, north, in, time.Minute, in, accepted},
		{"without a control ID nothing is a duplicate", time.Hour, north, north, adt("", "P1"), time.Minute, adt("", "P1"), accepted},
	}
	each(t, func(t *testing.T, address, keys string) {
		c := clockAt(time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC))
		doors, wards, channels := make([]*door, len(cases)), make([]*ward, len(cases)), []engine.Channel{}
		for i, tc := range cases {
			doors[i], wards[i] = newDoor(), newWard()
			ch := channel(doors[i], window(tc.window), destination("lab", wards[i]))[0]
			ch.Name = fmt.Sprintf("case-%d", i+1)
			channels = append(channels, ch)
		}
		h := startWith(t, address, keys, channels, c.everywhere)
		for i, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				first, err := doors[i].sendAs(tc.one, tc.first)
				mustAnswer(t, first, err, "AA")
				c.advance(tc.later)
				second, err := doors[i].sendAs(tc.two, tc.second)
				mustAnswer(t, second, err, "AA")
				if same := answerID(t, first) == answerID(t, second); same != (tc.want == again) {
					t.Errorf("answers %q and %q", first, second)
				}
				want := 2
				if tc.want == again {
					want = 1
				}
				wards[i].wait(t, want)
				list := h.list(engine.Query{Channel: channels[i].Name})
				if len(list) != want || (len(list[0].Notes) == 1) != (tc.want == flagged) {
					t.Errorf("listed as %+v, want %d, %s", list, want, tc.want)
				}
				if got := h.metric(`lazaret_messages_total{channel="` + channels[i].Name + `",result="duplicate"}`); got != 2-want {
					t.Errorf("counted %d duplicates, want %d", got, 2-want)
				}
				if got := h.events(list[0].ID); strings.Contains(got, "message-duplicate") != (tc.want == again) {
					t.Errorf("on record: %s", got)
				}
			})
		}
		h.settled(t)
		for i, tc := range cases {
			if n := len(wards[i].got()); (n == 1) != (tc.want == again) {
				t.Errorf("%s: delivered %d", tc.name, n)
			}
		}
		h.verify()
	})
}

// TestDuplicatesAcrossMonths: the key of a duplicate's blind value changes with the month, and a window may reach over several.
func TestDuplicatesAcrossMonths(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		c := clockAt(time.Date(2026, 1, 31, 23, 59, 59, 0, time.UTC))
		d := newDoor()
		h := startWith(t, address, keys, channel(d, window(50*24*time.Hour), destination("lab", newWard())), c.everywhere)
		d.mustSend(t, adt("JAN", "P1"))
		c.advance(2 * time.Second)
		d.mustSend(t, adt("JAN", "P1"), adt("FEB", "P1"))
		c.advance(31 * 24 * time.Hour) // 4 March: the window reaches back to 13 January
		d.mustSend(t, adt("JAN", "P1"), adt("FEB", "P1"), adt("MAR", "P1"))
		h.stop()
		h = startWith(t, address, keys, channel(d, window(50*24*time.Hour), destination("lab", newWard())), c.everywhere)
		d.mustSend(t, adt("JAN", "P1"), adt("FEB", "P1"), adt("MAR", "P1"))
		if got := len(h.list(engine.Query{})); got != 3 {
			t.Errorf("%d messages, want JAN, FEB and MAR once each", got)
		}
		c.advance(30 * 24 * time.Hour) // 3 April: back to 12 February
		d.mustSend(t, adt("JAN", "P1"), adt("FEB", "P1"), adt("MAR", "P1"))
		if got := controls(t, contents(h)); got != "JAN FEB MAR JAN FEB" {
			t.Errorf("kept %s; want JAN and FEB anew, which are older than the window, and MAR once", got)
		}
	})
}

// contents are the messages of the house, oldest first, as far as a list of 1000 goes.
func contents(h *house) (list []string) {
	h.t.Helper()
	all := h.list(engine.Query{Limit: 1000})
	for i := range all {
		d, err := h.engine.Show(context.Background(), clerk(), all[len(all)-1-i].ID)
		if err != nil {
			h.t.Fatal(err)
		}
		list = append(list, string(d.Content))
	}
	return list
}

// TestARejectedMessageIsNoOriginal: the first of two must have been accepted.
func TestARejectedMessageIsNoOriginal(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		rules := func(typ string) func(*engine.Channel) {
			return func(c *engine.Channel) { c.Admit.Types, c.Admit.Duplicates = []string{typ}, time.Hour }
		}
		d, w := newDoor(), newWard()
		h := start(t, address, keys, channel(d, rules("ORU"), destination("lab", w)))
		for range 2 {
			answer, err := d.send(adt("C1", "P1"))
			mustAnswer(t, answer, err, "AR")
		}
		if got := len(h.list(engine.Query{Status: "rejected"})); got != 2 {
			t.Errorf("%d rejected, want both", got)
		}
		h.stop()
		h = start(t, address, keys, channel(d, rules("ADT"), destination("lab", w)))
		d.mustSend(t, adt("C1", "P1"), adt("C1", "P1"))
		w.wait(t, 1)
		h.settled(t)
		if got := len(w.got()); got != 1 {
			t.Errorf("delivered %d, want 1", got)
		}
	})
}

// TestCopiesAtOnce: copies that are committed in one group are seen too.
func TestCopiesAtOnce(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		d, w := newDoor(), newWard()
		var slow atomic.Bool
		h := start(t, address, keys, channel(d, window(time.Hour), destination("lab", w)), func(c *db.Config) {
			c.Fault = func(at db.Stage) error {
				if slow.Swap(false) {
					time.Sleep(150 * time.Millisecond) // the rest becomes one group meanwhile
				}
				return nil
			}
		})
		h.settled(t)
		const copies = 12
		var wg sync.WaitGroup
		slow.Store(true)
		wg.Go(func() { d.send(adt("FIRST", "P1")) })
		eventually(t, "a slow commit", func() bool { return !slow.Load() })
		answers := make([]string, copies)
		for i := range copies {
			wg.Go(func() { answers[i], _ = d.send(adt("C1", "P1")) })
		}
		wg.Wait()
		for _, a := range answers {
			mustAnswer(t, a, nil, "AA")
			if answerID(t, a) != answerID(t, answers[0]) {
				t.Errorf("answered %q and %q", a, answers[0])
			}
		}
		w.wait(t, 2)
		h.settled(t)
		if got := len(w.got()); got != 2 {
			t.Errorf("delivered %d, want FIRST and one of %d copies", got, copies)
		}
		if got := len(h.recorded(audit.MessageDuplicate)); got != copies-1 {
			t.Errorf("%d duplicates on record, want %d", got, copies-1)
		}
	})
}

// buckets counts the sorted buckets of the index.
func (h *house) buckets() (n int64) {
	h.t.Helper()
	err := h.db.Read(context.Background(), func(tx *db.Tx) error {
		return tx.QueryRow(`SELECT count(*) FROM token_bucket`, nil, &n)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

// TestDuplicatesInBuckets: what was sorted into buckets is found through their filters, before a restart and after, also with a
// laboratory among the senders that uses one control ID for all its messages.
func TestDuplicatesInBuckets(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		d := newDoor()
		small := func(_ *db.Config, e *engine.Config) { e.SmallBuckets(100) }
		h := startWith(t, address, keys, channel(d, window(time.Hour), destination("lab", newWard())), small)
		const n = 60
		for i := range n {
			d.mustSend(t, adt(fmt.Sprintf("C%d", i), "P1"), adt("CONSTANT", fmt.Sprintf("P%d", i)))
		}
		eventually(t, "four buckets", func() bool { return h.buckets() >= 4 })
		repeat := func() {
			t.Helper()
			for i := range n {
				d.mustSend(t, adt(fmt.Sprintf("C%d", i), "P1"), adt("CONSTANT", fmt.Sprintf("P%d", i)))
			}
			if got := len(h.list(engine.Query{Limit: 1000})); got != 2*n {
				t.Fatalf("%d messages, want %d", got, 2*n)
			}
		}
		repeat()
		h.stop()
		h = startWith(t, address, keys, channel(d, window(time.Hour), destination("lab", newWard())), small)
		repeat()
		flagged := 0
		for _, m := range h.list(engine.Query{Limit: 1000}) {
			if len(m.Notes) > 0 {
				flagged++
			}
		}
		if flagged != n-1 {
			t.Errorf("%d flagged as a reused control ID, want all but the first of %d", flagged, n)
		}
		if got := len(h.list(engine.Query{ControlID: "CONSTANT", Limit: 1000})); got != n {
			t.Errorf("%d found by the constant control ID, want %d", got, n)
		}
	})
}

// TestDuplicatesOnReplicas: every replica accepts, so every one must know what the others took, in memory, in rows or in buckets.
func TestDuplicatesOnReplicas(t *testing.T) {
	if os.Getenv(dbtest.Variable) == "" {
		t.Log("no PostgreSQL: replicas are tested where there is one (make postgres)")
		return
	}
	address, keys := dbtest.PostgreSQL(t), t.TempDir()
	small := func(_ *db.Config, e *engine.Config) { e.SmallBuckets(100) }
	one, two, w := newDoor(), newDoor(), newWard()
	a := startWith(t, address, keys, channel(one, window(time.Hour), destination("lab", w)), small)
	b := startWith(t, address, keys, channel(two, window(time.Hour), destination("lab", w)), small)
	const n = 50
	for i := range n {
		one.mustSend(t, adt(fmt.Sprintf("C%d", i), "P1"))
	}
	eventually(t, "two buckets", func() bool { return a.buckets() >= 2 })
	for i := range n {
		two.mustSend(t, adt(fmt.Sprintf("C%d", i), "P1"))
	}
	var wg sync.WaitGroup
	for i := range n {
		for _, d := range []*door{one, two} {
			wg.Go(func() {
				if answer, err := d.send(adt(fmt.Sprintf("D%d", i), "P1")); err != nil || !strings.Contains(answer, "MSA|AA|") {
					t.Errorf("answered %q, %v", answer, err)
				}
			})
		}
	}
	wg.Wait()
	w.wait(t, 2*n)
	b.settled(t)
	if got := len(w.got()); got != 2*n {
		t.Errorf("delivered %d, want %d", got, 2*n)
	}
	// 50 from either, five tokens each: five buckets at most. A replica that trusted its own count would make one a group.
	if got := b.buckets(); got > 6 {
		t.Errorf("%d buckets for %d tokens", got, 2*n*5)
	}
	b.verify()
}
