package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"sort"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
)

// The index finds messages by token without a tree of random keys, which was measured to cost more than all other rows of a
// message together. Tokens are first kept as they come, one row a group (token_recent). When there are bucketSize of them they
// are sorted, cut into chunks of a page or two and stored as a bucket (token_run), and the rows that they came in go. A search
// looks into the recent rows and then once into each bucket, newest first. Buckets are ranges of numbers, so of time: an old
// one can go with its messages.
//
// What duplicates need is in memory too: the recent duplicate tokens as they are, those of the buckets that the longest window
// reaches as Bloom filters.
type index struct {
	e      *Engine
	window time.Duration // the longest duplicate window of all channels

	size int // tokens of a bucket: bucketSize, fewer in tests

	// Touched only inside transactions, which hold the line, and by load before there are any.
	next    int64               // the line's Next up to which the rest is complete
	recent  map[uint64]sighting // who() and what() of recent duplicate tokens -> the newest message that has it
	count   int                 // tokens in token_recent
	last    int64               // last number of the newest bucket
	buckets []bucket            // those that a window reaches, oldest first

	first time.Time     // when the database's first message came, or the index was loaded; set once, by load
	full  chan struct{} // wakes Run
}

// sighting is a message that has a duplicate token.
type sighting struct {
	number int64
	at     int64 // when it was accepted, in microseconds; 0: not looked up yet
}

// bucket is one sorted range of numbers.
type bucket struct {
	number, last    int64 // range of message numbers; number is its key
	firstAt, lastAt int64 // when the earliest and the latest of them were accepted, in microseconds
	filter          bloom // of its duplicate tokens; nil: not in memory
}

// bucketSize is how many tokens make a bucket. Bigger ones make searches look into fewer places; smaller ones keep the recent
// rows, which are read whole, short.
const bucketSize = 1 << 17

// chunkEntries makes a chunk of 8 KiB.
const chunkEntries = 8192 / entrySize

// slack is how far the time at which a message was sealed may lie from the one at which it was committed, on whatever replica.
const slack = 10 * time.Minute

// maxFilterBytes bounds the memory of the Bloom filters: some 700 of buckets with five tokens a message, 18 million messages.
// Buckets beyond it are asked in the database.
const maxFilterBytes = 48 << 20

var (
	recents = db.NewTable("token_recent", col("organisation", db.Int), col("number", db.Int), col("tokens", db.Bytes))
	buckets = db.NewTable("token_bucket", col("organisation", db.Int), col("number", db.Int), col("last", db.Int),
		col("first_at", db.Int), col("last_at", db.Int), col("count", db.Int))
	runs = db.NewTable("token_run", col("organisation", db.Int), col("bucket", db.Int), col("field", db.Int),
		col("first", db.Bytes), col("tokens", db.Bytes))
)

const (
	listRecent = `SELECT number, tokens FROM token_recent WHERE organisation = $1 AND number >= $2 ORDER BY number`
	// What the index does not know yet: buckets that another replica made, before anything else, and newer tokens.
	listNews = `SELECT 1, number, tokens FROM token_recent WHERE organisation = $1 AND number >= $2
		UNION ALL SELECT 0, number, NULL FROM token_bucket WHERE organisation = $1 AND last > $3 ORDER BY 1, 2`
	lastBucket  = `SELECT coalesce(max(last), 0) FROM token_bucket WHERE organisation = $1`
	listBuckets = `SELECT number, last, first_at, last_at FROM token_bucket WHERE organisation = $1 AND last_at >= $2 ORDER BY number`
	listRun     = `SELECT tokens FROM token_run WHERE organisation = $1 AND bucket = $2 AND field = $3`
	searchRun   = `SELECT first, tokens FROM token_run WHERE organisation = $1 AND bucket = $2 AND field = $3 AND first <= $4
		ORDER BY first DESC`
	acceptedAt = `SELECT accepted_at FROM message WHERE number >= $1 ORDER BY number LIMIT 1`
	// Clocks of replicas differ and clocks are set back, so the first is not always the earliest.
	acceptedBetween = `SELECT coalesce(min(accepted_at), 0), coalesce(max(accepted_at), 0) FROM message
		WHERE organisation = $1 AND number >= $2 AND number <= $3`
	deleteRecent = `DELETE FROM token_recent WHERE organisation = $1 AND number <= $2`
)

func newIndex(e *Engine) *index {
	ix := &index{e: e, size: bucketSize, recent: map[uint64]sighting{}, full: make(chan struct{}, 1)}
	if e.cfg.bucketSize > 0 {
		ix.size = e.cfg.bucketSize
	}
	for _, ch := range e.channels {
		ix.window = max(ix.window, ch.cfg.Admit.Duplicates)
	}
	return ix
}

// load reads what is needed in memory. It runs before the engine does.
func (ix *index) load(ctx context.Context) error {
	return ix.e.db.Commit(ctx, 0, func(tx *db.Tx) error {
		if ix.first.IsZero() {
			at := tx.Now().UnixMicro()
			if err := tx.QueryRow(acceptedAt, []any{int64(0)}, &at); err != nil && !errors.Is(err, db.ErrNoRows) {
				return err
			}
			ix.first = time.UnixMicro(at)
		}
		return ix.reload(tx)
	})
}

func (ix *index) reload(tx *db.Tx) error {
	ix.next, ix.count = 0, 0
	clear(ix.recent)
	if err := ix.loadBuckets(tx); err != nil {
		return err
	}
	return ix.sync(tx)
}

// loadBuckets learns of the buckets that a window reaches and that are not known yet.
func (ix *index) loadBuckets(tx *db.Tx) error {
	if err := tx.QueryRow(lastBucket, []any{ix.e.org}, &ix.last); err != nil {
		return err
	}
	since := tx.Now().Add(-ix.window).UnixMicro()
	list, err := ix.bucketsSince(tx, since)
	if err != nil {
		return err
	}
	known := map[int64]bloom{}
	for _, b := range ix.buckets {
		known[b.number] = b.filter
	}
	room := maxFilterBytes
	for i := len(list) - 1; i >= 0 && room > 0 && ix.window > 0; i-- {
		b := &list[i]
		if b.filter = known[b.number]; b.filter == nil {
			if b.filter, err = ix.readFilter(tx, b.number); err != nil {
				return err
			}
		}
		room -= 8 * len(b.filter)
	}
	ix.buckets = list
	return nil
}

// limitFilters lets go of the filters of the oldest buckets, when all of them take too much memory.
func limitFilters(list []bucket) []bucket {
	room := maxFilterBytes
	for i := len(list) - 1; i >= 0; i-- {
		if room -= 8 * len(list[i].filter); room < 0 {
			list[i].filter = nil
		}
	}
	return list
}

func (ix *index) bucketsSince(tx *db.Tx, since int64) (list []bucket, err error) {
	rows, err := tx.Query(listBuckets, ix.e.org, since)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var b bucket
		if err := rows.Scan(&b.number, &b.last, &b.firstAt, &b.lastAt); err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, rows.Err()
}

func (ix *index) readFilter(tx *db.Tx, number int64) (bloom, error) {
	rows, err := tx.Query(listRun, ix.e.org, number, int(fieldDuplicate))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []byte
	for rows.Next() {
		var chunk []byte
		if err := rows.Scan(&chunk); err != nil {
			return nil, err
		}
		all = append(all, chunk...)
	}
	return filterOf(all), rows.Err()
}

// filterOf builds the filter over the entries of duplicate tokens.
func filterOf(entries []byte) bloom {
	f := newBloom(2 * len(entries) / entrySize)
	for ; len(entries) >= entrySize; entries = entries[entrySize:] {
		t := token{value: [8]byte(entries), tag: binary.BigEndian.Uint32(entries[8:])}
		f.add(t.who())
		f.add(t.what())
	}
	return f
}

// sync reads what others stored since the last transaction that the index saw: another replica, or an own commit whose outcome
// was not known.
func (ix *index) sync(tx *db.Tx) error {
	line, err := tx.Line()
	if err != nil {
		return err
	}
	if line.First == ix.next {
		return nil
	}
	rows, err := tx.Query(listNews, ix.e.org, ix.next, ix.last)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var recent, number int64
		var tokens []byte
		if err := rows.Scan(&recent, &number, &tokens); err != nil {
			return err
		}
		if recent == 0 {
			rows.Close()
			return ix.reload(tx)
		}
		ix.absorb(tokens)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	ix.next = line.First
	return nil
}

// absorb takes a row of recent tokens into memory.
func (ix *index) absorb(tokens []byte) {
	ix.count += len(tokens) / recentSize
	for ; len(tokens) >= recentSize; tokens = tokens[recentSize:] {
		if tokens[0] == fieldDuplicate {
			t := token{value: [8]byte(tokens[1:]), tag: binary.BigEndian.Uint32(tokens[9:])}
			s := sighting{number: entryNumber(tokens[1:])}
			ix.recent[t.who()], ix.recent[t.what()] = s, s
		}
	}
}

// same lists messages since then that may have the very token: the same sender, control ID and content.
func (ix *index) same(tx *db.Tx, t token, since time.Time) (list []int64, err error) {
	if s, ok := ix.recent[t.what()]; ok {
		list = append(list, s.number)
	}
	prefix := binary.BigEndian.AppendUint32(bytes.Clone(t.value[:]), t.tag)
	for b := range ix.reached(since) {
		if b.filter != nil && !b.filter.has(t.what()) {
			continue
		}
		err := ix.searchBucket(tx, b.number, fieldDuplicate, prefix, func(e []byte) bool {
			list = append(list, entryNumber(e))
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// maxSightings bounds how many messages with one control ID are looked at in a bucket: a laboratory with a constant one has
// tens of thousands there.
const maxSightings = 16

// reused says whether the token's sender used its control ID since then, whatever the content was.
func (ix *index) reused(tx *db.Tx, t token, since time.Time) (bool, error) {
	if _, ok := ix.group(tx).mine[t.who()]; ok {
		return true, nil
	}
	if s, ok := ix.recent[t.who()]; ok {
		if s.at == 0 {
			if err := tx.QueryRow(acceptedAt, []any{s.number}, &s.at); err != nil {
				return false, err
			}
			ix.recent[t.who()] = s
		}
		if s.at >= since.UnixMicro() {
			return true, nil
		}
	}
	for b := range ix.reached(since) {
		if b.filter != nil && !b.filter.has(t.who()) {
			continue
		}
		var newest int64
		n := 0
		err := ix.searchBucket(tx, b.number, fieldDuplicate, t.value[:], func(e []byte) bool {
			newest = max(newest, entryNumber(e))
			n++
			return n < maxSightings
		})
		if err != nil || n == 0 {
			if err != nil {
				return false, err
			}
			continue
		}
		var at int64
		if err := tx.QueryRow(acceptedAt, []any{newest}, &at); err != nil {
			return false, err
		}
		if at >= since.UnixMicro() {
			return true, nil
		}
	}
	return false, nil
}

// reached are the buckets that hold something accepted since then, newest first.
func (ix *index) reached(since time.Time) iter.Seq[*bucket] {
	return func(yield func(*bucket) bool) {
		for i := len(ix.buckets) - 1; i >= 0; i-- {
			if ix.buckets[i].lastAt >= since.UnixMicro() && !yield(&ix.buckets[i]) {
				return
			}
		}
	}
}

// searchBucket calls fn with the entries of a field that begin with prefix, until fn says false.
func (ix *index) searchBucket(tx *db.Tx, bucket int64, field byte, prefix []byte, fn func(entry []byte) (more bool)) error {
	high := append(bytes.Clone(prefix), bytes.Repeat([]byte{0xff}, entrySize-len(prefix))...)
	rows, err := tx.Query(searchRun, ix.e.org, bucket, int(field), high)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var first, chunk []byte
		if err := rows.Scan(&first, &chunk); err != nil {
			return err
		}
		if !forEachMatch(chunk, prefix, fn) {
			break
		}
		if bytes.Compare(first[:len(prefix)], prefix) < 0 {
			break // what lies before this chunk is smaller still
		}
	}
	return rows.Err()
}

// group gathers the tokens of one transaction.
type group struct {
	first  int64
	tokens []byte
	mine   map[uint64]*intake // by who() and what() of duplicate tokens; their rows cannot be read before the commit
}

func (ix *index) group(tx *db.Tx) *group {
	return tx.Shared(ix, func() any {
		g := &group{mine: map[uint64]*intake{}}
		tx.AtEnd(func(tx *db.Tx) error {
			if len(g.tokens) == 0 {
				return nil
			}
			return tx.Insert(recents, ix.e.org, g.first, g.tokens)
		})
		tx.OnCommit(func() { ix.committed(tx, g) })
		return g
	}).(*group)
}

// add puts a message's tokens into the group's row.
func (ix *index) add(tx *db.Tx, msg *intake) error {
	if err := ix.sync(tx); err != nil {
		return err
	}
	g := ix.group(tx)
	if g.first == 0 {
		g.first = msg.number
	}
	for _, t := range msg.tokens {
		g.tokens = appendRecent(g.tokens, t, msg.number)
		if t.field == fieldDuplicate {
			g.mine[t.who()], g.mine[t.what()] = msg, msg
		}
	}
	return nil
}

func (ix *index) committed(tx *db.Tx, g *group) {
	for h, msg := range g.mine {
		ix.recent[h] = sighting{number: msg.number, at: tx.Now().UnixMicro()}
	}
	ix.count += len(g.tokens) / recentSize
	if line, err := tx.Line(); err == nil {
		ix.next = line.Next
	}
	if ix.count >= ix.size {
		select {
		case ix.full <- struct{}{}:
		default:
		}
	}
}

// Run makes buckets whenever there are tokens enough, until ctx ends.
func (ix *index) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ix.full:
		}
		if err := ix.makeBucket(ctx); err != nil && ctx.Err() == nil {
			if errors.Is(err, db.ErrStopped) {
				return err
			}
			ix.e.log.Error("sort the search index", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
		}
	}
}

// errMoved: another replica made the bucket first.
var errMoved = errors.New("the recent tokens have changed meanwhile")

// makeBucket sorts the recent tokens into a bucket. Reading and sorting happen beside the writers; the commit inserts a few
// hundred pages.
func (ix *index) makeBucket(ctx context.Context) error {
	fields := map[byte][]byte{}
	count := 0
	var rowCount, lastRow int64
	b := bucket{}
	err := ix.e.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(listRecent, ix.e.org, int64(0))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var tokens []byte
			if err := rows.Scan(&lastRow, &tokens); err != nil {
				return err
			}
			if rowCount++; rowCount == 1 {
				b.number = lastRow
			}
			for ; len(tokens) >= recentSize; tokens = tokens[recentSize:] {
				fields[tokens[0]] = append(fields[tokens[0]], tokens[1:recentSize]...)
				b.last = max(b.last, entryNumber(tokens[1:]))
				count++
			}
		}
		rows.Close()
		if err := rows.Err(); err != nil || count < ix.size {
			return err
		}
		return tx.QueryRow(acceptedBetween, []any{ix.e.org, b.number, b.last}, &b.firstAt, &b.lastAt)
	})
	if err != nil {
		return err
	}
	if count < ix.size {
		return ix.load(ctx) // another replica was first, and the count in memory is wrong
	}
	for f, entries := range fields {
		fields[f] = sorted(entries)
	}
	b.filter = filterOf(fields[fieldDuplicate])
	err = ix.e.db.Commit(ctx, count*entrySize, func(tx *db.Tx) error {
		n, err := tx.Exec(deleteRecent, ix.e.org, lastRow)
		if err != nil {
			return err
		}
		if n != rowCount {
			return errMoved
		}
		if err := tx.Insert(buckets, ix.e.org, b.number, b.last, b.firstAt, b.lastAt, count); err != nil {
			return err
		}
		for f, entries := range fields {
			for len(entries) > 0 {
				chunk := entries[:min(len(entries), chunkEntries*entrySize)]
				entries = entries[len(chunk):]
				if err := tx.Insert(runs, ix.e.org, b.number, int(f), chunk[:entrySize], chunk); err != nil {
					return err
				}
			}
		}
		tx.OnCommit(func() { ix.moved(tx.Now(), b, count) })
		return nil
	})
	if errors.Is(err, errMoved) {
		return ix.load(ctx)
	}
	return err
}

// moved forgets in memory what a bucket holds now.
func (ix *index) moved(now time.Time, b bucket, count int) {
	ix.count = max(0, ix.count-count)
	for h, s := range ix.recent {
		if s.number <= b.last {
			delete(ix.recent, h)
		}
	}
	ix.last = b.last
	list := ix.buckets[:0:0]
	for _, have := range ix.buckets {
		if have.lastAt >= now.Add(-ix.window).UnixMicro() {
			list = append(list, have)
		}
	}
	ix.buckets = limitFilters(append(list, b))
}

// sorted orders entries by their bytes.
func sorted(entries []byte) []byte {
	s := entrySlice(bytes.Clone(entries))
	sort.Sort(s)
	return s
}

type entrySlice []byte

func (s entrySlice) Len() int { return len(s) / entrySize }
func (s entrySlice) Less(i, j int) bool {
	return bytes.Compare(s[i*entrySize:(i+1)*entrySize], s[j*entrySize:(j+1)*entrySize]) < 0
}
func (s entrySlice) Swap(i, j int) {
	var t [entrySize]byte
	copy(t[:], s[i*entrySize:])
	copy(s[i*entrySize:(i+1)*entrySize], s[j*entrySize:])
	copy(s[j*entrySize:], t[:])
}
