package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// Sealing anew: when data keys were retired, what lies under them is opened and sealed under the keys of now, a batch a commit.
// The walk goes by stage (content, attempts, headers) and number, and where it is stands in a row that moves in each batch's own
// transaction: after a crash it goes on with the next batch. A row is changed only if it still holds what was read, so a delivery
// or a disposal in between loses nothing. What is sealed anew opens before and after, for both keys stay. Audit details are never
// sealed anew: their entry holds the hash of the sealed bytes.

const (
	resealRows  = 64
	resealBytes = 4 << 20

	stageContent, stageAttempts, stageHeaders, stageEnd = 0, 1, 2, 3
)

const (
	resealRead  = `SELECT stage, queue, number, changed FROM reseal WHERE organisation = $1`
	resealBegin = `INSERT INTO reseal (organisation, stage, queue, number, looked, changed) VALUES ($1, 0, 0, 0, 0, 0)`
	resealDrop  = `DELETE FROM reseal WHERE organisation = $1`
	resealMove  = `UPDATE reseal SET stage = $1, queue = $2, number = $3, looked = looked + $4, changed = changed + $5 WHERE organisation = $6`

	resealContent = `SELECT 0, c.number, m.id, c.sealed FROM content c JOIN message m ON m.number = c.number
		WHERE m.organisation = $1 AND $2 = 0 AND c.number > $3 ORDER BY c.number LIMIT $4`
	resealAttempts = `SELECT a.queue, a.number, NULL, a.sealed FROM attempt a JOIN queue q ON q.number = a.queue JOIN channel ch ON ch.number = q.channel
		WHERE ch.organisation = $1 AND (a.queue > $2 OR a.queue = $2 AND a.number > $3) ORDER BY a.queue, a.number LIMIT $4`
	resealHeaders = `SELECT 0, m.number, m.id, m.header FROM message m WHERE m.organisation = $1 AND $2 = 0 AND m.number > $3 ORDER BY m.number LIMIT $4`

	resealPutContent = `UPDATE content SET sealed = $1 WHERE number = $2 AND sealed = $3`
	resealPutAttempt = `UPDATE attempt SET sealed = $1 WHERE queue = $4 AND number = $2 AND sealed = $3`
	resealPutHeader  = `UPDATE message SET header = $1 WHERE number = $2 AND header = $3`
)

// A Resealer is an engine's part in renewing data keys (seal.Resealer).
type Resealer struct{ e *Engine }

// Resealer seals this engine's records anew.
func (e *Engine) Resealer() Resealer { return Resealer{e} }

type resealCursor struct{ stage, queue, number, changed int64 }

// Unfinished says whether a walk was broken off.
func (r Resealer) Unfinished(ctx context.Context) (bool, error) {
	_, found, err := r.cursor(ctx)
	return found, err
}

func (r Resealer) cursor(ctx context.Context) (c resealCursor, found bool, err error) {
	err = r.e.db.Read(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(resealRead, []any{r.e.org}, &c.stage, &c.queue, &c.number, &c.changed)
		if errors.Is(err, db.ErrNoRows) {
			return nil
		}
		found = err == nil
		return err
	})
	return c, found, err
}

// Reseal walks through all records, from where an earlier walk was broken off if resume is set. It tells how many were sealed anew.
func (r Resealer) Reseal(ctx context.Context, resume bool, progress func(done, total int64)) (changed int64, err error) {
	c, found, err := r.cursor(ctx)
	if err != nil {
		return 0, fmt.Errorf("seal anew: %w", err)
	}
	var last int64
	err = r.e.db.Commit(ctx, 0, func(tx *db.Tx) error {
		line, err := tx.Line()
		if err != nil {
			return err
		}
		last = line.Next
		if resume && found {
			return nil
		}
		c = resealCursor{}
		if _, err := tx.Exec(resealDrop, r.e.org); err != nil {
			return err
		}
		_, err = tx.Exec(resealBegin, r.e.org)
		return err
	})
	for err == nil && c.stage < stageEnd {
		if c, err = r.batch(ctx, c); err == nil && progress != nil {
			progress(c.stage*last+min(c.number, last), stageEnd*last)
		}
	}
	if err == nil {
		err = r.e.db.Commit(ctx, 0, func(tx *db.Tx) error {
			_, err := tx.Exec(resealDrop, r.e.org)
			return err
		})
	}
	if err != nil {
		return c.changed, fmt.Errorf("seal anew: %w", err)
	}
	return c.changed, nil
}

// A resealRow is one sealed value, and what it becomes.
type resealRow struct {
	queue, number int64
	id            db.ID
	sealed, again []byte
}

func (r Resealer) batch(ctx context.Context, c resealCursor) (resealCursor, error) {
	rows, err := r.read(ctx, c)
	if err != nil {
		return c, err
	}
	next, size, n := c, 0, int64(0)
	if len(rows) == 0 {
		next.stage, next.queue, next.number = c.stage+1, 0, 0
	}
	for i := range rows {
		row := &rows[i]
		next.queue, next.number = row.queue, row.number
		if len(row.sealed) == 0 { // disposed of
			continue
		}
		row.again, err = r.e.keys.Reseal(ctx, r.place(c.stage, row), row.sealed)
		switch {
		case errors.Is(err, seal.ErrKeyMissing), errors.Is(err, seal.ErrShredded): // disposed of too
			continue
		case err != nil:
			return c, fmt.Errorf("record %d of stage %d: %w", row.number, c.stage, err)
		}
		if row.again != nil {
			size += 2 * len(row.sealed)
			n++
		}
	}
	put := [...]string{resealPutContent, resealPutAttempt, resealPutHeader}[c.stage]
	err = r.e.db.Commit(ctx, size, func(tx *db.Tx) error {
		for _, row := range rows {
			if row.again == nil {
				continue
			}
			args := []any{row.again, row.number, row.sealed}
			if c.stage == stageAttempts {
				args = append(args, row.queue)
			}
			if _, err := tx.Exec(put, args...); err != nil {
				return err
			}
		}
		moved, err := tx.Exec(resealMove, next.stage, next.queue, next.number, int64(len(rows)), n, r.e.org)
		if err == nil && moved != 1 {
			err = errors.New("another walk has ended this one")
		}
		return err
	})
	if err != nil {
		return c, err
	}
	next.changed += n
	return next, nil
}

func (r Resealer) read(ctx context.Context, c resealCursor) (list []resealRow, err error) {
	sql := [...]string{resealContent, resealAttempts, resealHeaders}[c.stage]
	err = r.e.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(sql, r.e.org, c.queue, c.number, int64(resealRows))
		if err != nil {
			return err
		}
		defer rows.Close()
		list = list[:0]
		for size := 0; size < resealBytes && rows.Next(); {
			var row resealRow
			if err := rows.Scan(&row.queue, &row.number, &row.id, &row.sealed); err != nil {
				return err
			}
			size += len(row.sealed)
			list = append(list, row)
		}
		return rows.Err()
	})
	return list, err
}

func (r Resealer) place(stage int64, row *resealRow) seal.Place {
	p := seal.Place{Column: seal.ColumnContent, Row: row.id, Org: uint32(r.e.org)}
	switch stage {
	case stageContent:
		p.Table = seal.TableMessageContent
	case stageAttempts:
		p.Table, p.Row = seal.TableDeliveryContent, attemptRow(row.queue, row.number)
	default:
		p.Table = seal.TableMessageHeader
	}
	return p
}
