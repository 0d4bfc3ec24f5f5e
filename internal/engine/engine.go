// Package engine is the way of a message: accepted at a source, sealed, stored with its deliveries and its audit entry in one
// transaction, answered, and delivered to each destination in order.
//
// Read [Intake.Accept] (accept.go) for the way in and queue.go for the way out. What the engine promises:
//
//   - An accepting answer (AA, CA; HL7 v2.5.1 section 2.9) leaves only after the message, its deliveries and its audit entry
//     are on stable storage. What could not be kept is answered AR (CR): the fault is ours, send again.
//   - Deliveries of one destination leave in the order of acceptance: strictly, or among messages that share a patient.
//   - "Attempt started", with the exact bytes, is stored before the first byte is sent. An attempt whose outcome is not known
//     is made again with the same bytes and marked as a possible duplicate.
//   - Message bytes are stored sealed only, and appear in no log, metric or error.
//
// Transports bring messages in (Source) and take them out (Sender); they live in internal/connect and know the engine, not the
// other way round. The engine starts goroutines only in Run, and Run waits for all of them.
package engine

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/errgroup"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

//go:embed schema/*.sql
var schema embed.FS

// Errors that callers branch on. "Not found" is also said of what belongs to another organisation.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("not possible in the present state")
)

// Config is everything an Engine needs. All fields but Replica are required.
type Config struct {
	DB           *db.DB
	Keys         *seal.Ring
	Audit        *audit.Log
	Now          func() time.Time
	Rand         io.Reader // identifiers and jitter
	Log          *slog.Logger
	Metrics      *metrics.Set
	Organisation string
	Channels     []Channel

	// Replica names this process to the others on the same PostgreSQL. Given the same one after a crash, it takes its own
	// queues back at once instead of waiting their leases out: give it only when the earlier process is certainly gone.
	// Zero draws a new one.
	Replica db.ID

	bucketSize int // of the index, for tests; 0: as the constant says
}

// An Engine runs the channels of one organisation.
type Engine struct {
	cfg      Config
	db       *db.DB
	keys     *seal.Ring
	audit    *audit.Log
	log      *slog.Logger
	org      int64 // the organisation's number
	replica  db.ID // who holds a lease
	channels []*channel
	index    *index
	metrics  *meters

	ready chan struct{} // closed when all sources listen

	switching sync.Mutex // one start, stop, pause or resume at a time
}

// Migrate makes this room's tables, or brings them up to date. New does it too; it is for who owns the tables where the service does not.
func Migrate(ctx context.Context, d *db.DB) error { return d.Migrate(ctx, "engine", schema) }

// New prepares the tables, gives every channel and destination its number, and records the revisions that are new. It starts
// nothing yet.
func New(ctx context.Context, c Config) (*Engine, error) {
	var missing []string
	for name, absent := range map[string]bool{
		"DB": c.DB == nil, "Keys": c.Keys == nil, "Audit": c.Audit == nil, "Now": c.Now == nil, "Rand": c.Rand == nil,
		"Log": c.Log == nil, "Metrics": c.Metrics == nil, "Organisation": c.Organisation == "",
	} {
		if absent {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("make the engine: Config without %s", strings.Join(missing, ", "))
	}
	e := &Engine{
		cfg: c, db: c.DB, keys: c.Keys, audit: c.Audit, log: c.Log,
		replica: c.Replica, ready: make(chan struct{}), metrics: newMeters(c.Metrics),
	}
	if e.replica.IsZero() {
		e.replica = c.DB.NewID()
	}
	if err := Migrate(ctx, c.DB); err != nil {
		return nil, err
	}
	for i := range c.Channels {
		ch, err := newChannel(e, &c.Channels[i])
		if err != nil {
			return nil, err
		}
		e.channels = append(e.channels, ch)
	}
	if err := e.register(ctx); err != nil {
		return nil, fmt.Errorf("register the channels: %w", err)
	}
	e.index = newIndex(e)
	if err := e.index.load(ctx); err != nil {
		return nil, fmt.Errorf("load the search index: %w", err)
	}
	return e, nil
}

// Run opens every source, serves until ctx ends, and stops from the outside in: sources first, so that no accepted message
// loses its answer, then the queues. It returns nil after a stop that was asked for.
func (e *Engine) Run(ctx context.Context) error {
	for i, ch := range e.channels {
		if err := ch.open(); err != nil {
			for _, opened := range e.channels[:i] {
				opened.closeUnused()
			}
			return err
		}
	}
	queues, stopQueues := context.WithCancel(context.WithoutCancel(ctx))
	defer stopQueues()
	lines, queues := errgroup.WithContext(queues)
	for _, ch := range e.channels {
		for _, q := range ch.queues {
			lines.Go(func() error { return q.Run(queues) })
		}
	}
	lines.Go(func() error { return e.index.Run(queues) })

	// A queue that fails for good (the database stopped) must end the sources too.
	doors, inside := errgroup.WithContext(ctx)
	for _, ch := range e.channels {
		doors.Go(func() error { return ch.runSource(inside) })
	}
	doors.Go(func() error {
		select {
		case <-inside.Done():
			return nil
		case <-queues.Done():
			return errors.New("the queues have ended")
		}
	})
	close(e.ready)
	err := doors.Wait()
	stopQueues()
	if inner := lines.Wait(); inner != nil && !errors.Is(inner, context.Canceled) {
		err = inner
	}
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

// Ready is closed once all sources listen.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// channel finds a running channel by its name.
func (e *Engine) channel(name string) (*channel, error) {
	for _, ch := range e.channels {
		if ch.cfg.Name == name {
			return ch, nil
		}
	}
	return nil, fmt.Errorf("channel %q: %w", name, ErrNotFound)
}

func (e *Engine) channelNumbered(n int64) *channel {
	for _, ch := range e.channels {
		if ch.number == n {
			return ch
		}
	}
	return nil
}

// An Actor is who asks the engine for something. Until there are accounts, the operating system names the person.
type Actor struct {
	OSUser  string // user of the operating system
	Program string // the program that asked: "lazaret message show"
	Purpose string // HL7 PurposeOfUse, where content is read
	Addr    string // address, or "" for the local socket
}
