package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// What retention asks of the engine, in the words of both: months (seal.Period), ids and names. When something goes, and why, is
// package retention's matter; what hangs on a message, and must go with it, is known here.
//
// A message's id begins with the time that its keys were chosen by, so a month is a range of ids, and a walk through it is a walk
// through one index. Every method works in windows: no read holds a snapshot for long, and no commit touches more than limit
// messages.

// floorID is the lowest id that a message of this moment or later may have.
func floorID(t time.Time) (id db.ID) {
	ms := uint64(t.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}

func monthRange(p seal.Period) (from, end db.ID) { return floorID(p.Start()), floorID((p + 1).Start()) }

const (
	firstFrom = `SELECT id, number FROM message WHERE id >= $1 AND id < $2 AND organisation = $3 ORDER BY id LIMIT 1`
	lastUntil = `SELECT id, number FROM message WHERE id >= $1 AND id < $2 AND organisation = $3 ORDER BY id DESC LIMIT 1`
	window    = `SELECT id, number, channel, status, size, length(header) FROM message
		WHERE id > $1 AND id < $2 AND organisation = $3 ORDER BY id LIMIT $4`
	channelNames = `SELECT number, name FROM channel WHERE organisation = $1`
)

// MessagePeriods lists the months that have messages, oldest first. messages is about how many: numbers are given to resends too.
func (e *Engine) MessagePeriods(ctx context.Context, fn func(p seal.Period, messages int64)) error {
	type month struct {
		p        seal.Period
		messages int64
	}
	var list []month
	err := e.db.Read(ctx, func(tx *db.Tx) error {
		list = list[:0]
		end := db.ID{0: 0xff, 1: 0xff, 2: 0xff, 3: 0xff, 4: 0xff, 5: 0xff}
		for from := (db.ID{}); ; {
			var id db.ID
			var first, last int64
			err := tx.QueryRow(firstFrom, []any{from, end, e.org}, &id, &first)
			if errors.Is(err, db.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			p := seal.PeriodOf(id.Time())
			begin, next := monthRange(p)
			if err := tx.QueryRow(lastUntil, []any{begin, next, e.org}, &id, &last); err != nil {
				return err
			}
			list = append(list, month{p, max(last-first, 0) + 1})
			from = next
		}
	})
	if err != nil {
		return fmt.Errorf("list the months of messages: %w", err)
	}
	for _, m := range list {
		fn(m.p, m.messages)
	}
	return nil
}

// A stored message, as far as disposal looks at it.
type stored struct {
	id       db.ID
	number   int64
	channel  int64
	rejected bool
	content  bool // not yet disposed of by itself; it says nothing about the month's key
	size     int64
}

func (e *Engine) readWindow(tx *db.Tx, p seal.Period, after db.ID, limit int) (list []stored, err error) {
	from, end := monthRange(p)
	if after == (db.ID{}) {
		after = from
	}
	rows, err := tx.Query(window, after, end, e.org, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s stored
		var status, header int64
		if err := rows.Scan(&s.id, &s.number, &s.channel, &status, &s.size, &header); err != nil {
			return nil, err
		}
		s.rejected, s.content = Status(status) == Rejected, header > 0
		list = append(list, s)
	}
	return list, rows.Err()
}

func (e *Engine) channelNames(tx *db.Tx) (map[int64]string, error) {
	rows, err := tx.Query(channelNames, e.org)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names := map[int64]string{}
	for rows.Next() {
		var n int64
		var name string
		if err := rows.Scan(&n, &name); err != nil {
			return nil, err
		}
		names[n] = name
	}
	return names, rows.Err()
}

// WalkMessages shows all messages of a month. content is false for one whose content went before its month.
func (e *Engine) WalkMessages(ctx context.Context, p seal.Period, fn func(number int64, id db.ID, channel string, rejected, content bool, size int64)) error {
	const atOnce = 10_000
	var after db.ID
	for {
		var list []stored
		var names map[int64]string
		err := e.db.Read(ctx, func(tx *db.Tx) (err error) {
			if names, err = e.channelNames(tx); err == nil {
				list, err = e.readWindow(tx, p, after, atOnce)
			}
			return err
		})
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("walk through the messages of %s: %w", p, err)
		}
		for _, s := range list {
			fn(s.number, s.id, names[s.channel], s.rejected, s.content, s.size)
			after = s.id
		}
		if len(list) < atOnce {
			return nil
		}
	}
}

// MessagesAbout shows the numbers of a month's messages that name a patient, as far as the search index knows: of a message with
// more than 64 identifiers it knows the first 64, of one that was not legible none.
func (e *Engine) MessagesAbout(ctx context.Context, p seal.Period, identifier string, fn func(number int64)) error {
	t := term{field: fieldPatient, value: func(at seal.Period) (v [8]byte, ok bool, err error) {
		if at != p {
			return v, false, nil
		}
		b, err := e.keys.Seek(ctx, uint32(e.org), seal.FieldPatientIdentifier, p, []byte(strings.ToUpper(strings.TrimSpace(identifier))))
		if errors.Is(err, seal.ErrKeyMissing) {
			return v, false, nil
		}
		return [8]byte(b[:8]), err == nil, err
	}}
	err := e.db.Read(ctx, func(tx *db.Tx) error {
		return e.index.numbers(tx, t, math.MaxInt64, func(n int64) (bool, error) {
			fn(n)
			return true, nil
		})
	})
	if err != nil {
		return fmt.Errorf("find the messages of a patient in %s: %w", p, err)
	}
	return nil
}

// HasMessage says whether this organisation has a message of that id.
func (e *Engine) HasMessage(ctx context.Context, id db.ID) (bool, error) {
	return e.has(ctx, `SELECT count(*) FROM message WHERE id = $1 AND organisation = $2`, id)
}

// HasChannel says whether this organisation has a channel of that name, or had one.
func (e *Engine) HasChannel(ctx context.Context, name string) (bool, error) {
	return e.has(ctx, `SELECT count(*) FROM channel WHERE name = $1 AND organisation = $2`, name)
}

func (e *Engine) has(ctx context.Context, sql string, what any) (bool, error) {
	var n int64
	err := e.db.Read(ctx, func(tx *db.Tx) error { return tx.QueryRow(sql, []any{what, e.org}, &n) })
	return n > 0, err
}

// OrganisationNumber is what stored rows and keys know the organisation by.
func (e *Engine) OrganisationNumber() uint32 { return uint32(e.org) }

const (
	allQueues = `SELECT q.number, q.name, q.low, c.name FROM queue q JOIN channel c ON c.number = q.channel
		WHERE c.organisation = $1 ORDER BY q.number`
	// Everything below low is settled, so this looks at the queue's present end only.
	countUnsettled = `SELECT count(*) FROM delivery d JOIN message m ON m.number = d.message
		WHERE d.queue = $1 AND d.number >= $2 AND d.state <= 2 AND m.id >= $3 AND m.id < $4`
)

// Undelivered tells which destinations a month's messages still wait for. known is false for one that the configuration no
// longer has. since is for BeginDisposal: what is queued later has that number or a higher one.
func (e *Engine) Undelivered(ctx context.Context, p seal.Period, fn func(channel, destination string, known bool, deliveries int64)) (since int64, err error) {
	err = e.db.Read(ctx, func(tx *db.Tx) error {
		line, err := tx.Line()
		if err != nil {
			return err
		}
		since = line.Next
		return e.unsettled(tx, p, 0, fn)
	})
	if err != nil {
		return 0, fmt.Errorf("look for undelivered messages of %s: %w", p, err)
	}
	return since, nil
}

func (e *Engine) unsettled(tx *db.Tx, p seal.Period, since int64, fn func(channel, destination string, known bool, deliveries int64)) error {
	type place struct {
		number, low   int64
		name, channel string
	}
	var list []place
	rows, err := tx.Query(allQueues, e.org)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var q place
		if err := rows.Scan(&q.number, &q.name, &q.low, &q.channel); err != nil {
			return err
		}
		list = append(list, q)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows.Close()
	from, end := monthRange(p)
	for _, q := range list {
		var n int64
		if err := tx.QueryRow(countUnsettled, []any{q.number, max(q.low, since), from, end}, &n); err != nil {
			return err
		}
		if n > 0 {
			fn(q.channel, q.name, e.queueNumbered(q.number) != nil, n)
		}
	}
	return nil
}

const (
	beginDisposal = `INSERT INTO message_disposal (organisation, period) VALUES ($1, $2) ON CONFLICT DO NOTHING`
	showDisposal  = `SELECT count(*) FROM message_disposal WHERE organisation = $1 AND period = $2`
	showContent   = `SELECT count(*) FROM content WHERE number = $1`
)

// BeginDisposal marks a month in the transaction that decides its end: from here on nothing of it is queued again. false: something
// was, since Undelivered looked.
func (e *Engine) BeginDisposal(tx *db.Tx, p seal.Period, since int64) (bool, error) {
	waits := false
	if err := e.unsettled(tx, p, since, func(string, string, bool, int64) { waits = true }); err != nil || waits {
		return false, err
	}
	_, err := tx.Exec(beginDisposal, e.org, int64(p))
	return err == nil, err
}

// stillThere refuses to queue what is on its way out.
func (e *Engine) stillThere(tx *db.Tx, s *Summary) error {
	var content, disposal int64
	if err := tx.QueryRow(showContent, []any{s.Number}, &content); err != nil {
		return err
	}
	if err := tx.QueryRow(showDisposal, []any{e.org, int64(seal.PeriodOf(s.ID.Time()))}, &disposal); err != nil {
		return err
	}
	if content == 0 || disposal > 0 {
		return fmt.Errorf("message %s: its content was disposed of: %w", s.ID, ErrNotFound)
	}
	return nil
}

// Statements over a set of message numbers. {numbers} is a subquery over a JSON array, which travels as one text: the engines name
// its function differently. What a message has at its destinations is found through its channel's queues, what a person sent
// again through the deliveries themselves.
const (
	numbersSQLite   = `(SELECT value FROM json_each($1))`
	numbersPostgres = `(SELECT CAST(v AS BIGINT) FROM json_array_elements_text(CAST(CAST($1 AS TEXT) AS JSON)) AS list(v))`

	firstWays = `(SELECT q.number, m.number FROM message m JOIN queue q ON q.channel = m.channel WHERE m.number IN {numbers})`
	laterWays = `(SELECT queue, number FROM delivery WHERE message <> number AND message IN {numbers})`

	unsettledFirst = `SELECT d.number FROM delivery d WHERE (d.queue, d.number) IN ` + firstWays + ` AND d.state <= 2`
	unsettledLater = `SELECT d.message FROM delivery d WHERE d.message <> d.number AND d.message IN {numbers} AND d.state <= 2`

	dropContents    = `DELETE FROM content WHERE number IN {numbers}`
	dropFirst       = `DELETE FROM attempt WHERE (queue, number) IN ` + firstWays
	dropLater       = `DELETE FROM attempt WHERE (queue, number) IN ` + laterWays
	blankFirst      = `UPDATE delivery SET keys = $2 WHERE (queue, number) IN ` + firstWays + ` AND length(keys) > 0`
	blankLater      = `UPDATE delivery SET keys = $2 WHERE message <> number AND message IN {numbers} AND length(keys) > 0`
	blankHeaders    = `UPDATE message SET header = $2 WHERE number IN {numbers}`
	dropDeliveries  = `DELETE FROM delivery WHERE (queue, number) IN ` + firstWays
	dropLaterOnes   = `DELETE FROM delivery WHERE message <> number AND message IN {numbers}`
	dropMessageRows = `DELETE FROM message WHERE number IN {numbers}`
)

func (e *Engine) overNumbers(sql string) string {
	if e.db.Engine() == db.PostgreSQL {
		return strings.ReplaceAll(sql, "{numbers}", numbersPostgres)
	}
	return strings.ReplaceAll(sql, "{numbers}", numbersSQLite)
}

func numbersText(list []stored) string {
	numbers := make([]int64, len(list))
	for i, s := range list {
		numbers[i] = s.number
	}
	b, _ := json.Marshal(numbers) // whole numbers only: it cannot fail
	return string(b)
}

// dropped is a batch: how many messages lost their content and its bytes (as it came), how many attempts' bytes went, and the
// cursor to go on from.
type dropped struct {
	messages, bytes, attempts int64
	next                      db.ID
	more                      bool
}

// DropContent deletes the content of up to limit messages of a month behind the cursor after (zero: from its beginning), in one
// commit. It takes those that pick says, but none that a destination still waits for; pick nil takes all, whatever waits, for a
// month whose keys are gone. record runs in the same transaction, and its error undoes all of it. What of a message went by
// itself loses its sealed header too; that of a whole month is as illegible as its content.
func (e *Engine) DropContent(ctx context.Context, p seal.Period, after db.ID, limit int,
	pick func(number int64, id db.ID, channel string, rejected bool) bool,
	record func(tx *db.Tx, next db.ID, more bool, messages, bytes, attempts int64) error) error {
	var list []stored
	var names map[int64]string
	err := e.db.Read(ctx, func(tx *db.Tx) (err error) {
		if names, err = e.channelNames(tx); err == nil {
			list, err = e.readWindow(tx, p, after, limit)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("dispose of content of %s: %w", p, err)
	}
	d := dropped{next: after, more: len(list) == limit}
	if len(list) > 0 {
		d.next = list[len(list)-1].id
	}
	var chosen []stored
	for _, s := range list {
		if s.content && (pick == nil || pick(s.number, s.id, names[s.channel], s.rejected)) {
			chosen = append(chosen, s)
		}
	}
	err = e.db.Commit(ctx, 64*len(list), func(tx *db.Tx) error {
		batch := chosen
		if pick != nil && len(batch) > 0 {
			var err error
			if batch, err = e.settledOnly(tx, batch); err != nil {
				return err
			}
		}
		d.messages, d.bytes, d.attempts = 0, 0, 0
		if len(batch) > 0 {
			if err := e.dropContent(tx, batch, pick != nil, &d); err != nil {
				return err
			}
		}
		return record(tx, d.next, d.more, d.messages, d.bytes, d.attempts)
	})
	if err != nil {
		return fmt.Errorf("dispose of content of %s: %w", p, err)
	}
	return nil
}

// settledOnly leaves out what a destination still waits for.
func (e *Engine) settledOnly(tx *db.Tx, list []stored) (settled []stored, err error) {
	waits := map[int64]bool{}
	for _, sql := range []string{unsettledFirst, unsettledLater} {
		rows, err := tx.Query(e.overNumbers(sql), numbersText(list))
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		for rows.Next() {
			var n int64
			if err := rows.Scan(&n); err != nil {
				return nil, err
			}
			waits[n] = true
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
		rows.Close()
	}
	for _, s := range list {
		if !waits[s.number] {
			settled = append(settled, s)
		}
	}
	return settled, nil
}

func (e *Engine) dropContent(tx *db.Tx, list []stored, headers bool, d *dropped) error {
	numbers := numbersText(list)
	n, err := tx.Exec(e.overNumbers(dropContents), numbers)
	if err != nil {
		return err
	}
	d.messages = n
	for _, s := range list {
		d.bytes += s.size
	}
	if n < int64(len(list)) { // some went before a crash, or had none
		d.bytes = d.bytes * n / int64(len(list))
	}
	for _, sql := range []string{dropFirst, dropLater} {
		n, err := tx.Exec(e.overNumbers(sql), numbers)
		if err != nil {
			return err
		}
		d.attempts += n
	}
	blanks := []string{blankFirst, blankLater}
	if headers {
		blanks = append(blanks, blankHeaders)
	}
	for _, sql := range blanks {
		if _, err := tx.Exec(e.overNumbers(sql), numbers, []byte{}); err != nil {
			return err
		}
	}
	return nil
}

// DropMetadata deletes what is left of up to limit messages of a month, oldest first, in one commit: their rows, deliveries and
// attempts. record runs in the same transaction.
func (e *Engine) DropMetadata(ctx context.Context, p seal.Period, limit int,
	record func(tx *db.Tx, more bool, messages, deliveries int64) error) error {
	var list []stored
	err := e.db.Read(ctx, func(tx *db.Tx) (err error) {
		list, err = e.readWindow(tx, p, db.ID{}, limit)
		return err
	})
	if err != nil {
		return fmt.Errorf("dispose of metadata of %s: %w", p, err)
	}
	numbers := numbersText(list)
	err = e.db.Commit(ctx, 128*len(list), func(tx *db.Tx) error {
		var counts [6]int64
		if len(list) > 0 {
			for i, sql := range []string{dropContents, dropFirst, dropLater, dropDeliveries, dropLaterOnes, dropMessageRows} {
				var err error
				if counts[i], err = tx.Exec(e.overNumbers(sql), numbers); err != nil {
					return err
				}
			}
		}
		return record(tx, len(list) == limit, counts[5], counts[3]+counts[4])
	})
	if err != nil {
		return fmt.Errorf("dispose of metadata of %s: %w", p, err)
	}
	return nil
}
