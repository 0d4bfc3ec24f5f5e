package audit

import (
	"github.com/lazaret-health/lazaret/internal/db"
	"golang.org/x/mod/sumdb/tlog"
)

// Leaves hashes all rows of the log.
func (l *Log) Leaves(tx *db.Tx) (leaves []tlog.Hash, err error) {
	var buf []byte
	err = l.walk(tx, 0, 1<<40, func(r *Record, _ string) bool {
		var leaf tlog.Hash
		leaf, buf = r.leafHash(buf)
		leaves = append(leaves, leaf)
		return true
	})
	return leaves, err
}

// Plan is how SQLite goes about a search.
func (l *Log) Plan(tx *db.Tx, by string) (plan []string, err error) {
	n := map[string]searchBy{"seq": bySeq, "time": byTime, "user": byUser, "resource type": byResourceType, "resource": byResource}[by]
	args := []any{int64(0), int64(-1), "", 10}
	for len(args) < []int{bySeq: 4, byTime: 6, byUser: 7, byResourceType: 7, byResource: 8}[n] {
		args = append(args, int64(0))
	}
	rows, err := tx.Query("EXPLAIN QUERY PLAN "+l.search[n], args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var a, b, c int64
		var step string
		if err := rows.Scan(&a, &b, &c, &step); err != nil {
			return nil, err
		}
		plan = append(plan, step)
	}
	return plan, rows.Err()
}

// A Growing is a record and an edge to put it on, over and over.
type Growing struct {
	r    Record
	e    Entry
	edge []byte
	size int64
	buf  []byte
}

func NewRecord(e Entry) *Growing { return &Growing{r: Record{Entry: e}, e: e} }

// Grow does what Append does without the database.
func (g *Growing) Grow() {
	if err := g.e.check(); err != nil {
		panic(err)
	}
	r := g.r
	r.Details, _ = sorted(g.e.Details)
	var leaf tlog.Hash
	leaf, g.buf = r.leafHash(g.buf)
	var full [maxLevels]tlog.Hash
	g.edge, _ = pushEdge(g.edge, g.size, leaf, &full)
	g.size++
}
