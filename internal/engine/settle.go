package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

const (
	// Whoever holds the lease, or finds it run out, raises the fence: what an earlier holder still tries touches no row.
	takeLease = `UPDATE queue SET holder = $1, lease_until = $2, fence = fence + 1
		WHERE number = $3 AND (lease_until <= $4 OR holder = $1)`
	keepLease = `UPDATE queue SET lease_until = $1 WHERE number = $2 AND holder = $3 AND fence = $4 AND lease_until > $5`
	giveLease = `UPDATE queue SET lease_until = 0, low = $1 WHERE number = $2 AND holder = $3 AND fence = $4`
	readFence = `SELECT fence, low FROM queue WHERE number = $1`
	// One guard a commit: if the lease is another's, none of the commit's changes happen.
	guard = `UPDATE queue SET low = $1, held = CASE WHEN CAST($2 AS TEXT) <> '' THEN $2 ELSE held END
		WHERE number = $3 AND holder = $4 AND fence = $5`

	mark = `UPDATE delivery SET state = 2, started_at = $1, revision = $2, flags = $3
		WHERE queue = $4 AND number = $5 AND state = 1`
	// What was never marked is settled by a filter or a step, so by the present revision.
	settle = `UPDATE delivery SET state = $1, settled_at = $2, next_at = $3, flags = $4, attempts = $5, outcome = $6, started_at = $7,
		revision = CASE WHEN state = 1 THEN $8 ELSE revision END WHERE queue = $9 AND number = $10 AND state <= 2`
	// Of which nothing was sent since the mark, and nothing before it: as if it had not been marked.
	unmark      = `UPDATE delivery SET state = 1 WHERE queue = $1 AND number = $2 AND state = 2`
	dropAttempt = `DELETE FROM attempt WHERE queue = $1 AND number = $2`
)

var attempts = db.NewTable("attempt", col("queue", db.Int), col("number", db.Int), col("sealed", db.Bytes))

// hold takes the lease, or prolongs it in time. A lease is measured in the database's time; this process counts it from before
// it asked, so that it lets go first.
func (q *queue) hold(ctx context.Context) (bool, error) {
	e := q.channel.engine
	now := e.cfg.Now()
	if q.lease.Sub(now) > q.leaseTime()/2 {
		return true, nil
	}
	fresh := !q.lease.After(now)
	var got bool
	var fence, low int64
	err := e.db.Commit(ctx, 0, func(tx *db.Tx) error {
		at, err := tx.DatabaseTime()
		if err != nil {
			return err
		}
		until := at.Add(q.leaseTime()).UnixMicro()
		if !fresh {
			n, err := tx.Exec(keepLease, until, q.number, e.replica, q.fence, at.UnixMicro())
			got, fence, low = n == 1, q.fence, q.low
			return err
		}
		if tx.Engine() == db.SQLite {
			at = time.Unix(1<<40, 0) // the database file belongs to this process alone: an old lease is a dead one's
		}
		n, err := tx.Exec(takeLease, e.replica, until, q.number, at.UnixMicro())
		if got = n == 1; err != nil || !got {
			return err
		}
		return tx.QueryRow(readFence, []any{q.number}, &fence, &low)
	})
	if err != nil {
		return false, fmt.Errorf("hold the queue: %w", err)
	}
	if !got {
		if !fresh {
			return false, ErrLeaseLost
		}
		return false, nil
	}
	if fresh {
		if fence != q.fence+1 {
			q.forget() // somebody else held it meanwhile; if nobody did, the results in memory still stand
		}
		q.fence, q.low = fence, low
	}
	q.lease = now.Add(q.leaseTime())
	return true, nil
}

// leaseTime leaves room for the longest Send in what is left of a lease before it is prolonged.
func (q *queue) leaseTime() time.Duration { return max(leaseTime, 3*q.cfg.Timeout) }

// prolong keeps a lease that is held. false: it has run out, and the next turn finds out whether somebody else has it.
func (q *queue) prolong(ctx context.Context) (bool, error) {
	if !q.lease.After(q.channel.engine.cfg.Now()) {
		return false, nil
	}
	return q.hold(ctx)
}

// giveBack stores the last results and lets another replica go on at once.
func (q *queue) giveBack() {
	if q.lease.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := q.commitResults(ctx, nil)
	if err == nil {
		err = q.channel.engine.db.Commit(ctx, 0, func(tx *db.Tx) error {
			if err := tx.ExecLater(1, ErrLeaseLost, giveLease, q.low, q.number, q.channel.engine.replica, q.fence); err != nil {
				return err
			}
			return q.unmark(tx)
		})
	}
	if err != nil {
		q.log.Warn("the queue's last results were not stored; its last window is sent again, marked", "error", err)
	}
	q.forget()
}

// unmark takes back the marks of what was not sent, so that it does not look like a possible duplicate later.
func (q *queue) unmark(tx *db.Tx) error {
	for _, d := range q.waiting {
		if d.state != Started || !d.unsent || d.flags&flagPossibleDuplicate != 0 {
			continue
		}
		if d.flags&flagStored != 0 {
			if err := tx.ExecLater(-1, nil, dropAttempt, q.number, d.number); err != nil {
				return err
			}
		}
		if err := tx.ExecLater(-1, nil, unmark, q.number, d.number); err != nil {
			return err
		}
	}
	return nil
}

// commitResults stores the results so far and marks what is sent next, in one commit. After it the marked deliveries may be sent.
func (q *queue) commitResults(ctx context.Context, ready []*delivery) error {
	e := q.channel.engine
	q.waiting = slices.DeleteFunc(q.waiting, func(d *delivery) bool { return d.done })
	low := q.loaded + 1
	if len(q.waiting) > 0 {
		low = q.waiting[0].number
	}
	var marks []*delivery // those whose start is not stored yet
	for _, d := range ready {
		if d.state == Pending {
			marks = append(marks, d)
		}
	}
	if len(q.settled) == 0 && len(marks) == 0 {
		return nil
	}
	blocks := make([][]byte, len(marks)) // sealed, where they differ from what came
	size := 256 * (len(marks) + len(q.settled))
	for i, d := range marks {
		if d.flags&flagStored == 0 {
			continue
		}
		var err error
		if blocks[i], err = e.keys.Seal(ctx, seal.Message, q.attemptPlace(d), d.id.Time(), d.block); err != nil {
			return fmt.Errorf("seal what is sent: %w", err)
		}
		size += len(blocks[i])
	}
	hold := ""
	for i := range q.settled {
		if h := q.settled[i].hold; h != "" {
			hold = h
		}
	}
	err := e.db.Commit(context.WithoutCancel(ctx), size, func(tx *db.Tx) error {
		if err := tx.ExecLater(1, ErrLeaseLost, guard, low, hold, q.number, e.replica, q.fence); err != nil {
			return err
		}
		now := tx.Now().UnixMicro()
		for i := range q.settled {
			s := &q.settled[i]
			if s.d != nil {
				settledAt, nextAt := now, int64(0)
				if s.state == Pending {
					settledAt = 0
					if !s.nextAt.IsZero() {
						nextAt = s.nextAt.UnixMicro()
					}
					if s.d.flags&flagStored != 0 {
						// Its fate is known, so the next attempt is made anew, with the steps of then.
						if err := tx.ExecLater(-1, nil, dropAttempt, q.number, s.d.number); err != nil {
							return err
						}
					}
				}
				if err := tx.ExecLater(1, ErrLeaseLost, settle, int(s.state), settledAt, nextAt, s.d.flags, s.d.attempts, s.outcome,
					micros(s.d.firstAt), q.channel.revision, q.number, s.d.number); err != nil {
					return err
				}
			}
			if err := e.record(tx, s.entry); err != nil {
				return err
			}
		}
		for i, d := range marks {
			first := d.firstAt
			if first.IsZero() {
				first = tx.Now()
			}
			if blocks[i] != nil {
				if err := tx.Insert(attempts, q.number, d.number, blocks[i]); err != nil {
					return err
				}
			}
			if err := tx.ExecLater(1, ErrLeaseLost, mark, first.UnixMicro(), q.channel.revision, d.flags, q.number, d.number); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		// Also when the outcome is not known: the rows tell, and what is marked is sent with the same bytes.
		return fmt.Errorf("store results: %w", err)
	}
	for i := range q.settled {
		if d := q.settled[i].d; d != nil {
			if d.storing = false; d.done {
				q.depth.Add(-1)
			}
		}
	}
	if hold != "" {
		// As it is stored now: somebody may have resumed the queue between the result and its commit.
		q.mu.Lock()
		q.held = hold
		q.mu.Unlock()
	}
	for _, d := range marks {
		d.state, d.unsent = Started, true
		if d.firstAt.IsZero() {
			d.firstAt = e.cfg.Now()
		}
	}
	q.settled, q.low = nil, low
	return nil
}

// micros is a time as it is stored: 0 for none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// fraction draws from [0, 1).
func fraction(random io.Reader) float64 {
	var b [8]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return 0
	}
	return float64(binary.BigEndian.Uint64(b[:])>>11) / (1 << 53)
}

// loggerFor is a logger that may not be there yet.
type loggerFor struct{ *slog.Logger }
