package retention

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// A Hold keeps messages from being disposed of: those of which all that is given is true.
type Hold struct {
	ID            db.ID     `json:"id"`
	Patient       string    `json:"patient,omitempty"` // blind, in hexadecimal: the same patient has the same one
	Message       db.ID     `json:"message,omitzero"`
	Channel       string    `json:"channel,omitempty"`
	From          time.Time `json:"from,omitzero"`
	Until         time.Time `json:"until,omitzero"`
	Reason        string    `json:"reason"`
	AddedAt       time.Time `json:"added_at"`
	AddedBy       string    `json:"added_by"`
	ReleasedAt    time.Time `json:"released_at,omitzero"`
	ReleasedBy    string    `json:"released_by,omitempty"`
	ReleaseReason string    `json:"release_reason,omitempty"`

	identifier string // of the patient, in the clear: it does not leave this package
}

// A HoldRequest is what a person wants held. Something beside the reason must be given.
type HoldRequest struct {
	Patient string    `json:"patient,omitempty"` // an identifier, as in PID-3.1
	Message string    `json:"message,omitempty"`
	Channel string    `json:"channel,omitempty"`
	From    time.Time `json:"from,omitzero"`  // accepted then or later
	Until   time.Time `json:"until,omitzero"` // accepted before
	Reason  string    `json:"reason"`
}

// A HoldResult is the hold, and the months that it comes too late for.
type HoldResult struct {
	Hold
	Gone []string `json:"gone,omitempty"`
}

// held is what is sealed in a hold's row.
type held struct {
	Patient string `json:"patient,omitempty"`
	Reason  string `json:"reason"`
}

const maxReason = 500

const (
	insertHold = `INSERT INTO legal_hold (id, organisation, message, channel, from_at, until_at, patient, sealed, added_at, added_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	releaseHold = `UPDATE legal_hold SET released_at = $1, released_by = $2, released = $3
		WHERE id = $4 AND organisation = $5 AND released_at = 0`
	listHolds = `SELECT id, message, channel, from_at, until_at, patient, sealed, added_at, added_by, released_at, released_by, released
		FROM legal_hold WHERE organisation = $1 AND (released_at = 0 OR $2 = 1) ORDER BY added_at, id`
	countHolds = `SELECT count(*) FROM legal_hold WHERE organisation = $1`
)

// AddHold holds messages from now on, and puts it on record.
func (k *Keeper) AddHold(ctx context.Context, who Actor, r HoldRequest) (res HoldResult, err error) {
	h := &res.Hold
	if h.Reason, err = checkReason(r.Reason); err != nil {
		return res, err
	}
	h.identifier = strings.ToUpper(strings.TrimSpace(r.Patient))
	if h.identifier == "" && r.Message == "" && r.Channel == "" && r.From.IsZero() && r.Until.IsZero() {
		return res, fmt.Errorf("a hold names a patient, a message, a channel or a time: %w", ErrConflict)
	}
	if !r.From.IsZero() && !r.Until.IsZero() && !r.From.Before(r.Until) {
		return res, fmt.Errorf("a hold's time ends before it begins: %w", ErrConflict)
	}
	var message any
	if r.Message != "" {
		if h.Message, err = db.ParseID(r.Message); err != nil {
			return res, fmt.Errorf("that message: %w", ErrNotFound)
		}
		if has, err := k.c.Messages.HasMessage(ctx, h.Message); err != nil || !has {
			return res, orNotFound(err, "that message")
		}
		message = h.Message
	}
	if r.Channel != "" {
		if has, err := k.c.Messages.HasChannel(ctx, r.Channel); err != nil || !has {
			return res, orNotFound(err, "that channel")
		}
	}
	h.Channel, h.From, h.Until = r.Channel, cutTime(r.From), cutTime(r.Until)
	blind := []byte{}
	if h.identifier != "" {
		b, err := k.c.Keys.Blind(ctx, k.c.Organisation, seal.FieldAuditSubject, seal.Lasting, []byte(h.identifier))
		if err != nil {
			return res, fmt.Errorf("blind a hold's patient: %w", err)
		}
		blind = b[:8]
		h.Patient = hex.EncodeToString(blind)
	}
	now := k.c.Now()
	h.ID, h.AddedBy, h.AddedAt = k.c.DB.NewID(), who.String(), cutTime(now)
	text, err := json.Marshal(held{h.identifier, h.Reason})
	if err != nil {
		return res, err
	}
	sealed, err := k.c.Keys.Seal(ctx, seal.AuditSubject, k.place(h.ID, seal.ColumnContent), now, text)
	if err != nil {
		return res, fmt.Errorf("seal a hold: %w", err)
	}
	private, err := k.c.Audit.Seal(ctx, k.c.Organisation, now, text)
	if err != nil {
		return res, err
	}
	var details []audit.Detail
	for name, text := range map[string]string{"channel": h.Channel, "patient_blind": h.Patient} {
		if text != "" {
			details = append(details, audit.Text(name, text))
		}
	}
	for name, t := range map[string]time.Time{"from": h.From, "until": h.Until} {
		if !t.IsZero() {
			details = append(details, audit.Text(name, t.Format(time.RFC3339)))
		}
	}
	if r.Message != "" {
		details = append(details, audit.Text("message", h.Message.String()))
	}
	err = k.c.DB.Commit(ctx, 1024, func(tx *db.Tx) error {
		res.Gone = nil
		if _, err := tx.Exec(insertHold, h.ID, int64(k.c.Organisation), message, h.Channel, micros(h.From), micros(h.Until), blind,
			sealed, micros(h.AddedAt), h.AddedBy); err != nil {
			return err
		}
		list, err := k.disposals(tx)
		if err != nil {
			return err
		}
		for _, d := range list {
			if d.class == classContent && d.scope == "" && h.touches(d.period) {
				res.Gone = append(res.Gone, d.period.String())
			}
		}
		_, err = k.c.Audit.Append(tx, who.entry(k.c.Organisation, audit.Entry{Event: audit.HoldAdded, Action: audit.Create,
			Result: audit.Success, ResourceType: "legal-hold", ResourceID: h.ID.String(), Details: details, Private: private}))
		return err
	})
	if err != nil {
		return res, fmt.Errorf("add a hold: %w", err)
	}
	return res, nil
}

// ReleaseHold ends a hold. Its row stays.
func (k *Keeper) ReleaseHold(ctx context.Context, who Actor, id, reason string) error {
	reason, err := checkReason(reason)
	if err != nil {
		return err
	}
	hold, err := db.ParseID(id)
	if err != nil {
		return fmt.Errorf("that hold: %w", ErrNotFound)
	}
	now := k.c.Now()
	sealed, err := k.c.Keys.Seal(ctx, seal.AuditSubject, k.place(hold, seal.ColumnRelease), now, []byte(reason))
	if err != nil {
		return fmt.Errorf("seal why a hold ends: %w", err)
	}
	private, err := k.c.Audit.Seal(ctx, k.c.Organisation, now, []byte(reason))
	if err != nil {
		return err
	}
	err = k.c.DB.Commit(ctx, 1024, func(tx *db.Tx) error {
		n, err := tx.Exec(releaseHold, now.UnixMicro(), who.String(), sealed, hold, int64(k.c.Organisation))
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("a hold with that id that is not released yet: %w", ErrNotFound)
		}
		_, err = k.c.Audit.Append(tx, who.entry(k.c.Organisation, audit.Entry{Event: audit.HoldReleased, Action: audit.Update,
			Result: audit.Success, ResourceType: "legal-hold", ResourceID: hold.String(), Private: private}))
		return err
	})
	if err != nil {
		return fmt.Errorf("release a hold: %w", err)
	}
	return nil
}

// Holds lists what is held now, or with all what ever was.
func (k *Keeper) Holds(ctx context.Context, all bool) (list []Hold, err error) {
	err = k.c.DB.Read(ctx, func(tx *db.Tx) error {
		list, err = k.readHolds(ctx, tx, all)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list holds: %w", err)
	}
	return list, nil
}

func (k *Keeper) readHolds(ctx context.Context, tx *db.Tx, all bool) ([]Hold, error) {
	every := 0
	if all {
		every = 1
	}
	rows, err := tx.Query(listHolds, int64(k.c.Organisation), every)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []Hold{}
	for rows.Next() {
		var h Hold
		var from, until, added, released int64
		var blind, sealed, why []byte
		if err := rows.Scan(&h.ID, &h.Message, &h.Channel, &from, &until, &blind, &sealed, &added, &h.AddedBy, &released, &h.ReleasedBy, &why); err != nil {
			return nil, err
		}
		h.Patient = hex.EncodeToString(blind)
		h.From, h.Until, h.AddedAt, h.ReleasedAt = moment(from), moment(until), moment(added), moment(released)
		text, err := k.c.Keys.Open(ctx, k.place(h.ID, seal.ColumnContent), sealed)
		if err != nil {
			return nil, fmt.Errorf("open hold %s: %w", h.ID, err)
		}
		var in held
		if err := json.Unmarshal(text, &in); err != nil {
			return nil, fmt.Errorf("open hold %s: it has another form", h.ID)
		}
		h.identifier, h.Reason = in.Patient, in.Reason
		if len(why) > 0 {
			text, err := k.c.Keys.Open(ctx, k.place(h.ID, seal.ColumnRelease), why)
			if err != nil {
				return nil, fmt.Errorf("open why hold %s ended: %w", h.ID, err)
			}
			h.ReleaseReason = string(text)
		}
		list = append(list, h)
	}
	return list, rows.Err()
}

func (k *Keeper) place(row db.ID, column uint16) seal.Place {
	return seal.Place{Table: seal.TableLegalHold, Column: column, Row: row, Org: k.c.Organisation}
}

// touches says whether a hold may be on a message of a month.
func (h *Hold) touches(p seal.Period) bool {
	if !h.Message.IsZero() && seal.PeriodOf(h.Message.Time()) != p {
		return false
	}
	return (h.From.IsZero() || h.From.Before((p + 1).Start())) && (h.Until.IsZero() || h.Until.After(p.Start()))
}

// holding is all holds as they stand to the messages of one month.
type holding struct {
	ever  int64 // holds that there ever were: another number means that one was added since
	list  []Hold
	about []map[int64]bool // by hold: numbers of the messages about its patient; nil: not by patient
}

// holdsOn finds out what is held in a month.
func (k *Keeper) holdsOn(ctx context.Context, p seal.Period) (*holding, error) {
	hs := &holding{}
	err := k.c.DB.Read(ctx, func(tx *db.Tx) error {
		all, err := k.readHolds(ctx, tx, false)
		if err != nil {
			return err
		}
		hs.list = nil
		for _, h := range all {
			if h.touches(p) {
				hs.list = append(hs.list, h)
			}
		}
		return tx.QueryRow(countHolds, []any{int64(k.c.Organisation)}, &hs.ever)
	})
	if err != nil {
		return nil, fmt.Errorf("read the holds: %w", err)
	}
	for _, h := range hs.list {
		var numbers map[int64]bool
		if h.identifier != "" {
			numbers = map[int64]bool{}
			if err := k.c.Messages.MessagesAbout(ctx, p, h.identifier, func(n int64) { numbers[n] = true }); err != nil {
				return nil, err
			}
		}
		hs.about = append(hs.about, numbers)
	}
	return hs, nil
}

// on says whether a message is held, and by which hold.
func (hs *holding) on(number int64, id db.ID, channel string) (*Hold, bool) {
	at := id.Time()
	for i := range hs.list {
		h := &hs.list[i]
		if (h.Message.IsZero() || h.Message == id) && (h.Channel == "" || h.Channel == channel) &&
			(h.From.IsZero() || !at.Before(h.From)) && (h.Until.IsZero() || at.Before(h.Until)) &&
			(hs.about[i] == nil || hs.about[i][number]) {
			return h, true
		}
	}
	return nil, false
}

// errHoldAdded: what was decided is out of date.
var errHoldAdded = errors.New("a hold was added meanwhile")

// unchanged makes sure, inside the transaction that disposes, that no hold was added since the decision.
func (k *Keeper) unchanged(tx *db.Tx, hs *holding) error {
	var n int64
	if err := tx.QueryRow(countHolds, []any{int64(k.c.Organisation)}, &n); err != nil {
		return err
	}
	if n != hs.ever {
		return errHoldAdded
	}
	return nil
}

func checkReason(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > maxReason {
		return "", fmt.Errorf("a reason has 1 to %d bytes: %w", maxReason, ErrConflict)
	}
	return strings.ToValidUTF8(s, "\uFFFD"), nil
}

func orNotFound(err error, what string) error {
	if err == nil {
		err = fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return err
}

func cutTime(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Microsecond)
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func moment(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
