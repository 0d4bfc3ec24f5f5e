package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

const (
	readContent = `SELECT sealed FROM content WHERE number = $1`
	readAttempt = `SELECT sealed FROM attempt WHERE queue = $1 AND number = $2`
)

// prepare gives each delivery its bytes: the stored ones where an attempt was started before, else the message as filter and
// steps leave it. What is filtered, or fails in a step, is settled here and does not come back.
func (q *queue) prepare(ctx context.Context, due []*delivery) (ready []*delivery, err error) {
	sealed := make([][]byte, len(due))
	err = q.channel.engine.db.Read(ctx, func(tx *db.Tx) error {
		for i, d := range due {
			if d.block != nil {
				continue
			}
			var err error
			if d.state == Started && d.flags&flagStored != 0 {
				err = tx.QueryRow(readAttempt, []any{q.number, d.number}, &sealed[i])
			} else {
				err = tx.QueryRow(readContent, []any{d.message}, &sealed[i])
			}
			if err != nil && !errors.Is(err, db.ErrNoRows) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	for i, d := range due {
		if d.block != nil {
			ready = append(ready, d)
			continue
		}
		send, err := q.prepareOne(ctx, d, sealed[i], len(ready) == 0)
		if err != nil {
			return nil, err
		}
		if send {
			ready = append(ready, d)
		} else if !d.done {
			break // held, or about to be: nothing may pass it
		}
	}
	return ready, nil
}

// prepareOne opens, filters and transforms one message. false: it is not sent. One that will hold the queue does so when it comes
// first, for what is ready before it is to be sent.
func (q *queue) prepareOne(ctx context.Context, d *delivery, sealed []byte, first bool) (bool, error) {
	e := q.channel.engine
	if sealed == nil {
		q.settle(settlement{d: d, state: Failed, outcome: "content is gone",
			entry: q.entry(d, audit.DeliverySkipped, audit.MajorFailure, audit.Text("reason", "the content is no longer there"))})
		return false, nil
	}
	if d.state == Started && d.flags&flagStored != 0 {
		block, err := e.keys.Open(ctx, q.attemptPlace(d), sealed)
		if errors.Is(err, seal.ErrKeyMissing) {
			q.settle(settlement{d: d, state: Failed, outcome: "content is gone",
				entry: q.entry(d, audit.DeliverySkipped, audit.MajorFailure, audit.Text("reason", "the key of the content is gone"))})
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("open the stored bytes of message %s: %w", d.id, err)
		}
		d.block = block
		return true, nil
	}
	block, err := e.openContent(ctx, d.id, sealed)
	if errors.Is(err, seal.ErrKeyMissing) {
		q.settle(settlement{d: d, state: Failed, outcome: "content is gone",
			entry: q.entry(d, audit.DeliverySkipped, audit.MajorFailure, audit.Text("reason", "the key of the content is gone"))})
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open message %s: %w", d.id, err)
	}
	if d.state == Started || q.cfg.Filter == nil && q.cfg.Steps == nil {
		d.block = block // what came is what goes, now as at the first attempt
		return true, nil
	}
	out, keep, err := q.transform(block)
	switch {
	case err != nil && q.cfg.OnError == Hold && !first:
		return false, nil
	case err != nil:
		q.failed(d, err)
		return false, nil
	case !keep:
		q.settle(settlement{d: d, state: Filtered, outcome: "filtered", entry: q.entry(d, audit.DeliveryFiltered, audit.Success)})
		return false, nil
	}
	d.block = out
	d.flags &^= flagStored
	if !bytes.Equal(out, block) {
		d.flags |= flagStored
	}
	return true, nil
}

// transform runs filter and steps over a copy of the message. keep is false when the filter drops it.
func (q *queue) transform(block []byte) (out []byte, keep bool, err error) {
	m, err := hl7.Parse(block)
	if err != nil {
		return nil, false, err
	}
	if cs := q.channel.cfg.Charset; cs != "" {
		if err := m.OverrideCharset(cs); err != nil {
			return nil, false, err
		}
	}
	if q.cfg.Filter != nil {
		if keep, err := q.cfg.Filter.Match(m); err != nil || !keep {
			return nil, false, wrapped("filter", err)
		}
	}
	if q.cfg.Steps != nil {
		if _, err := q.cfg.Steps.Run(m); err != nil {
			return nil, false, err
		}
	}
	return m.Bytes(), true, nil
}

func wrapped(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// failed does what the destination's policy says about a message that cannot be made fit to send: by a filter or step, or at all.
func (q *queue) failed(d *delivery, err error) {
	q.log.Warn("a message could not be made fit to send", "message", d.id, "policy", string(q.cfg.OnError), "error", err)
	reason := audit.Text("reason", err.Error())
	if q.cfg.OnError == Skip {
		q.settle(settlement{d: d, state: Failed, outcome: "not fit to send", entry: q.entry(d, audit.DeliverySkipped, audit.SeriousFailure, reason)})
		return
	}
	q.settle(settlement{d: d, state: Pending, outcome: "not fit to send", hold: "a message could not be made fit to send: " + err.Error(),
		entry: q.entry(d, audit.DeliveryHeld, audit.SeriousFailure, reason)})
}

func (q *queue) attemptPlace(d *delivery) seal.Place {
	return seal.Place{Table: seal.TableDeliveryContent, Column: seal.ColumnContent, Row: attemptRow(q.number, d.number), Org: uint32(q.channel.engine.org)}
}

// attemptRow is the row of an attempt as a seal knows it: queue and number, 8 bytes each.
func attemptRow(queue, number int64) (row [16]byte) {
	for i := range 8 {
		row[i] = byte(queue >> (56 - 8*i))
		row[8+i] = byte(number >> (56 - 8*i))
	}
	return row
}
