package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/transform"
)

// A Channel takes messages at its source, admits them, and delivers them to its destinations.
type Channel struct {
	Name         string
	Description  string
	Enabled      bool
	Settings     []byte // canonical text of its settings, without secrets: a new text is a new revision
	Charset      string // what the bytes are in, whatever MSH-18 says; "" believes MSH-18
	Unacceptable Unacceptable
	Admit        Admit
	Source       Source
	Destinations []Destination
}

// Unacceptable is what a message that cannot be taken is answered: AE, AR, AA, or close.
type Unacceptable string

// Answers to what is not acceptable. With AnswerAE, unknown types, versions and processing IDs are answered AR all the same, as
// HL7 v2.5.1 section 2.9.2.2 has it. AA and close are for old senders that would otherwise stall for ever.
const (
	AnswerAE    Unacceptable = "AE"
	AnswerAR    Unacceptable = "AR"
	AnswerAA    Unacceptable = "AA"
	AnswerClose Unacceptable = "close"
)

// Admit says which messages a channel takes. Empty lists take all.
type Admit struct {
	Types         []string // ADT, ADT^A01, ADT^*, *^R01, ADT^A01^ADT_A01
	Versions      []string // MSH-12
	ProcessingIDs []string // MSH-11: P, D, T
	MaxSize       int      // bytes; 0: what the source reads
	Rate          *Rate    // a peer; nil: no limit
	Duplicates    time.Duration
	RejectedQuota int64 // bytes of refused content kept, a peer and day
}

// Rate is so many messages in so much time.
type Rate struct {
	Messages int
	Per      time.Duration
	Burst    int
}

// A Peer is who sent a message.
type Peer struct {
	Name string // of its verified certificate; "" without one
	Addr netip.AddrPort
}

// Key names the peer for limits, quotas and the duplicate window: its certificate's name, else its address.
func (p Peer) Key() string {
	if p.Name != "" {
		return p.Name
	}
	return p.Addr.Addr().Unmap().String()
}

// A Source brings messages in.
type Source interface {
	// Open binds the address, so that a taken port shows before anything runs.
	Open() error
	// Run serves until ctx ends, drains so that no message that was taken loses its answer, closes and returns nil.
	// After it the source can be opened again.
	Run(ctx context.Context, h Handler) error
	// Addr is where it listens, once open.
	Addr() string
}

// A Handler is what a source gives its messages to.
type Handler interface {
	// Accept returns the answer to a message. No answer and no error: none was asked for. An error: close the connection.
	Accept(ctx context.Context, p Peer, block []byte) (answer []byte, err error)
	// TooLong answers a message that was too long to read; prefix is its beginning.
	TooLong(ctx context.Context, p Peer, prefix []byte) (answer []byte)
	// Refused notes a connection that was turned away.
	Refused(p Peer, why string)
}

// channel is a Channel that runs.
type channel struct {
	*Intake
	cfg      *Channel
	engine   *Engine
	number   int64
	revision int64
	queues   []*queue

	mu      sync.Mutex
	stopped bool          // guarded by mu
	changed chan struct{} // closed and replaced when stopped changes; guarded by mu
	opened  bool          // Open was called and Run was not yet; guarded by mu
	state   string        // what the source does now; guarded by mu
}

func newChannel(e *Engine, c *Channel) (*channel, error) {
	if c.Name == "" || c.Source == nil {
		return nil, errors.New("make the engine: a channel without name or source")
	}
	ch := &channel{cfg: c, engine: e, changed: make(chan struct{}), state: "stopped"}
	types, err := parseTypes(c.Admit.Types)
	if err != nil {
		return nil, fmt.Errorf("channel %q: %w", c.Name, err)
	}
	ch.Intake = &Intake{channel: ch, types: types, door: e.metrics.door(c.Name), limits: map[string]*rate.Limiter{}}
	for i := range c.Destinations {
		d := &c.Destinations[i]
		if err := d.check(); err != nil {
			return nil, fmt.Errorf("channel %q, destination %q: %w", c.Name, d.Name, err)
		}
		ch.queues = append(ch.queues, newQueue(ch, d))
	}
	return ch, nil
}

// Order says which deliveries of a queue wait for which.
type Order string

// Orders.
const (
	OrderStrict  Order = "strict"  // each waits for all earlier ones
	OrderPatient Order = "patient" // each waits for the earlier ones that share a patient identifier with it
	OrderNone    Order = "none"    // none waits
)

// Policy is what follows when a delivery does not go well.
type Policy string

// Policies.
const (
	Retry Policy = "retry" // try again later, in its place
	Skip  Policy = "skip"  // set it aside as an error, go on
	Hold  Policy = "hold"  // stop the queue until a person resumes it
)

// Backoff is how a delivery is tried again: after First, then twice as long each time, up to Max.
type Backoff struct {
	First, Max     time.Duration
	Jitter         float64 // share of a wait that is drawn by lot, 0 to 1
	GiveUpAfter    time.Duration
	GiveUpAttempts int // 0 and 0: never
}

// A Destination is one receiver, with a queue of its own.
type Destination struct {
	Name     string
	Enabled  bool
	Filter   *transform.Expr    // nil: all messages go
	Steps    *transform.Program // nil: as they came
	Order    Order
	Window   int // how many deliveries one commit marks as started, 1 to 64
	Retry    Backoff
	OnReject Policy        // retry, skip, hold
	OnError  Policy        // of filter and steps: skip, hold
	Timeout  time.Duration // the longest that one Send takes
	Sender   Sender
}

func (d *Destination) check() error {
	switch {
	case d.Name == "":
		return errors.New("no name")
	case d.Sender == nil:
		return errors.New("no sender")
	case d.Window < 1 || d.Window > 64:
		return errors.New("window must be 1 to 64")
	case d.Order != OrderStrict && d.Order != OrderPatient && d.Order != OrderNone:
		return errors.New("order must be strict, patient or none")
	case d.OnReject != Retry && d.OnReject != Skip && d.OnReject != Hold:
		return errors.New("on_reject must be retry, skip or hold")
	case d.OnError != Skip && d.OnError != Hold:
		return errors.New("on_error must be skip or hold")
	case d.Retry.First <= 0 || d.Retry.Max < d.Retry.First:
		return errors.New("retry needs a first wait, and a longest one that is not shorter")
	}
	return nil
}

// A Sender takes messages to a receiver. It is used by one goroutine at a time.
type Sender interface {
	// Send returns the receiver's verdict. An error means that there is none: with *NotSent nothing can have reached the
	// receiver, with any other it may have.
	Send(ctx context.Context, block []byte) (Reply, error)
	Close() error
}

// A Reply is a receiver's verdict on one message.
type Reply struct {
	Taken bool
	Code  string // MSA-1, and the code of table 0357 where there is one: "AE 207"
	Text  string // the receiver's words; may hold PHI, so it is stored sealed or not at all
}

// Unsendable wraps the error of a Send of a message that this transport can never carry: trying again would not help. What
// follows is the destination's OnError.
type Unsendable struct{ Err error }

func (e *Unsendable) Error() string { return e.Err.Error() }
func (e *Unsendable) Unwrap() error { return e.Err }

// NotSent wraps the error of a Send of which no byte left.
type NotSent struct{ Err error }

func (e *NotSent) Error() string { return e.Err.Error() }
func (e *NotSent) Unwrap() error { return e.Err }

// register gives organisation, channels and destinations their numbers, and writes down what is new about them.
func (e *Engine) register(ctx context.Context) error {
	err := e.db.Commit(ctx, 0, func(tx *db.Tx) error {
		org, err := number(tx, `SELECT number FROM organisation WHERE name = $1`, []any{e.cfg.Organisation}, func(n int64) error {
			_, err := tx.Exec(`INSERT INTO organisation (number, id, name) VALUES ($1, $2, $3)`, n, e.db.NewID(), e.cfg.Organisation)
			return err
		}, `SELECT coalesce(max(number), 0) FROM organisation`)
		if err != nil {
			return err
		}
		e.org = org
		for _, ch := range e.channels {
			if err := ch.register(tx); err != nil {
				return fmt.Errorf("channel %q: %w", ch.cfg.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return e.db.Confine(e.org)
}

// number looks a name's number up, or gives it the next one.
func number(tx *db.Tx, find string, args []any, insert func(n int64) error, highest string) (n int64, err error) {
	err = tx.QueryRow(find, args, &n)
	if !errors.Is(err, db.ErrNoRows) {
		return n, err
	}
	if err := tx.QueryRow(highest, nil, &n); err != nil {
		return 0, err
	}
	return n + 1, insert(n + 1)
}

const (
	findRevision   = `SELECT revision, digest FROM channel_revision WHERE channel = $1 ORDER BY revision DESC LIMIT 1`
	insertRevision = `INSERT INTO channel_revision (channel, revision, digest, settings, created_at) VALUES ($1, $2, $3, $4, $5)`
)

func (ch *channel) register(tx *db.Tx) (err error) {
	e := ch.engine
	ch.number, err = number(tx, `SELECT number FROM channel WHERE organisation = $1 AND name = $2`, []any{e.org, ch.cfg.Name},
		func(n int64) error {
			_, err := tx.Exec(`INSERT INTO channel (number, organisation, name) VALUES ($1, $2, $3)`, n, e.org, ch.cfg.Name)
			return err
		}, `SELECT coalesce(max(number), 0) FROM channel`)
	if err != nil {
		return err
	}
	var stopped int64
	if err := tx.QueryRow(`SELECT stopped FROM channel WHERE number = $1`, []any{ch.number}, &stopped); err != nil {
		return err
	}
	ch.stopped = stopped != 0
	digest := sha256.Sum256(ch.cfg.Settings)
	var was int64
	var old []byte
	if err := tx.QueryRow(findRevision, []any{ch.number}, &was, &old); err != nil && !errors.Is(err, db.ErrNoRows) {
		return err
	}
	ch.revision = was
	if string(old) != string(digest[:]) {
		ch.revision = was + 1
		if _, err := tx.Exec(insertRevision, ch.number, ch.revision, digest[:], string(ch.cfg.Settings), tx.Now().UnixMicro()); err != nil {
			return err
		}
		details := []audit.Detail{audit.Text("after", hex.EncodeToString(digest[:])), audit.Text("before", hex.EncodeToString(old)),
			audit.Int("revision", ch.revision)}
		if err := e.record(tx, audit.Entry{Event: audit.ConfigLoaded, Action: audit.Update, Result: audit.Success,
			ResourceType: "channel", ResourceID: ch.cfg.Name, Details: details}); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(`UPDATE channel SET revision = $1 WHERE number = $2`, ch.revision, ch.number); err != nil {
		return err
	}
	for _, q := range ch.queues {
		if err := q.register(tx); err != nil {
			return fmt.Errorf("destination %q: %w", q.cfg.Name, err)
		}
	}
	return nil
}

// open binds the source of a channel that is to run.
func (ch *channel) open() error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if !ch.cfg.Enabled || ch.stopped {
		return nil
	}
	if err := ch.cfg.Source.Open(); err != nil {
		return fmt.Errorf("channel %q: open its source: %w", ch.cfg.Name, err)
	}
	ch.opened, ch.state = true, "listening"
	return nil
}

// closeUnused lets go of a source that was opened and never run.
func (ch *channel) closeUnused() {
	if ch.opened {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		ch.cfg.Source.Run(ended, ch)
	}
}

// runSource serves the source whenever the channel is not stopped.
func (ch *channel) runSource(ctx context.Context) error {
	if !ch.cfg.Enabled {
		return nil
	}
	for ctx.Err() == nil {
		ch.mu.Lock()
		stopped, changed, opened := ch.stopped, ch.changed, ch.opened
		ch.opened = false
		ch.mu.Unlock()
		if stopped {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if !opened {
			if err := ch.cfg.Source.Open(); err != nil {
				// The others go on; this one is tried again, since what holds its port may go.
				ch.setState("cannot listen: " + err.Error())
				ch.engine.log.Error("open a source", "channel", ch.cfg.Name, "error", err)
				select {
				case <-time.After(5 * time.Second):
				case <-changed:
				case <-ctx.Done():
				}
				continue
			}
		}
		ch.setState("listening")
		serving, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			select {
			case <-changed:
				stop()
			case <-serving.Done():
			}
		}()
		err := ch.cfg.Source.Run(serving, ch)
		stop()
		<-done
		ch.setState("stopped")
		if err != nil {
			return fmt.Errorf("channel %q: %w", ch.cfg.Name, err)
		}
	}
	return nil
}

func (ch *channel) setState(s string) {
	ch.mu.Lock()
	ch.state = s
	ch.mu.Unlock()
}

// setStopped changes what the channel is to do, and wakes whoever acts on it.
func (ch *channel) setStopped(stopped bool) {
	ch.mu.Lock()
	ch.stopped = stopped
	close(ch.changed)
	ch.changed = make(chan struct{})
	ch.mu.Unlock()
	for _, q := range ch.queues {
		q.wake()
	}
}

func (ch *channel) isStopped() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.stopped
}

// typePattern is one entry of admit.types, cut at its carets; "*" and what is missing match anything.
type typePattern [3]string

func parseTypes(list []string) (types []typePattern, err error) {
	for _, s := range list {
		parts := strings.Split(s, "^")
		if len(parts) > 3 || parts[0] == "" {
			return nil, errors.New("a message type has the form TYPE, TYPE^EVENT or TYPE^EVENT^STRUCTURE")
		}
		t := typePattern{"*", "*", "*"}
		copy(t[:], parts)
		types = append(types, t)
	}
	return types, nil
}

func (t typePattern) matches(code, event, structure string) bool {
	return (t[0] == "*" || t[0] == code) && (t[1] == "*" || t[1] == event) && (t[2] == "*" || t[2] == structure)
}

func (t typePattern) String() string {
	s := strings.Join(t[:], "^")
	return strings.TrimSuffix(s, "^*")
}
