package retention_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/retention"
	"github.com/lazaret-health/lazaret/internal/seal"
)

func TestAMonthGoesKeysFirst(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		h := build(t, address, newClock("2026-01-10"), ninety())
		old := h.fill("adt", "2026-01-10", 5)
		old = append(old, h.fill("lab", "2026-01-31", 3)...)
		young := h.fill("adt", "2026-02-01", 4)
		sent := h.count(`SELECT count(*) FROM audit_log WHERE event_type = 'delivery-sent'`)

		h.clock.set("2026-04-30")
		if m := h.plan()["2026-01"]; m.State != retention.Kept {
			t.Fatalf("a day before its time January is %q", m.State)
		}
		h.clock.set("2026-05-02")
		m := h.plan()["2026-01"]
		if m.State != retention.Goes || m.Now != 8 || m.Content != 8 {
			t.Fatalf("the plan for January: %+v", m)
		}
		if n := h.count(`SELECT count(*) FROM content`); n != 12 {
			t.Fatalf("the plan has changed something: %d contents", n)
		}
		if p := h.run(); p.Error != "" || len(p.Certificates) != 1 {
			t.Fatalf("the run: %+v", p)
		}
		if n := h.count(`SELECT count(*) FROM content`); n != 4 {
			t.Errorf("%d contents are left, want February's 4", n)
		}
		if n := h.count(`SELECT count(*) FROM delivery WHERE length(keys) > 0`); n != 4 {
			t.Errorf("%d deliveries still have order keys, want February's 4", n)
		}
		if n := h.count(`SELECT count(*) FROM message`); n != 12 {
			t.Errorf("%d messages have their metadata, want all 12", n)
		}
		if n := h.count(`SELECT count(*) FROM audit_log WHERE event_type = 'delivery-sent'`); n != sent {
			t.Errorf("%d disclosures can be counted, before it were %d", n, sent)
		}
		ctx := context.Background()
		for _, id := range old {
			if err := h.show(id); !errors.Is(err, engine.ErrNotFound) {
				t.Fatalf("show of what was disposed of: %v", err)
			}
			if _, err := h.engine.Resend(ctx, engine.Actor{}, id, nil); !errors.Is(err, engine.ErrNotFound) {
				t.Fatalf("resend of what was disposed of: %v", err)
			}
			tr, err := h.engine.Trace(ctx, engine.Actor{}, id)
			if err != nil || len(tr.Entries) < 2 || len(tr.Notes) == 0 {
				t.Fatalf("trace of what was disposed of: %d entries, notes %q, %v", len(tr.Entries), tr.Notes, err)
			}
		}
		for _, id := range young {
			if err := h.show(id); err != nil {
				t.Fatalf("February's content is there no more: %v", err)
			}
		}
		page, err := h.engine.List(ctx, engine.Actor{}, engine.Query{Patient: "P1"})
		if err != nil || len(page.Messages) != 1 {
			t.Errorf("a search by patient finds %d, want February's alone: %v", len(page.Messages), err)
		}
		page, err = h.engine.List(ctx, engine.Actor{}, engine.Query{Type: "ADT^A01", Channel: "adt"})
		if err != nil || len(page.Messages) != 9 {
			t.Errorf("a search by type finds %d, want all 9: %v", len(page.Messages), err)
		}
		if m := h.plan()["2026-01"]; m.State != retention.Disposed {
			t.Errorf("January is %q after its disposal", m.State)
		}
		h.verify()

		list, err := h.keeper.Certificates(ctx)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d certificates: %v", len(list), err)
		}
		c := list[0]
		if c.Class != "content" || c.Period != "2026-01" || c.Messages != 8 || c.Bytes == 0 || len(c.Keys) != 2 || c.By != "invented" ||
			!strings.Contains(c.Policy, `"content":"90d"`) || c.Damage != "" || c.Begun.IsZero() {
			t.Errorf("the certificate: %+v", c)
		}
		if p := h.run(); p.Error != "" || len(p.Certificates) != 0 {
			t.Errorf("a second run did something: %+v", p)
		}
	})
}

// What lies in an older copy of the database opens with the keys of then, and not with today's.
func TestAnOlderCopyStaysShut(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		h := build(t, address, newClock("2026-01-10"), ninety())
		ids := h.fill("adt", "2026-01-10", 3)
		type sealed struct {
			id            db.ID
			content, head []byte
		}
		var older []sealed // what a backup of that day holds
		err := h.db.Read(context.Background(), func(tx *db.Tx) error {
			for _, id := range ids {
				s := sealed{id: id}
				err := tx.QueryRow(`SELECT c.sealed, m.header FROM message m JOIN content c ON c.number = m.number WHERE m.id = $1`, []any{id}, &s.content, &s.head)
				if err != nil {
					return err
				}
				older = append(older, s)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		open := func(r *seal.Ring, s sealed) error {
			place := seal.Place{Table: seal.TableMessageContent, Column: seal.ColumnContent, Row: s.id, Org: h.engine.OrganisationNumber()}
			_, err := r.Open(context.Background(), place, s.content)
			return err
		}
		if err := open(h.ring, older[0]); err != nil {
			t.Fatalf("before it: %v", err)
		}
		h.clock.set("2026-06-01")
		if p := h.run(); p.Error != "" {
			t.Fatal(p.Error)
		}
		h.stop()
		fresh := openRing(t, h.dir, h.clock) // as another process would
		defer fresh.Close()
		for _, s := range older {
			if err := open(fresh, s); !errors.Is(err, seal.ErrKeyMissing) {
				t.Errorf("content of the older copy: %v, want ErrKeyMissing", err)
			}
		}
		h.start()
	})
}

func TestWhatStays(t *testing.T) {
	keep := retention.Policy{Content: days(90), Rejected: days(90), Channels: []retention.Channel{
		{Name: "lab", Rejected: days(90)}, // content for good
	}}
	short := retention.Policy{Content: days(90), Rejected: days(90), Channels: []retention.Channel{{Name: "lab", Content: days(10), Rejected: days(10)}}}
	for _, c := range []struct {
		name    string
		policy  retention.Policy
		prepare func(h *house, ids []db.ID)
		day     string
		state   string
		left    int64 // contents after a run
		why     string
	}{
		{name: "nothing is configured", policy: retention.Policy{}, day: "2040-01-01", state: retention.Kept, left: 6},
		{name: "a channel keeps its own for good, and the others' rows go", policy: keep, day: "2026-06-01", state: retention.Partly, left: 3, why: "lab is kept for good"},
		{name: "a channel with a shorter time goes first", policy: short, day: "2026-02-12", state: retention.Partly, left: 3, why: "adt is kept until 2026-05-02"},
		{name: "and with the longest time the month goes", policy: short, day: "2026-05-03", state: retention.Goes, left: 0},
		{name: "a hold on a message keeps that message", policy: ninety(), day: "2026-06-01", state: retention.Partly, left: 1, why: "1 under hold",
			prepare: func(h *house, ids []db.ID) { h.hold(retention.HoldRequest{Message: ids[0].String()}) }},
		{name: "a hold on a patient keeps the patient's", policy: ninety(), day: "2026-06-01", state: retention.Partly, left: 2, why: "2 under hold",
			prepare: func(h *house, ids []db.ID) { h.hold(retention.HoldRequest{Patient: " p2 "}) }},
		{name: "a hold on a patient in one channel", policy: ninety(), day: "2026-06-01", state: retention.Partly, left: 1, why: "1 under hold",
			prepare: func(h *house, ids []db.ID) { h.hold(retention.HoldRequest{Patient: "P2", Channel: "lab"}) }},
		{name: "a hold on a channel", policy: ninety(), day: "2026-06-01", state: retention.Partly, left: 3, why: "3 under hold",
			prepare: func(h *house, ids []db.ID) { h.hold(retention.HoldRequest{Channel: "adt"}) }},
		{name: "a hold on a time", policy: ninety(), day: "2026-06-01", state: retention.Waits, left: 6, why: "6 under hold",
			prepare: func(h *house, ids []db.ID) {
				h.hold(retention.HoldRequest{From: date("2026-01-01"), Until: date("2026-01-20")})
			}},
		{name: "a hold on another time", policy: ninety(), day: "2026-06-01", state: retention.Goes, left: 0,
			prepare: func(h *house, ids []db.ID) { h.hold(retention.HoldRequest{From: date("2026-02-01")}) }},
		{name: "a released hold", policy: ninety(), day: "2026-06-01", state: retention.Goes, left: 0,
			prepare: func(h *house, ids []db.ID) {
				hold := h.hold(retention.HoldRequest{Channel: "adt"})
				if err := h.keeper.ReleaseHold(context.Background(), who, hold.ID.String(), "settled"); err != nil {
					h.t.Fatal(err)
				}
			}},
		{name: "what was not delivered", policy: ninety(), day: "2026-06-01", state: retention.Partly, left: 1, why: "1 not delivered to archive of adt",
			prepare: func(h *house, ids []db.ID) {
				h.ward.mu.Lock()
				h.ward.away = true
				h.ward.mu.Unlock()
				if _, err := h.engine.Resend(context.Background(), engine.Actor{}, ids[1], nil); err != nil {
					h.t.Fatal(err)
				}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, address string) {
				h := build(t, address, newClock("2026-01-10"), c.policy)
				ids := append(h.fill("adt", "2026-01-10", 3), h.fill("lab", "2026-01-11", 3)...)
				if c.prepare != nil {
					c.prepare(h, ids)
				}
				h.clock.set(c.day)
				m := h.plan()["2026-01"]
				if m.State != c.state || c.why != "" && !strings.Contains(strings.Join(m.Why, "\n"), c.why) {
					t.Errorf("the plan is %q because %q, want %q because %q", m.State, m.Why, c.state, c.why)
				}
				if p := h.run(); p.Error != "" {
					t.Fatal(p.Error)
				}
				if n := h.count(`SELECT count(*) FROM content`); n != c.left {
					t.Errorf("%d contents are left, want %d", n, c.left)
				}
				readable := int64(0)
				for _, id := range ids {
					switch err := h.show(id); {
					case err == nil:
						readable++
					case !errors.Is(err, engine.ErrNotFound):
						t.Errorf("show: %v", err)
					}
				}
				if readable != c.left {
					t.Errorf("%d messages can be read, want %d", readable, c.left)
				}
				page, err := h.engine.List(context.Background(), engine.Actor{}, engine.Query{})
				if err != nil || len(page.Messages) != 6 {
					t.Errorf("the list has %d messages, want 6: %v", len(page.Messages), err)
				}
				if p := h.run(); p.Error != "" || len(p.Certificates) != 0 {
					t.Errorf("a second run on the same day did something: %+v", p)
				}
				h.verify()
			})
		})
	}
}

func (h *house) hold(r retention.HoldRequest) retention.HoldResult {
	h.t.Helper()
	r.Reason = "an invented case"
	res, err := h.keeper.AddHold(context.Background(), who, r)
	if err != nil {
		h.t.Fatal(err)
	}
	return res
}

func TestHolds(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		h := build(t, address, newClock("2026-01-10"), ninety())
		ids := h.fill("adt", "2026-01-10", 2)
		ctx := context.Background()
		for _, c := range []struct {
			name string
			r    retention.HoldRequest
			want error
		}{
			{"without a reason", retention.HoldRequest{Channel: "adt"}, retention.ErrConflict},
			{"on everything", retention.HoldRequest{Reason: "x"}, retention.ErrConflict},
			{"on a channel that never was", retention.HoldRequest{Channel: "none", Reason: "x"}, retention.ErrNotFound},
			{"on a message that never was", retention.HoldRequest{Message: db.ID{1}.String(), Reason: "x"}, retention.ErrNotFound},
			{"on no id", retention.HoldRequest{Message: "x", Reason: "x"}, retention.ErrNotFound},
			{"on a time that ends first", retention.HoldRequest{From: date("2026-02-01"), Until: date("2026-01-01"), Reason: "x"}, retention.ErrConflict},
		} {
			if _, err := h.keeper.AddHold(ctx, who, c.r); !errors.Is(err, c.want) {
				t.Errorf("a hold %s: %v, want %v", c.name, err, c.want)
			}
		}
		a := h.hold(retention.HoldRequest{Patient: "P1"})
		b := h.hold(retention.HoldRequest{Message: ids[0].String()})
		if err := h.keeper.ReleaseHold(ctx, who, b.ID.String(), "over"); err != nil {
			t.Fatal(err)
		}
		if err := h.keeper.ReleaseHold(ctx, who, b.ID.String(), "over"); !errors.Is(err, retention.ErrNotFound) {
			t.Errorf("a second release: %v", err)
		}
		active, err := h.keeper.Holds(ctx, false)
		if err != nil || len(active) != 1 || active[0].ID != a.ID || active[0].Reason != "an invented case" || len(active[0].Patient) != 16 {
			t.Errorf("active holds: %+v, %v", active, err)
		}
		all, err := h.keeper.Holds(ctx, true)
		if err != nil || len(all) != 2 || !slices.ContainsFunc(all, func(x retention.Hold) bool { return x.ReleaseReason == "over" && x.ReleasedBy == "invented" }) {
			t.Errorf("all holds: %+v, %v", all, err)
		}
		if n := h.count(`SELECT count(*) FROM audit_log WHERE event_type LIKE 'legal-hold-%' AND os_user = 'invented' AND private_hash IS NOT NULL`); n != 3 {
			t.Errorf("%d entries about holds, want 3", n)
		}
		// One that comes too late says so.
		if err := h.keeper.ReleaseHold(ctx, who, a.ID.String(), "over"); err != nil {
			t.Fatal(err)
		}
		h.clock.set("2026-06-01")
		if p := h.run(); p.Error != "" {
			t.Fatal(p.Error)
		}
		if late := h.hold(retention.HoldRequest{Patient: "P1"}); !slices.Equal(late.Gone, []string{"2026-01"}) {
			t.Errorf("a hold after the disposal names %q as gone", late.Gone)
		}
		h.verify()
	})
}

func TestMetadataAndAuditDetailsGoAfterYears(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		p := ninety()
		p.Metadata, p.AuditDetails = years(2), years(6)
		h := build(t, address, newClock("2026-01-10"), p)
		h.fill("adt", "2026-01-10", 4)
		hold := h.hold(retention.HoldRequest{Channel: "lab"}) // its reason is a sealed detail of January's
		h.clock.set("2026-06-01")
		if r := h.run(); r.Error != "" {
			t.Fatal(r.Error)
		}
		h.clock.set("2028-02-05")
		if m := h.plan()["2026-01"]; m.State != retention.Waits {
			t.Errorf("metadata under a hold is %q", m.State)
		}
		if err := h.keeper.ReleaseHold(context.Background(), who, hold.ID.String(), "over"); err != nil {
			t.Fatal(err)
		}
		if m := h.plan()["2026-01"]; m.State != retention.Last {
			t.Errorf("metadata past its time is %q", m.State)
		}
		entries := h.count(`SELECT count(*) FROM audit_log`)
		if r := h.run(); r.Error != "" || len(r.Certificates) != 1 {
			t.Fatalf("the run: %+v", r)
		}
		for _, table := range []string{"message", "delivery", "content", "attempt"} {
			if n := h.count(`SELECT count(*) FROM ` + table); n != 0 {
				t.Errorf("%d rows of %s are left", n, table)
			}
		}
		if n := h.count(`SELECT count(*) FROM audit_detail`); n != 2 {
			t.Errorf("%d sealed details, want 2", n)
		}
		h.clock.set("2032-02-05")
		if r := h.run(); r.Error != "" || len(r.Certificates) != 1 {
			t.Fatalf("the run after six years: %+v", r)
		}
		if n := h.count(`SELECT count(*) FROM audit_detail`); n != 1 {
			t.Errorf("%d sealed details, want the release's alone", n)
		}
		if n := h.count(`SELECT count(*) FROM audit_log`); n <= entries {
			t.Errorf("the audit log has %d entries and had %d", n, entries)
		}
		err := h.db.Read(context.Background(), func(tx *db.Tx) error {
			_, err := h.log.Search(tx, audit.Query{Org: h.engine.OrganisationNumber(), Limit: 1000})
			return err
		})
		if err != nil {
			t.Error(err)
		}
		h.verify()
		h.fill("adt", "2032-02-06", 2) // and the engine goes on
	})
}

func TestPolicyIsChecked(t *testing.T) {
	h := build(t, dbtest.SQLite(t), newClock("2026-01-10"), retention.Policy{})
	for name, p := range map[string]retention.Policy{
		"audit details for less than six years": {AuditDetails: years(5)},
		"audit details for a day less":          {AuditDetails: days(2191)},
		"metadata for less than content":        {Content: days(90), Rejected: days(1), Metadata: days(30)},
		"metadata and content for good":         {Metadata: years(1)},
		"metadata for less than a channel's":    {Content: days(9), Rejected: days(9), Metadata: days(30), Channels: []retention.Channel{{Name: "a", Content: days(40), Rejected: days(1)}}},
		"content for a negative time":           {Content: days(-1), Rejected: days(1)},
	} {
		_, err := retention.New(context.Background(), retention.Config{DB: h.db, Keys: h.ring, Audit: h.log, Messages: h.engine, Organisation: 1, Replica: db.ID{1},
			Policy: p, Now: h.clock.now, Sleep: h.sleep, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	for name, p := range map[string]retention.Policy{
		"everything for good":         {},
		"six years by years":          {AuditDetails: years(6)},
		"six years by days":           {AuditDetails: days(2192)},
		"metadata as long as content": {Content: days(90), Rejected: days(90), Metadata: days(90)},
	} {
		_, err := retention.New(context.Background(), retention.Config{DB: h.db, Keys: h.ring, Audit: h.log, Messages: h.engine, Organisation: 1, Replica: db.ID{1},
			Policy: p, Now: h.clock.now, Sleep: h.sleep, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
