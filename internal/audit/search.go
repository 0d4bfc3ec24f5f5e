package audit

import (
	"errors"
	"fmt"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
)

// A Query says which entries are looked for. What is left empty matches all, except Org.
type Query struct {
	Org     uint32 // entries of this organisation only
	AllOrgs bool   // or of every one

	From, Until  time.Time // From inclusive, Until exclusive
	Event        Event
	User         db.ID
	ResourceType string // together with ResourceID, or alone
	ResourceID   string

	Seq   int64 // entries from this place on: 0, or the last page's Next
	Limit int   // 1 to 1000; 0 is 100
}

// A Page is a part of what was found, in the order of the log.
type Page struct {
	Records []Found
	Next    int64 // Query.Seq of the next page; 0: there is none
}

// A Found record, and what in its row the log would never have written ("" for a sound one: it says nothing of its place in the
// tree, which only Recompute checks).
type Found struct {
	Record
	Damage string
}

type searchBy uint8

const (
	bySeq searchBy = iota
	byTime
	byUser
	byResourceType
	byResource
)

// filters are those that no index serves. Casts tell PostgreSQL the types of what it sees no column of.
const filters = ` {place} >= $1 AND (CAST($2 AS BIGINT) < 0 OR organisation = $2) AND (CAST($3 AS TEXT) = '' OR event_type = $3)`

// searchSQL gives a whole statement for each way in, so that each finds its index. The last placeholder but those of the way in
// is the limit.
func searchSQL() map[searchBy]string {
	const (
		head = `SELECT ` + columns + ` FROM audit_log WHERE` + filters
		tail = ` ORDER BY {place} LIMIT $4`
		when = ` AND timestamp >= $5 AND timestamp < $6`
	)
	return map[searchBy]string{
		bySeq:          head + tail,
		byTime:         head + when + tail,
		byUser:         head + when + ` AND user_id = $7` + tail,
		byResourceType: head + when + ` AND resource_type = $7` + tail,
		byResource:     head + when + ` AND resource_type = $7 AND resource_id = $8` + tail,
	}
}

// Search finds entries. It does not put itself on record: who asks does, with the reason.
func (l *Log) Search(tx *db.Tx, q Query) (Page, error) {
	limit := q.Limit
	if limit == 0 {
		limit = 100
	}
	switch {
	case limit < 0 || limit > 1000:
		return Page{}, errors.New("search audit log: a page has 1 to 1000 entries")
	case q.ResourceID != "" && q.ResourceType == "":
		return Page{}, errors.New("search audit log: a resource id needs its type")
	case q.ResourceType != "" && !q.User.IsZero():
		return Page{}, errors.New("search audit log: by person or by resource, not by both")
	}
	org := int64(q.Org)
	if q.AllOrgs {
		org = -1
	}
	from, until := q.From, q.Until
	if from.IsZero() {
		from = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if until.IsZero() {
		until = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	// One more than a page, to know whether another follows.
	args := []any{l.place(max(q.Seq, 0)), org, string(q.Event), limit + 1}
	by := bySeq
	switch {
	case q.ResourceID != "":
		by, args = byResource, append(args, from, until, q.ResourceType, q.ResourceID)
	case q.ResourceType != "":
		by, args = byResourceType, append(args, from, until, q.ResourceType)
	case !q.User.IsZero():
		by, args = byUser, append(args, from, until, q.User)
	case !q.From.IsZero() || !q.Until.IsZero():
		by, args = byTime, append(args, from, until)
	}
	rows, err := tx.Query(l.search[by], args...)
	if err != nil {
		return Page{}, fmt.Errorf("search audit log: %w", err)
	}
	defer rows.Close()
	var p Page
	for rows.Next() {
		var f Found
		if f.Damage, err = l.scan(rows, &f.Record); err != nil {
			return Page{}, fmt.Errorf("search audit log: an entry cannot be read: %w", err)
		}
		if len(p.Records) == limit {
			p.Next = f.Seq
			break
		}
		p.Records = append(p.Records, f)
	}
	if err := rows.Err(); err != nil {
		return Page{}, fmt.Errorf("search audit log: %w", err)
	}
	return p, nil
}
