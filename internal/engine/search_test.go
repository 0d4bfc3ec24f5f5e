package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// page lists control IDs, newest first.
func (h *house) page(q engine.Query) string {
	h.t.Helper()
	var list []string
	for _, m := range h.list(q) {
		list = append(list, m.ControlID)
	}
	return strings.Join(list, " ")
}

// TestSearch asks a house of a few days for messages by everything that it can be asked by, first as they came, then sorted into
// buckets, then after a restart.
func TestSearch(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		begin := time.Date(2026, 1, 30, 12, 0, 0, 0, time.UTC)
		c := clockAt(begin)
		adtDoor, oruDoor := newDoor(), newDoor()
		lab, refusing := newWard(), newWard()
		refusing.do = func(_ int, block []byte) (engine.Reply, error) {
			return engine.Reply{Taken: !strings.Contains(string(block), "|R2|"), Code: "AE"}, nil
		}
		channels := channel(adtDoor, func(c *engine.Channel) { c.Admit.Types = []string{"ADT"} },
			destination("lab", lab, func(d *engine.Destination) { d.Filter = filter(t, `MSH-9.2 != "A08"`) }))
		channels = append(channels, channel(oruDoor, func(c *engine.Channel) { c.Name = "oru" },
			destination("archive", refusing, func(d *engine.Destination) { d.OnReject = engine.Skip }))...)
		small := 0
		open := func() *house {
			return startWith(t, address, keys, channels, func(d *db.Config, e *engine.Config) {
				c.everywhere(d, e)
				e.SmallBuckets(small)
			})
		}
		h := open()
		event := func(typ, control string, segments ...string) string {
			return message(typ, control, "P", "2.5.1", segments...)
		}
		day := func(d *door, blocks ...string) {
			for _, b := range blocks {
				d.send(b)
			}
			h.settled(t)
			c.advance(24 * time.Hour)
		}
		// 30 January, 31 January, 1 February, 2 February, about noon.
		day(adtDoor, adt("A1", "P1"), event("ADT^A08", "A2", "PID|1||P2"), event("ORU^R01", "A3", "PID|1||P1"))
		day(oruDoor, event("ORU^R01", "R1", "PID|1||P1"), event("ORU^R01", "R2", "PID|1||P2"))
		day(adtDoor, event("ADT^A40", "A4", "PID|1||P1", "MRG|P9"), adt("A1", "P3"))
		day(oruDoor, event("ORU^R01", "R3", "PID|1|| p1 ^^^NORTH"), event("ORM^O01", "R4", "PID|1||P4~P1"))
		at := func(days, hours int) time.Time { return begin.Add(time.Duration(days*24+hours) * time.Hour) }
		cases := []struct {
			name string
			q    engine.Query
			want string
		}{
			{"everything, newest first", engine.Query{}, "R4 R3 A1 A4 R2 R1 A3 A2 A1"},
			{"by channel", engine.Query{Channel: "oru"}, "R4 R3 R2 R1"},
			{"by the other channel, rejected ones too", engine.Query{Channel: "adt"}, "A1 A4 A3 A2 A1"},
			{"by status: rejected", engine.Query{Status: "rejected"}, "A3"},
			{"by status: accepted", engine.Query{Status: "accepted"}, "R4 R3 A1 A4 R2 R1 A2 A1"},
			{"by what became of a delivery: filtered", engine.Query{Status: "filtered"}, "A2"},
			{"by what became of a delivery: error", engine.Query{Status: "error"}, "R2"},
			{"error, of one channel", engine.Query{Status: "error", Channel: "oru"}, "R2"},
			{"error, of the channel that has none", engine.Query{Status: "error", Channel: "adt"}, ""},
			{"sent", engine.Query{Status: "sent"}, "R4 R3 A1 A4 R1 A1"},
			{"by type and event", engine.Query{Type: "ORU^R01"}, "R3 R2 R1 A3"},
			{"by type with all its events", engine.Query{Type: "ADT"}, "A1 A4 A2 A1"},
			{"a type that begins alike is another", engine.Query{Type: "OR"}, ""},
			{"by control ID, which need not be unique", engine.Query{ControlID: "A1"}, "A1 A1"},
			{"by patient, over two months, in any case and repetition", engine.Query{Patient: "p1"}, "R4 R3 A4 R1 A3 A1"},
			{"by the identifier that was merged away", engine.Query{Patient: "P9"}, "A4"},
			{"by a patient that nobody knows", engine.Query{Patient: "P7"}, ""},
			{"by patient and channel", engine.Query{Patient: "P1", Channel: "oru"}, "R4 R3 R1"},
			{"by patient and type", engine.Query{Patient: "P1", Type: "ORU^R01"}, "R3 R1 A3"},
			{"by patient and control ID", engine.Query{Patient: "P3", ControlID: "A1"}, "A1"},
			{"since a time", engine.Query{From: at(1, -1)}, "R4 R3 A1 A4 R2 R1"},
			{"before a time", engine.Query{To: at(1, -1)}, "A3 A2 A1"},
			{"between times", engine.Query{From: at(1, -1), To: at(3, -1)}, "A1 A4 R2 R1"},
			{"by patient between times", engine.Query{Patient: "P1", From: at(1, -1), To: at(3, -1)}, "A4 R1"},
			{"before everything", engine.Query{To: begin.Add(-2 * time.Hour)}, ""},
			{"after everything", engine.Query{From: at(5, 0)}, ""},
			{"the two newest", engine.Query{Limit: 2}, "R4 R3"},
			{"the newest of a patient", engine.Query{Patient: "P1", Limit: 1}, "R4"},
		}
		ask := func(when string) {
			t.Helper()
			for _, tc := range cases {
				if got := h.page(tc.q); got != tc.want {
					t.Errorf("%s, %s: %s, want %s", when, tc.name, got, tc.want)
				}
			}
		}
		ask("as they came")
		h.stop()
		small = 8 // two messages or three
		h = open()
		c.advance(-24 * time.Hour)
		oruDoor.mustSend(t, event("ORU^R01", "LAST", "PID|1||P8"))
		eventually(t, "a bucket", func() bool { return h.buckets() > 0 })
		for i := range cases {
			cases[i].q.Before = h.find("LAST").Number
		}
		ask("in a bucket")
		h.stop()
		h = open()
		ask("after a restart")
		for _, q := range []engine.Query{{Channel: "nowhere"}, {Channel: "nowhere", Patient: "P1"}} {
			if _, err := h.engine.List(context.Background(), clerk(), q); !isNotFound(err) {
				t.Errorf("a channel that is not there: %v", err)
			}
		}
		if _, err := h.engine.List(context.Background(), clerk(), engine.Query{Status: "lost"}); err == nil {
			t.Error("an unknown status was taken")
		}
	})
}

// TestPaging: pages of any size are the whole list, in order, each message once, while new ones come in.
func TestPaging(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		d := newDoor()
		h := startWith(t, address, keys, channel(d, nil, destination("lab", newWard())), func(_ *db.Config, e *engine.Config) { e.SmallBuckets(60) })
		const n = 120
		for i := range n {
			d.mustSend(t, adt(fmt.Sprintf("C%d", i), fmt.Sprintf("P%d", i%3)))
		}
		eventually(t, "several buckets", func() bool { return h.buckets() >= 3 })
		for _, q := range []engine.Query{{Limit: 7}, {Limit: 7, Patient: "P1"}, {Limit: 1, Patient: "P2"}, {Limit: 60, Type: "ADT^A01"}, {Limit: 1000}, {Limit: 5, Status: "accepted"}} {
			var got []string
			for {
				page, err := h.engine.List(context.Background(), clerk(), q)
				if err != nil {
					t.Fatal(err)
				}
				if len(page.Messages) > q.Limit || page.Total != len(page.Messages) {
					t.Errorf("%+v: a page of %d, total %d", q, len(page.Messages), page.Total)
				}
				for _, m := range page.Messages {
					got = append(got, m.ControlID)
				}
				if len(got) == q.Limit { // the first page
					d.mustSend(t, adt("NEW", "P0"))
				}
				if q.Before = page.Next; q.Before == 0 {
					break
				}
			}
			var want []string
			for i := n - 1; i >= 0; i-- {
				if q.Patient == "" || q.Patient == fmt.Sprintf("P%d", i%3) {
					want = append(want, fmt.Sprintf("C%d", i))
				}
			}
			got = slices.DeleteFunc(got, func(s string) bool { return s == "NEW" })
			if !slices.Equal(got, want) {
				t.Errorf("%+v: pages hold %v, want %v", q, got, want)
			}
		}
	})
}

// TestABucketThatWasNotCommitted: a crash between reading the recent tokens and committing the bucket changes nothing that can be
// found, and the bucket is made later.
func TestABucketThatWasNotCommitted(t *testing.T) {
	for name, stage := range map[string]db.Stage{"nothing was kept": db.BeforeCommit, "it was kept, and nobody was told": db.AfterCommit} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, address, keys string) {
				d := newDoor()
				// Nothing is delivered, so after the message that fills the bucket the next commit is the bucket's.
				channels := channel(d, window(time.Hour), destination("lab", newWard(), func(d *engine.Destination) { d.Enabled = false }))
				var armed atomic.Bool
				var commits atomic.Int64
				h := startWith(t, address, keys, channels, func(c *db.Config, e *engine.Config) {
					e.SmallBuckets(100)
					c.Fault = func(at db.Stage) error {
						if at == stage && armed.Load() && commits.Add(1) > 1 {
							return errors.New("the machine stopped")
						}
						return nil
					}
				})
				const n = 19 // five tokens each: the twentieth fills the bucket
				for i := range n {
					d.mustSend(t, adt(fmt.Sprintf("C%d", i), "P1"))
				}
				armed.Store(true)
				d.mustSend(t, adt("C19", "P1"))
				eventually(t, "the bucket's commit broke", func() bool { return commits.Load() > 1 })
				h.stop()
				h = startWith(t, address, keys, channels, func(_ *db.Config, e *engine.Config) { e.SmallBuckets(100) })
				if got := len(h.list(engine.Query{Patient: "P1"})); got != n+1 {
					t.Errorf("%d found by patient, want %d", got, n+1)
				}
				for i := range n + 1 {
					d.mustSend(t, adt(fmt.Sprintf("C%d", i), "P1"))
				}
				if got := len(h.recorded(audit.MessageDuplicate)); got != n+1 {
					t.Errorf("%d duplicates, want %d", got, n+1)
				}
				d.mustSend(t, adt("C20", "P1"))
				eventually(t, "the bucket was made", func() bool { return h.buckets() >= 1 })
				if got := len(h.list(engine.Query{Patient: "P1"})); got != n+2 {
					t.Errorf("with the bucket %d found by patient, want %d", got, n+2)
				}
			})
		})
	}
}
