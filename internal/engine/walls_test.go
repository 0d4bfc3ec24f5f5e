package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// TestWallsBetweenOrganisations: two organisations on one database. What one asks about a message of the other's is answered like
// what nobody has ever had.
func TestWallsBetweenOrganisations(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		ctx := context.Background()
		theirs, ours := newDoor(), newDoor()
		org := func(name string) func(*db.Config, *engine.Config) {
			return func(_ *db.Config, e *engine.Config) { e.Organisation = name }
		}
		first := newWard()
		h := startWith(t, address, keys, channel(theirs, nil, destination("lab", first)), org("north"))
		theirs.mustSend(t, adt("C1", "P1"))
		theirs.send("garbage")
		first.wait(t, 1)
		h.settled(t)
		id := h.find("C1").ID
		h.stop()
		h = startWith(t, address, keys, channel(ours, nil, destination("lab", newWard())), org("south"))
		for name, q := range map[string]engine.Query{
			"everything": {}, "a channel of the same name": {Channel: "adt"}, "rejected": {Status: "rejected"}, "sent": {Status: "sent"},
			"a control ID": {ControlID: "C1"}, "a patient": {Patient: "P1"}, "a type": {Type: "ADT^A01"}, "failed": {Status: "error", Channel: "adt"},
		} {
			if got := h.list(q); len(got) != 0 {
				t.Errorf("%s: listed %+v", name, got)
			}
		}
		nobody := h.db.NewID()
		for name, ask := range map[string]func(db.ID) error{
			"show":    func(id db.ID) error { _, err := h.engine.Show(ctx, clerk(), id); return err },
			"trace":   func(id db.ID) error { _, err := h.engine.Trace(ctx, clerk(), id); return err },
			"resend":  func(id db.ID) error { _, err := h.engine.Resend(ctx, clerk(), id, nil); return err },
			"resend2": func(id db.ID) error { _, err := h.engine.Resend(ctx, clerk(), id, []string{"lab"}); return err },
		} {
			alien, unknown := ask(id), ask(nobody)
			if !isNotFound(alien) || !isNotFound(unknown) {
				t.Errorf("%s: %v and %v, want not found", name, alien, unknown)
				continue
			}
			if a, u := strings.ReplaceAll(alien.Error(), id.String(), "ID"), strings.ReplaceAll(unknown.Error(), nobody.String(), "ID"); a != u {
				t.Errorf("%s tells them apart: %q and %q", name, a, u)
			}
		}
		if s := h.state("adt", "lab"); s.Waiting != 0 {
			t.Errorf("the other's queue is seen: %+v", s)
		}
		// The same message is no duplicate of the other's, and neither is found among the other's.
		ours.mustSend(t, adt("C1", "P1"))
		if m := h.find("C1"); m.ID == id || len(m.Notes) > 0 {
			t.Errorf("found %+v", m)
		}
		h.stop()
		h = startWith(t, address, keys, channel(theirs, nil, destination("lab", first)), org("north"))
		if got := h.find("C1").ID; got != id {
			t.Errorf("the first organisation finds %s, want its own %s", got, id)
		}
		h.verify()
	})
}

// TestEveryTouchIsOnRecord: who looked at a message, looked for a patient, or sent again, with the purpose, and of a search never
// the name that was looked for.
func TestEveryTouchIsOnRecord(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		ctx := context.Background()
		d, w := newDoor(), newWard()
		h := start(t, address, keys, channel(d, nil, destination("lab", w)))
		d.mustSend(t, adt("C1", "SECRET1"))
		w.wait(t, 1)
		h.settled(t)
		id := h.find("C1").ID
		if _, err := h.engine.Show(ctx, clerk(), id); err != nil {
			t.Fatal(err)
		}
		if _, err := h.engine.Trace(ctx, clerk(), id); err != nil {
			t.Fatal(err)
		}
		if _, err := h.engine.Resend(ctx, clerk(), id, nil); err != nil {
			t.Fatal(err)
		}
		w.wait(t, 2)
		h.settled(t)
		h.list(engine.Query{Patient: "secret1"})
		h.list(engine.Query{Patient: "nobody"})
		for _, tc := range []struct {
			event audit.Event
			times int
			what  string
		}{
			{audit.ContentRead, 1, id.String()}, {audit.AuditLogUsed, 1, id.String()}, {audit.MessageResent, 1, id.String()}, {audit.Searched, 2, ""},
		} {
			list := h.recorded(tc.event)
			if len(list) != tc.times {
				t.Errorf("%s: %d entries, want %d", tc.event, len(list), tc.times)
			}
			for _, r := range list {
				if r.OSUser != "kim" || r.Purpose != "HOPERAT" || r.Program != "lazaret test" || r.ResourceID != tc.what || r.Org == 0 {
					t.Errorf("%s: %+v", tc.event, r)
				}
				for _, detail := range r.Details {
					if text, _ := detail.Value().(string); strings.Contains(strings.ToUpper(text), "SECRET") {
						t.Errorf("%s: detail %s tells whom it was about", tc.event, detail.Key())
					}
				}
			}
		}
		if got := h.events(id); got != "message-accepted delivery-sent patient-record audit-log-used message-resent delivery-sent" {
			t.Errorf("the message's own record: %s", got)
		}
		m := h.find("C1")
		if len(m.Deliveries) != 2 || m.Deliveries[1].State != "sent" || len(m.Deliveries[1].Notes) != 1 || len(m.Deliveries[0].Notes) != 0 {
			t.Errorf("deliveries: %+v", m.Deliveries)
		}
		h.verify()
	})
}

// TestNoReadingWithoutARecord: where the record cannot be written, nothing is shown.
func TestNoReadingWithoutARecord(t *testing.T) {
	broken := false // changed while no commit is under way
	d := newDoor()
	h := start(t, "sqlite:"+t.TempDir()+"/l.db", t.TempDir(), channel(d, nil, destination("lab", newWard(), func(d *engine.Destination) { d.Enabled = false })),
		func(c *db.Config) {
			c.Fault = func(at db.Stage) error {
				if broken && at == db.BeforeCommit {
					return errors.New("no record today")
				}
				return nil
			}
		})
	d.mustSend(t, adt("C1", "P1"))
	id := h.find("C1").ID
	broken = true
	ctx := context.Background()
	for name, ask := range map[string]func() (any, error){
		"show":  func() (any, error) { m, err := h.engine.Show(ctx, clerk(), id); return string(m.Content), err },
		"trace": func() (any, error) { m, err := h.engine.Trace(ctx, clerk(), id); return m.ControlID, err },
		"search": func() (any, error) {
			p, err := h.engine.List(ctx, clerk(), engine.Query{Patient: "P1"})
			return len(p.Messages), err
		},
		"resend": func() (any, error) { m, err := h.engine.Resend(ctx, clerk(), id, nil); return len(m), err },
	} {
		if got, err := ask(); err == nil || got != "" && got != 0 {
			t.Errorf("%s without a record gave %v, %v", name, got, err)
		}
	}
	broken = false
}
