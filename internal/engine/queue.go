package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
)

// State is where a delivery is on its way.
type State int

// States of a delivery: fixed codes, they are stored. Those up to Started are not settled.
const (
	Pending  State = 1 // waits for its turn
	Started  State = 2 // its bytes are stored, and an attempt may have reached the receiver
	Sent     State = 3 // the receiver took it
	Filtered State = 4 // the destination's filter dropped it
	Failed   State = 5 // set aside as an error
)

const (
	takeAtOnce = 256  // deliveries read at once
	lookAhead  = 4096 // deliveries held in memory: how far past a blocked one a queue looks
	leaseTime  = 2 * time.Minute
	pollEvery  = time.Second // for what other replicas accepted
	countEvery = 10 * time.Second
	stopGrace  = 2 * time.Second // how long a stop waits for the answer to what is under way
)

// ErrLeaseLost: another replica holds the queue now. Whatever was under way is its business.
var ErrLeaseLost = errors.New("another replica holds this queue")

// queue delivers to one destination, in order, for as long as it holds the lease. One goroutine runs it.
type queue struct {
	channel *channel
	cfg     *Destination
	number  int64
	log     loggerFor

	bell  chan struct{} // rung when there may be something to do
	depth atomic.Int64  // deliveries that are not settled, as far as this replica knows
	inMem atomic.Int64  // of them, those that are in memory, as of the last turn

	mu     sync.Mutex
	paused bool   // guarded by mu
	held   string // why it is held; guarded by mu
	state  string // what it does now, for people; guarded by mu

	// Owned by Run.
	fence    int64
	lease    time.Time // until when, by this process's clock; zero: not held
	waiting  []*delivery
	loaded   int64 // the highest number that was read
	low      int64 // everything below is settled
	settled  []settlement
	failures int       // attempts in a row that reached nobody
	pause    time.Time // the receiver is left alone until then

	refreshed time.Time // when what other replicas' users asked for was read
	counted   time.Time // when depth was
}

// delivery is one unsettled row of the queue.
type delivery struct {
	number, message int64
	id              db.ID // the message's
	state           State
	attempts        int
	nextAt          time.Time
	firstAt         time.Time // when it was first started; zero: never
	flags           int
	keys            []byte // order keys, orderKeySize each
	done            bool   // settled
	storing         bool   // goes back to Pending with the next commit
	unsent          bool   // started in this process, and certainly nothing was sent since

	block []byte // what is sent; nil until it was prepared
}

// settlement is a result that the next commit stores.
type settlement struct {
	d       *delivery
	state   State
	outcome string
	nextAt  time.Time // of a delivery that goes back to Pending
	hold    string    // why the queue is held from now on
	entry   audit.Entry
}

// orderKeySize is how much of a blind patient identifier decides about order. A clash makes two deliveries wait for each other.
const orderKeySize = 8

func newQueue(ch *channel, d *Destination) *queue {
	return &queue{channel: ch, cfg: d, bell: make(chan struct{}, 1), state: "stopped"}
}

const (
	findQueue    = `SELECT number FROM queue WHERE channel = $1 AND name = $2`
	insertQueue  = `INSERT INTO queue (number, channel, name) VALUES ($1, $2, $3)`
	showQueue    = `SELECT paused, held, low FROM queue WHERE number = $1`
	highestQueue = `SELECT coalesce(max(number), 0) FROM queue`
	countWaiting = `SELECT count(*) FROM delivery WHERE queue = $1 AND number >= (SELECT low FROM queue WHERE number = $1) AND state <= 2`
)

func (q *queue) register(tx *db.Tx) (err error) {
	q.log = loggerFor{q.channel.engine.log.With("channel", q.channel.cfg.Name, "destination", q.cfg.Name)}
	q.number, err = number(tx, findQueue, []any{q.channel.number, q.cfg.Name}, func(n int64) error {
		_, err := tx.Exec(insertQueue, n, q.channel.number, q.cfg.Name)
		return err
	}, highestQueue)
	if err != nil {
		return err
	}
	var paused int64
	if err := tx.QueryRow(showQueue, []any{q.number}, &paused, &q.held, &q.low); err != nil {
		return err
	}
	q.paused = paused != 0
	if err := q.count(tx); err != nil {
		return err
	}
	q.channel.engine.metrics.watch(q)
	return nil
}

// count finds out how many deliveries wait.
func (q *queue) count(tx *db.Tx) error {
	var waiting int64
	if err := tx.QueryRow(countWaiting, []any{q.number}, &waiting); err != nil {
		return err
	}
	q.depth.Store(waiting)
	return nil
}

// insert queues a message under a number of its own, in the transaction that accepts or resends it.
func (q *queue) insert(tx *db.Tx, number, message int64, keys []byte, flags int) error {
	if keys == nil {
		keys = []byte{}
	}
	return tx.Insert(deliveries, q.number, number, message, int(Pending), 0, int64(0), int64(0), int64(0), int64(0), flags, keys, "")
}

// arrived tells the queue that one more delivery was committed.
func (q *queue) arrived() {
	if q.cfg.Enabled {
		q.depth.Add(1)
		q.wake()
	}
}

func (q *queue) wake() {
	select {
	case q.bell <- struct{}{}:
	default:
	}
}

// mayRun says whether the queue is to deliver now.
func (q *queue) mayRun() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.paused && q.held == "" && q.cfg.Enabled && q.channel.cfg.Enabled && !q.channel.isStopped()
}

func (q *queue) setState(s string) {
	q.mu.Lock()
	q.state = s
	q.mu.Unlock()
}

// Run delivers what is due until ctx ends. It then stores the results it has, gives the lease back and returns nil. It returns an
// error only when the database takes no more writes.
func (q *queue) Run(ctx context.Context) (err error) {
	defer q.cfg.Sender.Close()
	if !q.cfg.Enabled || !q.channel.cfg.Enabled {
		<-ctx.Done()
		return nil
	}
	defer func() {
		if err == nil {
			q.giveBack()
		}
	}()
	for ctx.Err() == nil {
		wait, err := q.turn(ctx)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, db.ErrStopped):
			return err
		case errors.Is(err, ErrLeaseLost):
			q.forget()
			wait = pollEvery
		default:
			// Nothing was kept, so the results in memory are tried again: forgetting them would send again what was sent. Only
			// where the outcome is not known do the rows know more.
			if errors.Is(err, db.ErrOutcomeUnknown) {
				q.forget()
			}
			q.setState("waits: " + err.Error())
			q.log.Error("deliver", "error", err)
			wait = pollEvery
		}
		if wait > 0 {
			t := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-q.bell:
			case <-t.C:
			}
			t.Stop()
		}
	}
	return nil
}

// forget drops what is in memory: the rows tell where to go on.
func (q *queue) forget() {
	q.lease, q.waiting, q.settled, q.loaded = time.Time{}, nil, nil, 0
}

// turn is one round: hold the lease, read what is due, prepare it, mark it, send it. It returns how long there is nothing to do.
func (q *queue) turn(ctx context.Context) (wait time.Duration, err error) {
	if err := q.refresh(ctx); err != nil {
		return 0, err
	}
	if !q.mayRun() {
		if err := q.commitResults(ctx, nil); err != nil {
			return 0, err
		}
		q.setState(q.why())
		return pollEvery, nil
	}
	if held, err := q.hold(ctx); err != nil || !held {
		q.setState("another replica delivers")
		return pollEvery, err
	}
	if err := q.load(ctx); err != nil {
		return 0, fmt.Errorf("read what is due: %w", err)
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(d *delivery) bool { return d.done })
	q.inMem.Store(int64(len(q.waiting)))
	now := q.channel.engine.cfg.Now()
	due, next := q.due(now)
	if len(due) == 0 {
		if err := q.commitResults(ctx, nil); err != nil {
			return 0, err
		}
		if len(q.waiting) == 0 {
			q.setState("idle")
			return pollEvery, nil
		}
		q.setState("waits for the next attempt")
		return min(max(next.Sub(now), time.Millisecond), pollEvery), nil
	}
	q.setState("delivers")
	ready, err := q.prepare(ctx, due)
	if err != nil {
		return 0, err
	}
	// One commit stores the results of the last round and marks this one.
	if err := q.commitResults(ctx, ready); err != nil {
		return 0, err
	}
	return 0, q.send(ctx, ready)
}

const showRunning = `SELECT q.paused, q.held, c.stopped FROM queue q JOIN channel c ON c.number = q.channel WHERE q.number = $1`

// refresh learns what another replica's user asked for. On SQLite there is no other replica.
func (q *queue) refresh(ctx context.Context) error {
	e := q.channel.engine
	now := e.cfg.Now()
	if e.db.Engine() == db.SQLite || now.Sub(q.refreshed) < pollEvery || len(q.settled) > 0 {
		return nil
	}
	q.refreshed = now
	var paused, stopped bool
	var held string
	err := e.db.Read(ctx, func(tx *db.Tx) error {
		var p, s int64
		err := tx.QueryRow(showRunning, []any{q.number}, &p, &held, &s)
		if paused, stopped = p != 0, s != 0; err != nil || now.Sub(q.counted) < countEvery {
			return err
		}
		// Others accept and deliver too, so this process's own count drifts.
		q.counted = now
		return q.count(tx)
	})
	if err != nil {
		return fmt.Errorf("read what the queue is to do: %w", err)
	}
	q.mu.Lock()
	q.paused, q.held = paused, held
	q.mu.Unlock()
	if stopped != q.channel.isStopped() {
		q.channel.setStopped(stopped)
	}
	return nil
}

// why tells a person why the queue does not deliver.
func (q *queue) why() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.held != "":
		return "held: " + q.held
	case q.paused:
		return "paused"
	}
	return "stopped"
}

const listDue = `SELECT d.number, d.message, m.id, d.state, d.attempts, d.next_at, d.started_at, d.flags, d.keys
	FROM delivery d JOIN message m ON m.number = d.message
	WHERE d.queue = $1 AND d.number > $2 AND d.state <= 2 ORDER BY d.number LIMIT $3`

// load reads further deliveries when few are left in memory.
func (q *queue) load(ctx context.Context) error {
	if len(q.waiting) > takeAtOnce/2 && (len(q.waiting) >= lookAhead || q.cfg.Order == OrderStrict) {
		return nil
	}
	return q.channel.engine.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(listDue, q.number, max(q.loaded, q.low-1), takeAtOnce)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			d := &delivery{}
			var state int
			var nextAt, startedAt int64
			err := rows.Scan(&d.number, &d.message, &d.id, &state, &d.attempts, &nextAt, &startedAt, &d.flags, &d.keys)
			if err != nil {
				return err
			}
			d.state = State(state)
			if nextAt > 0 {
				d.nextAt = time.UnixMicro(nextAt)
			}
			if startedAt > 0 {
				d.firstAt = time.UnixMicro(startedAt)
			}
			q.waiting = append(q.waiting, d)
			q.loaded = d.number
		}
		return rows.Err()
	})
}

// due picks what may be sent now, in order, at most a window of it. next is when to look again if that is nothing.
func (q *queue) due(now time.Time) (due []*delivery, next time.Time) {
	next = now.Add(time.Hour)
	if now.Before(q.pause) {
		return nil, q.pause
	}
	earlier := map[[orderKeySize]byte]bool{} // keys of deliveries that come before and must be settled first
	blocked := false
	for _, d := range q.waiting {
		if len(due) == q.cfg.Window {
			break
		}
		switch q.cfg.Order {
		case OrderStrict:
			if d.storing || d.nextAt.After(now) {
				return due, earliest(next, d.nextAt)
			}
		case OrderPatient:
			waits := d.storing || d.nextAt.After(now)
			if waits {
				next = earliest(next, d.nextAt)
			}
			if len(d.keys) == 0 {
				waits = waits || blocked
			}
			if waits && d.flags&flagBarrier != 0 {
				return due, next
			}
			for k := d.keys; len(k) >= orderKeySize; k = k[orderKeySize:] {
				if earlier[[orderKeySize]byte(k)] {
					waits = true
				}
			}
			if waits {
				// Whoever shares a patient with one that waits, waits too, also for the ones between.
				blocked = true
				for k := d.keys; len(k) >= orderKeySize; k = k[orderKeySize:] {
					earlier[[orderKeySize]byte(k)] = true
				}
				continue
			}
		case OrderNone:
			if d.storing || d.nextAt.After(now) {
				next = earliest(next, d.nextAt)
				continue
			}
		}
		due = append(due, d)
	}
	return due, next
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// send makes the attempts, in order. Each result waits for the next commit; a crash before it repeats them, marked.
func (q *queue) send(ctx context.Context, ready []*delivery) error {
	e := q.channel.engine
	// A strict queue may not pass a delivery that stays. In the other orders only those of the same patients may not.
	stuck := map[[orderKeySize]byte]bool{}
	for _, d := range ready {
		if ctx.Err() != nil || !q.mayRun() {
			break // the rest stays marked: it is sent later, with the same bytes
		}
		if q.waitsFor(d, stuck) {
			if d.flags&flagBarrier != 0 {
				break
			}
			continue
		}
		// The socket gets no longer than the lease; a slow receiver's window may need it prolonged in between.
		if held, err := q.prolong(ctx); err != nil || !held {
			return err
		}
		start := e.cfg.Now()
		sending, done := limited(ctx, q.lease.Sub(start)-q.leaseTime()/10)
		if d.state == Started && !d.unsent {
			d.flags |= flagPossibleDuplicate
		}
		reply, err := q.cfg.Sender.Send(sending, d.block)
		done()
		e.metrics.attempt(q, err == nil && reply.Taken, e.cfg.Now().Sub(start))
		var not *NotSent
		var never *Unsendable
		d.unsent = errors.As(err, &not) || errors.As(err, &never)
		if !d.unsent {
			// What did not leave is no attempt at this message: giving up counts from the first that did.
			if d.attempts++; d.attempts == 1 {
				d.firstAt = start
			}
		}
		if err != nil {
			if never != nil {
				q.failed(d, never)
				if !d.done {
					return nil
				}
				continue
			}
			if ctx.Err() != nil {
				return nil // a stop: whether it arrived is not known, and the mark says so
			}
			q.unreachable(d, err)
			return nil
		}
		q.failures, q.pause = 0, time.Time{}
		if reply.Taken {
			q.settle(settlement{d: d, state: Sent, outcome: reply.Code,
				entry: q.entry(d, audit.DeliverySent, audit.Success, audit.Text("answer", reply.Code))})
			continue
		}
		q.refused(d, reply)
		if !d.done {
			if q.cfg.Order == OrderStrict || d.flags&flagBarrier != 0 {
				return nil
			}
			for k := d.keys; len(k) >= orderKeySize; k = k[orderKeySize:] {
				stuck[[orderKeySize]byte(k)] = true
			}
			stuck[[orderKeySize]byte{}] = true
		}
	}
	return nil
}

// limited is a context for one Send: it ends with the lease, and a short while after a stop, so that a stop does not cut what is
// under way and have it sent again.
func limited(ctx context.Context, limit time.Duration) (sending context.Context, done func()) {
	sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(stopGrace):
			cancel()
		case <-sending.Done():
		}
	})
	return sending, func() { stop(); cancel() }
}

// waitsFor says whether a delivery of this round must wait for one that was refused in it.
func (q *queue) waitsFor(d *delivery, stuck map[[orderKeySize]byte]bool) bool {
	if q.cfg.Order != OrderPatient || len(stuck) == 0 {
		return false
	}
	waits := len(d.keys) == 0
	for k := d.keys; len(k) >= orderKeySize; k = k[orderKeySize:] {
		if stuck[[orderKeySize]byte(k)] {
			waits = true
		}
	}
	if waits {
		for k := d.keys; len(k) >= orderKeySize; k = k[orderKeySize:] {
			stuck[[orderKeySize]byte(k)] = true
		}
	}
	return waits
}

// unreachable leaves the receiver alone for a while. The delivery stays marked: what was sent may have arrived.
func (q *queue) unreachable(d *delivery, err error) {
	e := q.channel.engine
	q.failures++
	wait := q.backoff(q.failures)
	q.pause = e.cfg.Now().Add(wait)
	if q.failures == 1 || q.failures%10 == 0 {
		q.log.Warn("the receiver gave no answer; trying again", "attempts", q.failures, "wait", wait.Round(time.Millisecond), "error", err)
	}
	if q.failures == 1 {
		q.settled = append(q.settled, settlement{entry: q.entry(d, audit.DeliveryRetried, audit.MinorFailure, audit.Text("reason", "no answer"))})
	}
}

// refused does what the destination's policy says about a receiver's no.
func (q *queue) refused(d *delivery, reply Reply) {
	e := q.channel.engine
	now := e.cfg.Now()
	policy := q.cfg.OnReject
	r := q.cfg.Retry
	// An outage is not the message's fault: only attempts that left count, and the time since the first of them.
	if policy == Retry && (r.GiveUpAttempts > 0 && d.attempts >= r.GiveUpAttempts ||
		r.GiveUpAfter > 0 && !d.firstAt.IsZero() && now.Sub(d.firstAt) >= r.GiveUpAfter) {
		policy = Skip
	}
	s := settlement{d: d, state: Pending, outcome: reply.Code}
	switch policy {
	case Skip:
		s.state = Failed
		s.entry = q.entry(d, audit.DeliverySkipped, audit.SeriousFailure, audit.Text("answer", reply.Code))
	case Hold:
		s.hold = "the receiver refused a message with " + reply.Code
		s.entry = q.entry(d, audit.DeliveryHeld, audit.SeriousFailure, audit.Text("answer", reply.Code))
	default:
		s.nextAt = now.Add(q.backoff(d.attempts))
		s.entry = q.entry(d, audit.DeliveryRefused, audit.MinorFailure, audit.Text("answer", reply.Code))
	}
	q.log.Warn("the receiver refused a message", "message", d.id, "answer", reply.Code, "policy", string(policy))
	q.settle(s)
}

// settle remembers a result for the next commit and takes the delivery out of the line, unless it goes back to it.
func (q *queue) settle(s settlement) {
	if s.hold != "" {
		q.mu.Lock()
		q.held = s.hold
		q.mu.Unlock()
	}
	if s.state == Pending {
		s.d.state, s.d.nextAt, s.d.block, s.d.storing = Pending, s.nextAt, nil, true
	} else {
		s.d.done = true
	}
	q.channel.engine.metrics.settled(q, s.state)
	q.settled = append(q.settled, s)
}

// backoff is the wait after so many attempts: First, doubled each time, at most Max, less a share by lot.
func (q *queue) backoff(attempts int) time.Duration {
	r := q.cfg.Retry
	wait := r.First
	for range min(attempts-1, 30) {
		if wait *= 2; wait >= r.Max {
			wait = r.Max
			break
		}
	}
	return wait - time.Duration(float64(wait)*r.Jitter*fraction(q.channel.engine.cfg.Rand))
}

// entry describes an act on a delivery.
func (q *queue) entry(d *delivery, event audit.Event, result audit.Result, details ...audit.Detail) audit.Entry {
	details = append(details, audit.Text("channel", q.channel.cfg.Name), audit.Text("destination", q.cfg.Name))
	if d.attempts > 1 {
		details = append(details, audit.Int("attempt", int64(d.attempts)))
	}
	if d.flags&flagPossibleDuplicate != 0 {
		details = append(details, audit.Bool("possible_duplicate", true))
	}
	if d.flags&flagResend != 0 {
		details = append(details, audit.Bool("resend", true))
	}
	return audit.Entry{Event: event, Action: audit.Execute, Result: result, ResourceType: "message", ResourceID: d.id.String(), Details: details}
}
