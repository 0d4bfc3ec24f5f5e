package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

const (
	bucketsBetween = `SELECT number FROM token_bucket WHERE organisation = $1 AND last_at >= $2 AND last_at < $3 ORDER BY number`
	dropBlindRuns  = `DELETE FROM token_run WHERE organisation = $1 AND bucket = $2 AND field <= 3`
	dropRuns       = `DELETE FROM token_run WHERE organisation = $1 AND bucket = $2`
	dropBucket     = `DELETE FROM token_bucket WHERE organisation = $1 AND number = $2`
	recentPart     = `SELECT number, tokens FROM token_recent WHERE organisation = $1 AND number >= $2 ORDER BY number LIMIT 64`
	idsBetween     = `SELECT number, id FROM message WHERE number >= $1 AND number <= $2`
	// Guarded by length: a row that was sorted into a bucket meanwhile is gone, and one never changes otherwise.
	cutRecent = `UPDATE token_recent SET tokens = $1 WHERE organisation = $2 AND number = $3 AND length(tokens) = $4`
)

// bucketSlack keeps a bucket that ends near its month's end for the next month: replicas' clocks are not one.
const bucketSlack = time.Hour

// DropTokens takes a month out of the search index, a bucket or 64 rows a commit. By default what is blind, which nobody can
// look for any more when the month's key is gone; all takes the tokens of types and channels too, for messages whose rows went.
// A bucket that reaches into the next month goes with that one. wait is called after each commit with the time that it took.
func (e *Engine) DropTokens(ctx context.Context, p seal.Period, all bool, wait func(context.Context, time.Duration) error) (dropped int64, err error) {
	var list []int64
	err = e.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(bucketsBetween, e.org, p.Start().Add(-bucketSlack).UnixMicro(), (p + 1).Start().Add(-bucketSlack).UnixMicro())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var n int64
			if err := rows.Scan(&n); err != nil {
				return err
			}
			list = append(list, n)
		}
		return rows.Err()
	})
	for i := 0; err == nil && i < len(list); i++ {
		var took time.Duration
		var rows int64
		err = e.db.Commit(ctx, 1<<16, func(tx *db.Tx) error {
			start := e.cfg.Now()
			sql := dropBlindRuns
			if all {
				sql = dropRuns
			}
			var err error
			if rows, err = tx.Exec(sql, e.org, list[i]); err == nil && all {
				_, err = tx.Exec(dropBucket, e.org, list[i])
			}
			took = e.cfg.Now().Sub(start)
			return err
		})
		dropped += rows
		if err == nil {
			err = wait(ctx, took)
		}
	}
	if err == nil {
		var n int64
		n, err = e.cutRecents(ctx, p, all, wait)
		dropped += n
	}
	if err != nil {
		return dropped, fmt.Errorf("take %s out of the search index: %w", p, err)
	}
	return dropped, nil
}

// cutRecents takes a month's tokens out of the rows that are not in a bucket yet. A quiet site's tokens may lie there for long.
func (e *Engine) cutRecents(ctx context.Context, p seal.Period, all bool, wait func(context.Context, time.Duration) error) (changed int64, err error) {
	type row struct {
		number      int64
		was, tokens []byte
	}
	for from := int64(0); ; {
		var rows []row
		months := map[int64]seal.Period{}
		err := e.db.Read(ctx, func(tx *db.Tx) error {
			rows = rows[:0]
			found, err := tx.Query(recentPart, e.org, from)
			if err != nil {
				return err
			}
			defer found.Close()
			last := int64(0)
			for found.Next() {
				var r row
				if err := found.Scan(&r.number, &r.was); err != nil {
					return err
				}
				for t := r.was; len(t) >= recentSize; t = t[recentSize:] {
					last = max(last, entryNumber(t[1:]))
				}
				rows = append(rows, r)
			}
			if err := found.Err(); err != nil || len(rows) == 0 {
				return err
			}
			found.Close()
			ids, err := tx.Query(idsBetween, rows[0].number, last)
			if err != nil {
				return err
			}
			defer ids.Close()
			for ids.Next() {
				var n int64
				var id db.ID
				if err := ids.Scan(&n, &id); err != nil {
					return err
				}
				months[n] = seal.PeriodOf(id.Time())
			}
			return ids.Err()
		})
		if err != nil {
			return changed, err
		}
		later := true // every message of these rows is of a later month: so are those of the rows behind
		var cut []row
		for _, r := range rows {
			from = r.number + 1
			for t := r.was; len(t) >= recentSize; t = t[recentSize:] {
				month, there := months[entryNumber(t[1:])]
				later = later && there && month > p
				// With all, the rows of the month's messages are gone already.
				if goes := month == p && t[0] <= fieldDuplicate || all && !there; !goes {
					r.tokens = append(r.tokens, t[:recentSize]...)
				}
			}
			if len(r.tokens) < len(r.was) {
				cut = append(cut, r)
			}
		}
		if len(cut) > 0 {
			var took time.Duration
			err := e.db.Commit(ctx, len(cut)*4096, func(tx *db.Tx) error {
				start := e.cfg.Now()
				for _, r := range cut {
					if r.tokens == nil {
						r.tokens = []byte{}
					}
					if _, err := tx.Exec(cutRecent, r.tokens, e.org, r.number, len(r.was)); err != nil {
						return err
					}
				}
				took = e.cfg.Now().Sub(start)
				return nil
			})
			if err != nil {
				return changed, err
			}
			changed += int64(len(cut))
			if err := wait(ctx, took); err != nil {
				return changed, err
			}
		}
		if len(rows) < 64 || later {
			return changed, nil
		}
	}
}
