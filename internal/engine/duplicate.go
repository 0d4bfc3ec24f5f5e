package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// A duplicate is the same sender, the same MSH-10 and the same content within the window, the first of them accepted. The same
// MSH-10 with other content is no duplicate: real laboratories send constant control IDs. It is accepted and flagged.

// dupKey is what a duplicate would be found by.
type dupKey struct {
	token  token
	others []token       // the token under the keys of the other periods that the window reaches
	window time.Duration // 0: duplicates are not looked for
}

// duplicateKey blinds sender and control ID into a token, and those with the content into its tag.
func (e *Engine) duplicateKey(ctx context.Context, ch *channel, p Peer, controlID string, block []byte, at time.Time, window time.Duration) (k dupKey, err error) {
	sum := digest(block)
	value := binary.BigEndian.AppendUint64(nil, uint64(ch.number))
	value = append(value, p.Key()...)
	value = append(value, 0)
	value = append(value, controlID...)
	period := seal.PeriodOf(at)
	k.window = window
	if k.token, err = e.duplicateToken(ctx, e.keys.Blind, period, value, sum[:]); err != nil {
		return k, err
	}
	from := at.Add(-window - slack)
	if from.Before(e.index.first) {
		from = e.index.first.Add(-slack)
	}
	for p := seal.PeriodOf(from); p <= seal.PeriodOf(at.Add(slack)); p++ {
		if p == period {
			continue
		}
		t, err := e.duplicateToken(ctx, e.keys.Seek, p, value, sum[:])
		if errors.Is(err, seal.ErrKeyMissing) {
			continue // nothing was stored in that month, or it was shredded
		}
		if err != nil {
			return k, err
		}
		k.others = append(k.others, t)
	}
	return k, nil
}

// blinder is Ring.Blind, or Ring.Seek.
type blinder func(ctx context.Context, org uint32, field uint16, p seal.Period, normalised []byte) ([seal.BlindSize]byte, error)

func (e *Engine) duplicateToken(ctx context.Context, blind blinder, p seal.Period, value, sum []byte) (t token, err error) {
	who, err := blind(ctx, uint32(e.org), seal.FieldDuplicate, p, value)
	if err != nil {
		return t, err
	}
	what, err := blind(ctx, uint32(e.org), seal.FieldDuplicate, p, append(who[:], sum...))
	if err != nil {
		return t, err
	}
	return token{field: fieldDuplicate, value: [8]byte(who[:8]), tag: binary.BigEndian.Uint32(what[:4])}, nil
}

// found is what the index knows about a message like this one.
type found struct {
	again  bool // the very same message was accepted within the window
	reused bool // the sender used the control ID for other content within the window
	number int64
	id     db.ID
}

const findOriginal = `SELECT m.id, m.channel, m.accepted_at, m.status, m.peer, c.sealed FROM message m
	LEFT JOIN content c ON c.number = m.number WHERE m.number = $1 AND m.organisation = $2`

// findDuplicate asks the index under the lock of the line, so that two copies that arrive together are seen as well.
func (ix *index) findDuplicate(tx *db.Tx, msg *intake) (found, error) {
	if err := ix.sync(tx); err != nil {
		return found{}, err
	}
	k := &msg.duplicate
	since := tx.Now().Add(-k.window)
	all := append([]token{k.token}, k.others...)
	mine := ix.group(tx).mine
	for _, t := range all {
		if other := mine[t.what()]; other != nil && other.same(msg) {
			return found{again: true, number: other.number, id: other.id}, nil
		}
		same, err := ix.same(tx, t, since)
		if err != nil {
			return found{}, fmt.Errorf("look for duplicates: %w", err)
		}
		for _, n := range same {
			id, is, err := ix.e.isSame(tx, n, msg, since)
			if err != nil {
				return found{}, fmt.Errorf("look for duplicates: %w", err)
			}
			if is {
				return found{again: true, number: n, id: id}, nil
			}
		}
	}
	for _, t := range all {
		reused, err := ix.reused(tx, t, since)
		if err != nil {
			return found{}, fmt.Errorf("look for duplicates: %w", err)
		}
		if reused {
			return found{reused: true}, nil
		}
	}
	return found{}, nil
}

// same compares with a message of the same group.
func (msg *intake) same(other *intake) bool {
	return msg.channel == other.channel && msg.peer.Key() == other.peer.Key() && bytes.Equal(msg.block, other.block)
}

// isSame compares with the stored message itself: a blind value is short, and nobody's message may vanish by chance.
func (e *Engine) isSame(tx *db.Tx, number int64, msg *intake, since time.Time) (id db.ID, same bool, err error) {
	var channel, at, status int64
	var peer string
	var sealed []byte
	err = tx.QueryRow(findOriginal, []any{number, e.org}, &id, &channel, &at, &status, &peer, &sealed)
	if errors.Is(err, db.ErrNoRows) {
		return id, false, nil
	}
	if err != nil {
		return id, false, err
	}
	if channel != msg.channel.number || peer != msg.peer.Key() || Status(status) != Accepted || sealed == nil || at < since.UnixMicro() {
		return id, false, nil
	}
	block, err := e.openContent(tx.Context(), id, sealed)
	if errors.Is(err, seal.ErrKeyMissing) {
		return id, false, nil // shredded: it cannot be compared, so it is not the same
	}
	return id, bytes.Equal(block, msg.block), err
}

// openContent opens the bytes of a message as they came.
func (e *Engine) openContent(ctx context.Context, id db.ID, sealed []byte) ([]byte, error) {
	return e.keys.Open(ctx, seal.Place{Table: seal.TableMessageContent, Column: seal.ColumnContent, Row: id, Org: uint32(e.org)}, sealed)
}
