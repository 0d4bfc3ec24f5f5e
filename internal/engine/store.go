package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// A Query says which messages are wanted. All that is given must hold. Newest first.
type Query struct {
	Channel   string
	Status    string // accepted, rejected, pending, sent, filtered, error; of deliveries: at least one is so
	Type      string // ADT^A01, or ADT for all its events
	ControlID string
	Patient   string // an identifier, as in PID-3.1
	From, To  time.Time
	Before    int64 // cursor: messages with a smaller number
	Limit     int   // default 50, at most 1000
}

// A Summary is one message in a list.
type Summary struct {
	Number     int64     `json:"number"`
	ID         db.ID     `json:"id"`
	Channel    string    `json:"channel"`
	AcceptedAt time.Time `json:"accepted_at"`
	Status     string    `json:"status"`
	Reason     string    `json:"reason,omitempty"`
	Revision   int64     `json:"revision"` // of the channel that took it
	Type       string    `json:"type"`
	Size       int       `json:"size"`
	Peer       string    `json:"peer"`
	Notes      []string  `json:"notes,omitempty"`
	Header
	Deliveries []Delivery `json:"deliveries"`

	channelNumber, flags int64
}

// A Delivery is one message on its way to one destination.
type Delivery struct {
	Number      int64     `json:"number"`
	Destination string    `json:"destination"`
	State       string    `json:"state"`
	Attempts    int       `json:"attempts"`
	Revision    int64     `json:"revision,omitempty"`
	StartedAt   time.Time `json:"started_at,omitzero"`
	SettledAt   time.Time `json:"settled_at,omitzero"`
	NextAt      time.Time `json:"next_at,omitzero"`
	Outcome     string    `json:"outcome,omitempty"`
	Notes       []string  `json:"notes,omitempty"`

	queue *queue
	flags int
}

// A Page is a part of a list. Next is the cursor of the following part; 0: there is none.
type Page struct {
	Messages []Summary `json:"messages"`
	Total    int       `json:"total"` // in this page
	Next     int64     `json:"next,omitempty"`
}

const (
	summaryColumns = `m.number, m.id, m.channel, m.revision, m.accepted_at, m.status, m.type, m.size, m.peer, m.flags, m.reason, m.header`
	listMessages   = `SELECT ` + summaryColumns + ` FROM message m WHERE m.organisation = $1 AND m.number < $2 ORDER BY m.number DESC`
	listRejected   = `SELECT ` + summaryColumns + ` FROM message m WHERE m.organisation = $1 AND m.number < $2 AND m.status = 2 ORDER BY m.number DESC`
	listFailed     = `SELECT ` + summaryColumns + ` FROM message m WHERE m.organisation = $1 AND m.number < $2
		AND m.number IN (SELECT d.message FROM delivery d WHERE d.queue = $3 AND d.state = 5) ORDER BY m.number DESC`
	showByNumber = `SELECT ` + summaryColumns + ` FROM message m WHERE m.organisation = $1 AND m.number = $2`
	showByID     = `SELECT ` + summaryColumns + ` FROM message m WHERE m.organisation = $1 AND m.id = $2`
	showFirstWay = `SELECT number, state, attempts, revision, started_at, settled_at, next_at, outcome, flags FROM delivery
		WHERE queue = $1 AND number = $2`
	showResent = `SELECT queue, number, state, attempts, revision, started_at, settled_at, next_at, outcome, flags FROM delivery
		WHERE message = $1 AND message <> number ORDER BY number`
	highestMessage = `SELECT coalesce(max(number), 0) FROM message`
)

// scanned bounds how many messages one list looks at, so that a rare combination cannot hold a reader for ever; the page's
// cursor tells where to go on.
const scanned = 200_000

// List finds messages. What was looked for is on record, by blind value where it may identify a person.
func (e *Engine) List(ctx context.Context, who Actor, q Query) (Page, error) {
	switch {
	case q.Limit <= 0:
		q.Limit = 50
	case q.Limit > 1000:
		q.Limit = 1000
	}
	if q.Before <= 0 {
		q.Before = math.MaxInt64
	}
	var wanted *channel
	if q.Channel != "" {
		var err error
		if wanted, err = e.channel(q.Channel); err != nil {
			return Page{}, err
		}
	}
	switch q.Status {
	case "", "accepted", "rejected", "pending", "sent", "filtered", "error":
	default:
		return Page{}, fmt.Errorf("status %q is none of accepted, rejected, pending, sent, filtered, error: %w", q.Status, ErrConflict)
	}
	terms, err := e.terms(ctx, q, wanted)
	if err != nil {
		return Page{}, err
	}
	if q.Patient != "" {
		if err := e.recordSearch(ctx, who, q); err != nil {
			return Page{}, err
		}
	}
	var page Page
	err = e.db.Read(ctx, func(tx *db.Tx) error {
		if !q.To.IsZero() {
			before, err := e.numberAt(tx, q.To.Add(clockStep))
			if err != nil {
				return err
			}
			q.Before = min(q.Before, before)
		}
		looked := 0
		last := int64(0)
		add := func(s *Summary) (more bool, err error) {
			looked++
			if !q.From.IsZero() && s.AcceptedAt.Before(q.From.Add(-clockStep)) {
				return false, nil
			}
			last = s.Number
			if ok, err := e.complete(ctx, tx, s, q, wanted); err != nil {
				return false, err
			} else if ok {
				page.Messages = append(page.Messages, *s)
			}
			if len(page.Messages) == q.Limit || looked == scanned {
				page.Next = last
				return false, nil
			}
			return true, nil
		}
		return e.candidates(tx, q, wanted, terms, add)
	})
	page.Total = len(page.Messages)
	return page, err
}

// clockStep is how far numbers and times may disagree: replicas' clocks differ, and clocks are set.
const clockStep = time.Hour

// numberAt is a number below which the messages are that were accepted before at, found by halving.
func (e *Engine) numberAt(tx *db.Tx, at time.Time) (int64, error) {
	var high int64
	if err := tx.QueryRow(highestMessage, nil, &high); err != nil {
		return 0, err
	}
	low, high := int64(0), high+1
	for low < high {
		mid := low + (high-low)/2
		var us int64
		if err := tx.QueryRow(acceptedAt, []any{mid}, &us); err != nil && !errors.Is(err, db.ErrNoRows) {
			return 0, err
		} else if err != nil || us >= at.UnixMicro() {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low, nil
}

// candidates calls add with messages that may fit, newest first, by the narrowest way there is.
func (e *Engine) candidates(tx *db.Tx, q Query, wanted *channel, terms []term, add func(*Summary) (bool, error)) error {
	if q.Status == "rejected" && q.Patient == "" && q.ControlID == "" {
		return e.scan(tx, listRejected, []any{e.org, q.Before}, add)
	}
	if q.Status == "error" && wanted != nil && len(wanted.queues) == 1 && q.Patient == "" && q.ControlID == "" {
		return e.scan(tx, listFailed, []any{e.org, q.Before, wanted.queues[0].number}, add)
	}
	if len(terms) > 0 {
		return e.index.numbers(tx, terms[0], q.Before, func(n int64) (more bool, err error) {
			more = true
			err = e.scan(tx, showByNumber, []any{e.org, n}, func(s *Summary) (bool, error) {
				more, err = add(s)
				return more, err
			})
			return more, err
		})
	}
	return e.scan(tx, listMessages, []any{e.org, q.Before}, add)
}

// terms are the things that the index can look for, the rarest first.
func (e *Engine) terms(ctx context.Context, q Query, wanted *channel) (list []term, err error) {
	blind := func(field byte, sealField uint16, value string) term {
		return term{field: field, value: func(p seal.Period) (v [8]byte, ok bool, err error) {
			b, err := e.keys.Seek(ctx, uint32(e.org), sealField, p, []byte(value))
			if errors.Is(err, seal.ErrKeyMissing) {
				return v, false, nil // nothing was stored in that month, or it was shredded
			}
			return [8]byte(b[:8]), err == nil, err
		}}
	}
	if q.Patient != "" {
		list = append(list, blind(fieldPatient, seal.FieldPatientIdentifier, strings.ToUpper(strings.TrimSpace(q.Patient))))
	}
	if q.ControlID != "" {
		list = append(list, blind(fieldControlID, seal.FieldControlID, normalControlID(q.ControlID)))
	}
	plain := func(t token) term {
		return term{field: t.field, value: func(seal.Period) ([8]byte, bool, error) { return t.value, true, nil }}
	}
	if strings.Contains(q.Type, "^") {
		list = append(list, plain(typeToken(q.Type)))
	}
	if wanted != nil && len(e.channels) > 1 {
		list = append(list, plain(channelToken(wanted.number)))
	}
	return list, nil
}

func (e *Engine) scan(tx *db.Tx, sql string, args []any, add func(*Summary) (bool, error)) error {
	if tx.Engine() == db.PostgreSQL {
		// One connection carries one result at a time: a cursor of our own by LIMIT.
		return e.scanInParts(tx, sql, args, add)
	}
	rows, err := tx.Query(sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		s, err := e.summary(rows)
		if err != nil {
			return err
		}
		if more, err := add(&s); err != nil || !more {
			return err
		}
	}
	return rows.Err()
}

func (e *Engine) scanInParts(tx *db.Tx, sql string, args []any, add func(*Summary) (bool, error)) error {
	const part = 500
	for {
		rows, err := tx.Query(sql+fmt.Sprintf(" LIMIT %d", part), args...)
		if err != nil {
			return err
		}
		var batch []Summary
		for rows.Next() {
			s, err := e.summary(rows)
			if err != nil {
				rows.Close()
				return err
			}
			batch = append(batch, s)
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return err
		}
		for i := range batch {
			if more, err := add(&batch[i]); err != nil || !more {
				return err
			}
		}
		if len(batch) < part {
			return nil
		}
		args[1] = batch[len(batch)-1].Number
	}
}

func (e *Engine) summary(rows *db.Rows) (s Summary, err error) {
	var at, status int64
	var header []byte
	err = rows.Scan(&s.Number, &s.ID, &s.channelNumber, &s.Revision, &at, &status, &s.Type, &s.Size, &s.Peer, &s.flags, &s.Reason, &header)
	if err != nil {
		return s, err
	}
	s.AcceptedAt = time.UnixMicro(at).UTC()
	s.Status = "accepted"
	if Status(status) == Rejected {
		s.Status = "rejected"
	}
	if s.flags&flagReusedControlID != 0 {
		s.Notes = append(s.Notes, "this sender used the control ID before, for other content")
	}
	if s.flags&flagTruncated != 0 {
		s.Notes = append(s.Notes, "only its beginning was read and kept")
	}
	s.Header.Version = string(header) // still sealed; complete opens it
	return s, nil
}

// complete checks what the narrowing did not, opens the header and reads the deliveries. false: it is not wanted.
func (e *Engine) complete(ctx context.Context, tx *db.Tx, s *Summary, q Query, wanted *channel) (bool, error) {
	switch {
	case wanted != nil && s.channelNumber != wanted.number,
		!q.From.IsZero() && s.AcceptedAt.Before(q.From), !q.To.IsZero() && !s.AcceptedAt.Before(q.To),
		(q.Status == "accepted" || q.Status == "rejected") && s.Status != q.Status,
		q.Type != "" && s.Type != q.Type && !strings.HasPrefix(s.Type, q.Type+"^"):
		return false, nil
	}
	sealed := []byte(s.Header.Version)
	plain, err := e.keys.Open(ctx, seal.Place{Table: seal.TableMessageHeader, Column: seal.ColumnContent, Row: s.ID, Org: uint32(e.org)}, sealed)
	switch {
	case len(sealed) == 0, errors.Is(err, seal.ErrKeyMissing): // retention took the content, or the whole month's key
		s.Header = Header{}
		s.Notes = append(s.Notes, "its content was disposed of")
	case err != nil:
		return false, fmt.Errorf("open the header of message %s: %w", s.ID, err)
	default:
		if s.Header, err = decodeHeader(plain); err != nil {
			return false, err
		}
	}
	if q.ControlID != "" && normalControlID(s.ControlID) != normalControlID(q.ControlID) {
		return false, nil
	}
	ch := e.channelNumbered(s.channelNumber)
	if ch != nil {
		s.Channel = ch.cfg.Name
	} else if err := tx.QueryRow(`SELECT name FROM channel WHERE number = $1`, []any{s.channelNumber}, &s.Channel); err != nil {
		return false, err
	}
	if s.Deliveries, err = e.deliveriesOf(tx, s); err != nil {
		return false, err
	}
	switch q.Status {
	case "pending", "sent", "filtered", "error":
		for _, d := range s.Deliveries {
			if d.State == q.Status || q.Status == "pending" && d.State == "started" {
				return true, nil
			}
		}
		return false, nil
	}
	return true, nil
}

// queuesOf lists a channel's queues as number and name, those that the configuration no longer has too.
func (e *Engine) queuesOf(tx *db.Tx, channel int64) (numbers []int64, names map[int64]string, err error) {
	rows, err := tx.Query(`SELECT number, name FROM queue WHERE channel = $1 ORDER BY number`, channel)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	names = map[int64]string{}
	for rows.Next() {
		var n int64
		var name string
		if err := rows.Scan(&n, &name); err != nil {
			return nil, nil, err
		}
		numbers = append(numbers, n)
		names[n] = name
	}
	return numbers, names, rows.Err()
}

func (e *Engine) deliveriesOf(tx *db.Tx, s *Summary) (list []Delivery, err error) {
	numbers, names, err := e.queuesOf(tx, s.channelNumber)
	if err != nil {
		return nil, err
	}
	list = []Delivery{}
	for _, n := range numbers {
		rows, err := tx.Query(showFirstWay, n, s.Number)
		if err != nil {
			return nil, err
		}
		list, err = e.readDeliveries(rows, list, names, n)
		if err != nil {
			return nil, err
		}
	}
	rows, err := tx.Query(showResent, s.Number)
	if err != nil {
		return nil, err
	}
	return e.readDeliveries(rows, list, names, 0)
}

func (e *Engine) readDeliveries(rows *db.Rows, list []Delivery, names map[int64]string, queue int64) ([]Delivery, error) {
	defer rows.Close()
	for rows.Next() {
		var d Delivery
		var state int
		var started, settled, next int64
		dest := []any{&d.Number, &state, &d.Attempts, &d.Revision, &started, &settled, &next, &d.Outcome, &d.flags}
		if queue == 0 {
			dest = append([]any{&queue}, dest...)
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		d.Destination, d.State = names[queue], State(state).String()
		d.StartedAt, d.SettledAt, d.NextAt = moment(started), moment(settled), moment(next)
		if d.flags&flagPossibleDuplicate != 0 {
			d.Notes = append(d.Notes, "possible duplicate: an earlier attempt may have arrived")
		}
		if d.flags&flagResend != 0 {
			d.Notes = append(d.Notes, "resent by a person")
		}
		d.queue = e.queueNumbered(queue)
		list = append(list, d)
		if len(dest) == 10 {
			queue = 0
		}
	}
	return list, rows.Err()
}

func moment(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func (e *Engine) queueNumbered(n int64) *queue {
	for _, ch := range e.channels {
		for _, q := range ch.queues {
			if q.number == n {
				return q
			}
		}
	}
	return nil
}

// recordSearch puts on record that somebody looked for a patient: who, why, and the blind value of whom.
func (e *Engine) recordSearch(ctx context.Context, who Actor, q Query) error {
	blind, err := e.keys.Blind(ctx, uint32(e.org), seal.FieldAuditSubject, seal.Lasting, []byte(strings.ToUpper(strings.TrimSpace(q.Patient))))
	if err != nil {
		return fmt.Errorf("record a search: %w", err)
	}
	return e.db.Commit(ctx, 0, func(tx *db.Tx) error {
		return e.record(tx, who.entry(audit.Entry{Event: audit.Searched, Action: audit.Execute, Result: audit.Success,
			ResourceType: "message", Details: []audit.Detail{audit.Text("patient_blind", fmt.Sprintf("%x", blind[:8]))}}))
	})
}

// entry puts the person into an entry.
func (a Actor) entry(e audit.Entry) audit.Entry {
	e.OSUser, e.Program, e.Purpose = a.OSUser, a.Program, a.Purpose
	return e
}
