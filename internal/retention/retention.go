// Package retention says how long what lives, and sees to its end (45 CFR 164.310(d)(2)(i), 164.316(b)(2)(i); the guide's "Data
// Retention" and "Secure Disposal").
//
// A Policy gives each class of data its time: message content, refused content, metadata, the audit log's sealed details.
// Nothing is disposed of unless a policy says so. Data keys belong to an organisation, a purpose and a month, so content goes by
// the month: when all of it is past its time, no legal hold is on it and no destination waits for it, the month's keys are
// destroyed first (NIST SP 800-88, cryptographic erase), which ends it in every copy and backup of the database too; then the
// rows go in small commits that let the engine pass; then a certificate is written to the audit log. A channel with a shorter
// time has its rows deleted before; its content in older backups ends with the month's key, that is with the longest time in
// the month.
//
// A disposal is decided in one transaction and on record from then on. Whatever stops the process, the next start goes on where
// it was. A month whose keys were destroyed in another way, or whose rows came back with an older copy of the database, is
// recognised and finished.
//
// What must never happen is that a wrong clock or a slip of the pen destroys content. So a new policy waits a day before it is
// carried out, a schedule that was interrupted for more than 35 days, or a clock that went back, waits for a person, and what a
// person starts is shown first (Plan).
//
// Audit entries are never disposed of: whose data went to whom stays countable. This package knows no table of messages; whoever
// keeps them does the work, behind the interface Messages.
package retention

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

//go:embed schema/*.sql
var schema embed.FS

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("not possible in the present state")
)

// Messages is who keeps messages: the engine. Months are those of a message's keys.
type Messages interface {
	// MessagePeriods lists the months that have messages, oldest first, with about how many.
	MessagePeriods(ctx context.Context, fn func(p seal.Period, messages int64)) error
	// WalkMessages shows a month's messages. content is false where it went before its month.
	WalkMessages(ctx context.Context, p seal.Period, fn func(number int64, id db.ID, channel string, rejected, content bool, size int64)) error
	// MessagesAbout shows the numbers of a month's messages that name a patient.
	MessagesAbout(ctx context.Context, p seal.Period, identifier string, fn func(number int64)) error
	// HasMessage and HasChannel say whether the organisation has, or had, these.
	HasMessage(ctx context.Context, id db.ID) (bool, error)
	HasChannel(ctx context.Context, name string) (bool, error)
	// Undelivered tells for which destinations a month's messages wait. BeginDisposal says whether that is still so since then,
	// and keeps the month's messages from being queued again.
	Undelivered(ctx context.Context, p seal.Period, fn func(channel, destination string, known bool, deliveries int64)) (since int64, err error)
	BeginDisposal(tx *db.Tx, p seal.Period, since int64) (bool, error)
	// DropContent, DropMetadata and DropTokens delete, a batch a commit.
	DropContent(ctx context.Context, p seal.Period, after db.ID, limit int,
		pick func(number int64, id db.ID, channel string, rejected bool) bool,
		record func(tx *db.Tx, next db.ID, more bool, messages, bytes, attempts int64) error) error
	DropMetadata(ctx context.Context, p seal.Period, limit int, record func(tx *db.Tx, more bool, messages, deliveries int64) error) error
	DropTokens(ctx context.Context, p seal.Period, all bool, wait func(context.Context, time.Duration) error) (dropped int64, err error)
}

// Config is what a Keeper needs. All fields are required.
type Config struct {
	DB           *db.DB
	Keys         *seal.Ring
	Audit        *audit.Log
	Messages     Messages
	Organisation uint32 // its number
	Replica      db.ID  // what other replicas know this one by; the same after a crash, and it goes on at once
	Policy       Policy
	At           time.Duration // the time of day, in UTC, at which the policy is carried out
	Now          func() time.Time
	Sleep        func(context.Context, time.Duration) error // between batches; an error ends the run
	Log          *slog.Logger
}

// A Keeper carries out one organisation's policy.
type Keeper struct {
	c     Config
	asked chan Actor // a person wants a run

	mu       sync.Mutex
	progress Progress // guarded by mu
}

// An Actor is who asked for something: a person, or the schedule.
type Actor struct {
	OSUser  string
	Program string
}

func (a Actor) String() string {
	if a.OSUser == "" {
		return a.Program
	}
	return a.OSUser
}

func (a Actor) entry(org uint32, e audit.Entry) audit.Entry {
	e.Org, e.OSUser, e.Program = org, a.OSUser, a.Program
	return e
}

// Migrate makes this room's tables, or brings them up to date. New does it too; it is for who owns the tables where the service does not.
func Migrate(ctx context.Context, d *db.DB) error { return d.Migrate(ctx, "retention", schema) }

// New prepares the tables. It starts nothing.
func New(ctx context.Context, c Config) (*Keeper, error) {
	switch {
	case c.DB == nil || c.Keys == nil || c.Audit == nil || c.Messages == nil || c.Now == nil || c.Sleep == nil || c.Log == nil:
		return nil, errors.New("retention: DB, Keys, Audit, Messages, Now, Sleep and Log must be given")
	case c.Organisation == 0 || c.Replica.IsZero():
		return nil, errors.New("retention: Organisation and Replica must be given")
	case c.At < 0 || c.At >= 24*time.Hour:
		return nil, errors.New("retention: At is a time of day")
	}
	if err := c.Policy.check(); err != nil {
		return nil, fmt.Errorf("retention: %w", err)
	}
	if err := Migrate(ctx, c.DB); err != nil {
		return nil, err
	}
	return &Keeper{c: c, asked: make(chan Actor, 1)}, nil
}

// Progress is what a run does, or did last.
type Progress struct {
	Number       int       `json:"number"` // of runs since the start
	Running      bool      `json:"running"`
	By           string    `json:"by,omitempty"`
	Started      time.Time `json:"started,omitzero"`
	Ended        time.Time `json:"ended,omitzero"`
	Step         string    `json:"step,omitempty"` // content of 2026-01
	Done         int64     `json:"done"`           // messages of this step
	Total        int64     `json:"total"`
	Certificates []int64   `json:"certificates,omitempty"` // their places in the audit log
	Error        string    `json:"error,omitempty"`
}

// Progress tells what a run does now.
func (k *Keeper) Progress() Progress {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.progress
	p.Certificates = append([]int64(nil), p.Certificates...)
	return p
}

func (k *Keeper) note(change func(p *Progress)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(&k.progress)
}
