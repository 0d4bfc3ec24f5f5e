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
	token    token
	previous [8]byte       // the token under the previous period's key, where the window reaches into it; else zero
	prevTag  uint32        // its tag
	window   time.Duration // 0: duplicates are not looked for
}

// duplicateKey blinds sender and control ID into a token, and those with the content into its tag.
func (e *Engine) duplicateKey(ctx context.Context, ch *channel, p Peer, controlID string, block []byte, at time.Time, window time.Duration) (k dupKey, err error) {
	sum := digest(block)
	value := binary.BigEndian.AppendUint64(nil, uint64(ch.number))
	value = append(value, p.Key()...)
	value = append(value, 0)
	value = append(value, controlID...)
	blind := func(period seal.Period) (t [8]byte, tag uint32, err error) {
		who, err := e.keys.Blind(ctx, uint32(e.org), seal.FieldDuplicate, period, value)
		if err != nil {
			return t, 0, err
		}
		what, err := e.keys.Blind(ctx, uint32(e.org), seal.FieldDuplicate, period, append(who[:], sum[:]...))
		if err != nil {
			return t, 0, err
		}
		return [8]byte(who[:8]), binary.BigEndian.Uint32(what[:4]), nil
	}
	period := seal.PeriodOf(at)
	k.window = window
	k.token.field = fieldDuplicate
	if k.token.value, k.token.tag, err = blind(period); err != nil {
		return k, err
	}
	if before := seal.PeriodOf(at.Add(-window)); before != period {
		k.previous, k.prevTag, err = blind(before)
	}
	return k, err
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
	same, reused, err := ix.seen(tx, k.token, since)
	if err == nil && k.previous != [8]byte{} {
		var more []int64
		var also bool
		more, also, err = ix.seen(tx, token{field: fieldDuplicate, value: k.previous, tag: k.prevTag}, since)
		same, reused = append(same, more...), reused || also
	}
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
	return found{reused: reused}, nil
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
