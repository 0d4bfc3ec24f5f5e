package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// A Detail is one message whole. Whoever gets one has been put on record.
type Detail struct {
	Summary
	Content []byte            `json:"content"`        // as it came
	Sent    map[string][]byte `json:"sent,omitempty"` // destination -> the bytes of its latest attempt, where they differ
}

// A Trace is the way of a message and what the audit log has about it.
type Trace struct {
	Summary
	Entries []TraceEntry `json:"entries"`
}

// A TraceEntry is one entry of the audit log about a message.
type TraceEntry struct {
	Sequence int64          `json:"sequence"`
	Time     time.Time      `json:"time"`
	Event    string         `json:"event"`
	Result   string         `json:"result"`
	OSUser   string         `json:"os_user,omitempty"`
	Purpose  string         `json:"purpose,omitempty"`
	Details  map[string]any `json:"details,omitempty"`
}

// find reads one message. ErrNotFound also for another organisation's.
func (e *Engine) find(ctx context.Context, tx *db.Tx, id db.ID) (s Summary, err error) {
	found := false
	err = e.scan(tx, showByID, []any{e.org, id}, func(have *Summary) (bool, error) {
		s, found = *have, true
		return false, nil
	})
	if err != nil {
		return s, err
	}
	if !found {
		return s, fmt.Errorf("message %s: %w", id, ErrNotFound)
	}
	_, err = e.complete(ctx, tx, &s, Query{}, nil)
	return s, err
}

// Show returns a message's content. The reading is on record before the content leaves.
func (e *Engine) Show(ctx context.Context, who Actor, id db.ID) (Detail, error) {
	var d Detail
	var sealed []byte
	sent := map[string][]byte{}
	err := e.db.Read(ctx, func(tx *db.Tx) (err error) {
		if d.Summary, err = e.find(ctx, tx, id); err != nil {
			return err
		}
		if err := tx.QueryRow(readContent, []any{d.Number}, &sealed); err != nil && !errors.Is(err, db.ErrNoRows) {
			return err
		}
		for _, x := range d.Deliveries {
			if x.flags&flagStored == 0 || x.queue == nil {
				continue
			}
			var b []byte
			if err := tx.QueryRow(readAttempt, []any{x.queue.number, x.Number}, &b); err != nil && !errors.Is(err, db.ErrNoRows) {
				return err
			}
			if b == nil {
				continue
			}
			place := x.queue.attemptPlace(&delivery{number: x.Number})
			if sent[x.Destination], err = e.keys.Open(ctx, place, b); err != nil {
				return fmt.Errorf("open what was sent to %q: %w", x.Destination, err)
			}
		}
		return nil
	})
	if err != nil {
		return Detail{}, err
	}
	if sealed == nil {
		return Detail{}, fmt.Errorf("message %s: its content was disposed of: %w", id, ErrNotFound)
	}
	d.Content, err = e.openContent(ctx, id, sealed)
	if errors.Is(err, seal.ErrKeyMissing) {
		return Detail{}, fmt.Errorf("message %s: its content was disposed of: %w", id, ErrNotFound)
	}
	if err != nil {
		return Detail{}, fmt.Errorf("open message %s: %w", id, err)
	}
	if len(sent) > 0 {
		d.Sent = sent
	}
	err = e.db.Commit(ctx, 0, func(tx *db.Tx) error {
		return e.record(tx, who.entry(audit.Entry{Event: audit.ContentRead, Action: audit.Read, Result: audit.Success,
			ResourceType: "message", ResourceID: id.String(), Details: []audit.Detail{audit.Text("fields", "all")}}))
	})
	if err != nil {
		return Detail{}, fmt.Errorf("put the reading on record: %w", err)
	}
	return d, nil
}

// Trace returns a message's way: no content. That somebody looked is on record before the answer leaves.
func (e *Engine) Trace(ctx context.Context, who Actor, id db.ID) (Trace, error) {
	var t Trace
	err := e.db.Read(ctx, func(tx *db.Tx) (err error) {
		if t.Summary, err = e.find(ctx, tx, id); err != nil {
			return err
		}
		found, err := e.audit.Search(tx, audit.Query{Org: uint32(e.org), ResourceType: "message", ResourceID: id.String(), Limit: 1000})
		if err != nil {
			return err
		}
		for _, r := range found.Records {
			entry := TraceEntry{Sequence: r.Seq, Time: r.Time, Event: string(r.Event), Result: string(r.Result), OSUser: r.OSUser,
				Purpose: r.Purpose, Details: map[string]any{}}
			for _, d := range r.Details {
				entry.Details[d.Key()] = d.Value()
			}
			t.Entries = append(t.Entries, entry)
		}
		slices.SortFunc(t.Entries, func(a, b TraceEntry) int { return int(a.Sequence - b.Sequence) })
		return nil
	})
	if err != nil {
		return Trace{}, err
	}
	err = e.db.Commit(ctx, 0, func(tx *db.Tx) error {
		return e.record(tx, who.entry(audit.Entry{Event: audit.AuditLogUsed, Action: audit.Read, Result: audit.Success,
			ResourceType: "message", ResourceID: id.String()}))
	})
	if err != nil {
		return Trace{}, fmt.Errorf("put the reading on record: %w", err)
	}
	return t, nil
}

const (
	updateAccepted = `UPDATE message SET status = 1, reason = NULL, revision = $1, type = $2 WHERE number = $3 AND status = 2`
)

// Resend queues a message once more for the named destinations of its channel (none named: all), in its place behind what waits
// there. A rejected message is admitted anew, by the rules of today: ErrConflict when they still refuse it.
func (e *Engine) Resend(ctx context.Context, who Actor, id db.ID, destinations []string) ([]Delivery, error) {
	var s Summary
	var sealed []byte
	err := e.db.Read(ctx, func(tx *db.Tx) (err error) {
		if s, err = e.find(ctx, tx, id); err != nil {
			return err
		}
		err = tx.QueryRow(readContent, []any{s.Number}, &sealed)
		if errors.Is(err, db.ErrNoRows) {
			return fmt.Errorf("message %s: its content was disposed of: %w", id, ErrNotFound)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if s.flags&flagTruncated != 0 {
		return nil, fmt.Errorf("message %s: only its beginning was read, for it was too long: %w", id, ErrConflict)
	}
	ch := e.channelNumbered(s.channelNumber)
	if ch == nil {
		return nil, fmt.Errorf("message %s: its channel %q is no longer configured: %w", id, s.Channel, ErrConflict)
	}
	queues, err := ch.queuesNamed(destinations)
	if err != nil {
		return nil, err
	}
	block, err := e.openContent(ctx, id, sealed)
	if errors.Is(err, seal.ErrKeyMissing) {
		return nil, fmt.Errorf("message %s: its content was disposed of: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open message %s: %w", id, err)
	}
	m, refused := ch.parse(block)
	if refused == nil && s.Status == "rejected" {
		refused = ch.admit(m)
	}
	if refused != nil {
		return nil, fmt.Errorf("message %s is still refused (%s): %w", id, refused.text, ErrConflict)
	}
	ids, overflow := patientIdentifiers(m)
	keys, flags, err := ch.orderKeys(ctx, ids, overflow)
	if err != nil {
		return nil, err
	}
	var made []Delivery
	err = e.db.Commit(ctx, 1024, func(tx *db.Tx) error {
		made = made[:0]
		if err := e.stillThere(tx, &s); err != nil {
			return err
		}
		if s.Status == "rejected" {
			if _, err := tx.Exec(updateAccepted, ch.revision, shownType(m), s.Number); err != nil {
				return err
			}
		}
		line, err := tx.Line()
		if err != nil {
			return err
		}
		for _, q := range queues {
			n := line.Take(1)
			if err := q.insert(tx, n, s.Number, keys, flags|flagResend); err != nil {
				return err
			}
			made = append(made, Delivery{Number: n, Destination: q.cfg.Name, State: Pending.String()})
		}
		details := []audit.Detail{audit.Text("channel", ch.cfg.Name)}
		for i, q := range queues {
			details = append(details, audit.Text(fmt.Sprintf("destination_%d", i+1), q.cfg.Name))
		}
		return e.record(tx, who.entry(audit.Entry{Event: audit.MessageResent, Action: audit.Execute, Result: audit.Success,
			ResourceType: "message", ResourceID: id.String(), Details: details}))
	})
	if err != nil {
		return nil, fmt.Errorf("resend message %s: %w", id, err)
	}
	for _, q := range queues {
		q.arrived()
	}
	return made, nil
}

func (ch *channel) queuesNamed(names []string) (list []*queue, err error) {
	for _, q := range ch.queues {
		if q.cfg.Enabled && (len(names) == 0 || contains(names, q.cfg.Name)) {
			list = append(list, q)
		}
	}
	for _, n := range names {
		if !slices.ContainsFunc(list, func(q *queue) bool { return q.cfg.Name == n }) {
			return nil, fmt.Errorf("channel %q has no enabled destination %q: %w", ch.cfg.Name, n, ErrNotFound)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("channel %q has no enabled destination: %w", ch.cfg.Name, ErrConflict)
	}
	return list, nil
}

// orderKeys blinds the identifiers of a message's patients for its deliveries.
func (ch *channel) orderKeys(ctx context.Context, ids []string, overflow bool) (keys []byte, flags int, err error) {
	if overflow || !ch.ordersByPatient() {
		// Also where no queue asks for them now: should one be ordered by patient tomorrow, what waits in it has no keys.
		return nil, flagBarrier, nil
	}
	for _, id := range ids {
		v, err := ch.engine.keys.Blind(ctx, uint32(ch.engine.org), seal.FieldOrder, seal.Lasting, []byte(id))
		if err != nil {
			return nil, 0, fmt.Errorf("blind an order key: %w", err)
		}
		keys = append(keys, v[:orderKeySize]...)
	}
	return keys, 0, nil
}
