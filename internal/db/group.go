package db

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// Bounds of one group. A bigger one would make its first caller wait for long, and hold much memory.
const (
	maxGroupChanges = 512
	maxGroupBytes   = 8 << 20
)

// A change is one caller's part of a group.
type change struct {
	size  int
	apply func(*Tx) error
	err   error
	taken bool          // by a leader; guarded by group.mu
	done  chan struct{} // receives once: answered, or asked to lead
	lead  bool          // set before done: this caller commits the next group
}

// group collects what arrives while a group is being committed. The first caller of a group commits it itself: a hand-over
// to a goroutine of its own would cost every group a wake-up.
type group struct {
	db *DB

	mu      sync.Mutex
	pending []*change // guarded by mu
	busy    bool      // a leader is at work; guarded by mu
	idle    *sync.Cond
}

// Commit runs apply in a transaction that it may share with others, and returns when the transaction's fate is known.
// size is roughly the number of bytes that it writes; it bounds the group.
//
// apply may run more than once: a group that fails is split, so that one change that the database refuses fails alone.
// It must therefore keep nothing from a run that failed. Its own errors come back as they are, and undo only itself.
func (d *DB) Commit(ctx context.Context, size int, apply func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &change{size: size, apply: apply, done: make(chan struct{}, 1)}
	g := &d.group
	g.mu.Lock()
	g.pending = append(g.pending, c)
	if g.busy {
		g.mu.Unlock()
		select {
		case <-c.done:
		case <-ctx.Done():
			if g.withdraw(c) {
				return ctx.Err()
			}
			<-c.done // already part of a transaction: only its outcome can answer
		}
		if !c.lead {
			return c.err
		}
	} else {
		g.busy = true
		g.mu.Unlock()
	}
	// Whoever can run now may still join; nobody is waited for. Without it a caller that comes first often commits alone.
	runtime.Gosched()
	g.commitNext()
	return c.err
}

// withdraw takes a change out of the line, unless a leader has it or it is to lead itself.
func (g *group) withdraw(c *change) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.taken || c.lead {
		return false
	}
	for i, p := range g.pending {
		if p == c {
			g.pending = append(g.pending[:i], g.pending[i+1:]...)
			return true
		}
	}
	return false
}

// commitNext commits what is waiting, the caller's own change first among it, and names the next leader.
func (g *group) commitNext() {
	g.mu.Lock()
	n, bytes := 0, 0
	for n < len(g.pending) && n < maxGroupChanges && (n == 0 || bytes+g.pending[n].size <= maxGroupBytes) {
		bytes += g.pending[n].size
		g.pending[n].taken = true
		n++
	}
	batch := append([]*change(nil), g.pending[:n]...)
	rest := copy(g.pending, g.pending[n:])
	clear(g.pending[rest:])
	g.pending = g.pending[:rest]
	g.mu.Unlock()

	g.db.commitAll(batch)

	g.mu.Lock()
	if len(g.pending) > 0 {
		next := g.pending[0]
		next.lead = true
		next.done <- struct{}{}
	} else {
		g.busy = false
		if g.idle != nil {
			g.idle.Broadcast()
		}
	}
	g.mu.Unlock()
	for _, c := range batch {
		if !c.lead {
			c.done <- struct{}{}
		}
	}
}

// drain waits until no group is under way.
func (g *group) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.idle == nil {
		g.idle = sync.NewCond(&g.mu)
	}
	for g.busy {
		g.idle.Wait()
	}
}

// commitAll gives every change its answer. It splits what fails, so that each change fails or stands for itself.
func (d *DB) commitAll(batch []*change) {
	for len(batch) > 0 {
		if err := d.Err(); err != nil {
			answer(batch, stoppedError(err))
			return
		}
		culprit, err := d.try(batch)
		switch {
		case err == nil:
			answer(batch, nil)
			return
		case nobodysFault(err):
			answer(batch, err)
			return
		case culprit >= 0:
			batch[culprit].err = err
			batch = append(append([]*change(nil), batch[:culprit]...), batch[culprit+1:]...)
		case len(batch) == 1:
			batch[0].err = err
			return
		default:
			half := len(batch) / 2
			d.commitAll(batch[:half])
			batch = batch[half:]
		}
	}
}

// nobodysFault says that the whole group failed for a reason that no change in it gave: splitting it would only fail again, and
// again, while its callers wait.
func nobodysFault(err error) bool {
	for _, e := range [...]error{ErrOutcomeUnknown, ErrStopped, ErrFull, ErrUnavailable} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func stoppedError(err error) error {
	if errors.Is(err, ErrStopped) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrStopped, err)
}

func answer(batch []*change, err error) {
	for _, c := range batch {
		c.err = err
	}
}

// applyError says whose own error ended a transaction.
type applyError struct {
	change int
	err    error
}

func (e *applyError) Error() string { return e.err.Error() }
func (e *applyError) Unwrap() error { return e.err }

// try commits a batch as one transaction. culprit is the change that alone is to blame, or -1.
func (d *DB) try(batch []*change) (culprit int, err error) {
	// No caller's context may end a transaction that serves others too.
	ctx := context.Background()
	tx := &Tx{db: d, ctx: ctx, now: d.Now()}
	err = d.store.write(ctx, tx, func() error {
		for i, c := range batch {
			tx.change = i
			if err := c.apply(tx); err != nil {
				return &applyError{i, err}
			}
		}
		tx.change = -1
		for _, fn := range tx.atEnd {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return tx.run.flush(ctx, tx)
	})
	if err == nil {
		for _, fn := range tx.onCommit {
			fn()
		}
	}
	var own *applyError
	if errors.As(err, &own) && !nobodysFault(err) {
		return own.change, own.err
	}
	return -1, err
}
