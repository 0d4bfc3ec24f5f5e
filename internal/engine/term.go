package engine

import (
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// A term is one thing to look for: a field, and the token's value for the period that a place of the index may hold.
type term struct {
	field byte
	value func(seal.Period) (v [8]byte, ok bool, err error)
}

// numbers lists messages that have the term, newest first, below before, until there are limit of them or fn says stop.
func (ix *index) numbers(tx *db.Tx, t term, before int64, fn func(number int64) (more bool, err error)) error {
	now := tx.Now()
	list, err := ix.bucketsSince(tx, 0)
	if err != nil {
		return err
	}
	oldest := int64(0)
	if len(list) > 0 {
		oldest = list[len(list)-1].lastAt
	}
	recentFrom := time.UnixMicro(oldest)
	if oldest == 0 {
		if err := tx.QueryRow(acceptedAt, []any{int64(0)}, &oldest); err != nil && !errors.Is(err, db.ErrNoRows) {
			return err
		}
		recentFrom = time.UnixMicro(oldest)
	}
	values, err := t.between(recentFrom, now)
	if err != nil {
		return err
	}
	found, err := ix.searchRecent(tx, t.field, values)
	if err != nil {
		return err
	}
	seen := int64(-1)
	give := func(found []int64) (bool, error) {
		sort.Slice(found, func(i, j int) bool { return found[i] > found[j] })
		for _, n := range found {
			if n >= before || n == seen {
				continue
			}
			seen = n
			if more, err := fn(n); err != nil || !more {
				return false, err
			}
		}
		return true, nil
	}
	if more, err := give(found); err != nil || !more {
		return err
	}
	for i := len(list) - 1; i >= 0; i-- {
		b := list[i]
		if b.number >= before {
			continue
		}
		values, err := t.between(time.UnixMicro(b.firstAt), time.UnixMicro(b.lastAt))
		if err != nil {
			return err
		}
		var found []int64
		for _, v := range values {
			err := ix.searchBucket(tx, b.number, t.field, v[:], func(e []byte) bool {
				found = append(found, entryNumber(e))
				return true
			})
			if err != nil {
				return err
			}
		}
		if more, err := give(found); err != nil || !more {
			return err
		}
	}
	return nil
}

// between lists the values that the term has in the periods from one moment to another. A message's tokens are made before its
// commit, which tells the time: so a little more on both sides.
func (t term) between(from, to time.Time) (values [][8]byte, err error) {
	for p := seal.PeriodOf(from.Add(-slack)); p <= seal.PeriodOf(to.Add(slack)); p++ {
		v, ok, err := t.value(p)
		if err != nil {
			return nil, fmt.Errorf("blind a search term: %w", err)
		}
		if ok && (len(values) == 0 || values[len(values)-1] != v) {
			values = append(values, v)
		}
	}
	return values, nil
}

func (ix *index) searchRecent(tx *db.Tx, field byte, values [][8]byte) (found []int64, err error) {
	rows, err := tx.Query(listRecent, ix.e.org, int64(0))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var number int64
		var tokens []byte
		if err := rows.Scan(&number, &tokens); err != nil {
			return nil, err
		}
		for ; len(tokens) >= recentSize; tokens = tokens[recentSize:] {
			if tokens[0] != field {
				continue
			}
			for _, v := range values {
				if [8]byte(tokens[1:]) == v {
					found = append(found, entryNumber(tokens[1:]))
				}
			}
		}
	}
	return found, rows.Err()
}
