package db

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Tx is one transaction, or one read-only snapshot. It belongs to one goroutine.
type Tx struct {
	db       *DB
	ctx      context.Context // of the transaction: a group may serve many callers, none of whose contexts may end it
	now      time.Time
	readOnly bool
	line     *Line
	lineWas  Line
	run      runner
	later    []later // what is sent together before the commit; PostgreSQL only
	change   int     // which change of the group is being applied
	kept     map[any]any
	atEnd    []func(*Tx) error
	onCommit []func()
}

// runner executes single statements on the transaction's connection.
type runner interface {
	query(ctx context.Context, sql string, args []any) (*Rows, error)
	exec(ctx context.Context, sql string, args []any) (int64, error)
	insert(tx *Tx, t *Table, values []any) error
	execLater(tx *Tx, l later) error
	flush(ctx context.Context, tx *Tx) error
}

// later is a statement whose result is looked at before the commit.
type later struct {
	sql    string
	args   []any
	want   int64 // rows that it must touch; -1: any number
	or     error // what to say when it did not
	change int
}

// Context is the transaction's context.
func (tx *Tx) Context() context.Context { return tx.ctx }

// Now is the transaction's time: one for all that it writes.
func (tx *Tx) Now() time.Time { return tx.now }

// Engine says which engine runs the transaction.
func (tx *Tx) Engine() Engine { return tx.db.Engine() }

// Query runs a statement and returns its rows. Close them before the next statement on PostgreSQL.
func (tx *Tx) Query(sql string, args ...any) (*Rows, error) {
	return tx.run.query(tx.ctx, sql, args)
}

// QueryRow scans the first row into dest; ErrNoRows if there is none.
func (tx *Tx) QueryRow(sql string, args []any, dest ...any) error {
	rows, err := tx.run.query(tx.ctx, sql, args)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return err
		}
		return ErrNoRows
	}
	if err := rows.Scan(dest...); err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

// Exec runs a statement at once and returns the number of rows that it touched.
func (tx *Tx) Exec(sql string, args ...any) (int64, error) {
	if tx.readOnly {
		return 0, errors.New("a read-only snapshot cannot write")
	}
	return tx.run.exec(tx.ctx, sql, args)
}

// ExecLater runs a statement before the commit, together with all others of the group in one round trip. It must
// touch want rows (-1: any number); if it does not, the change that asked for it fails with or, and the rest of the
// group goes on without it.
func (tx *Tx) ExecLater(want int64, or error, sql string, args ...any) error {
	if tx.readOnly {
		return errors.New("a read-only snapshot cannot write")
	}
	return tx.run.execLater(tx, later{sql: sql, args: args, want: want, or: or, change: tx.change})
}

// Insert adds a row. All rows of a group for one table travel together.
func (tx *Tx) Insert(t *Table, values ...any) error {
	if tx.readOnly {
		return errors.New("a read-only snapshot cannot write")
	}
	if len(values) != len(t.Columns) {
		return fmt.Errorf("insert into %s: %d values for %d columns", t.Name, len(values), len(t.Columns))
	}
	for i, v := range values {
		if s, ok := v.(string); ok {
			if err := checkText(s); err != nil {
				return fmt.Errorf("insert into %s, column %s: %w", t.Name, t.Columns[i].Name, err)
			}
		}
	}
	return tx.run.insert(tx, t, values)
}

// Shared returns what the transaction keeps under key, which it makes by fresh the first time. With it the changes of a group
// gather what they can write together; fresh usually calls AtEnd. The value dies with the transaction.
func (tx *Tx) Shared(key any, fresh func() any) any {
	if v, ok := tx.kept[key]; ok {
		return v
	}
	if tx.kept == nil {
		tx.kept = map[any]any{}
	}
	v := fresh()
	tx.kept[key] = v
	return v
}

// AtEnd runs fn after the last change of the group was applied and before anything is committed.
func (tx *Tx) AtEnd(fn func(*Tx) error) { tx.atEnd = append(tx.atEnd, fn) }

// OnCommit runs fn once the transaction is known to be kept, before its callers are answered. fn must be quick.
func (tx *Tx) OnCommit(fn func()) { tx.onCommit = append(tx.onCommit, fn) }

// DatabaseTime is the database's own clock: on PostgreSQL the server's, on SQLite, which has none, this process's. Leases are
// measured by it, because replicas need not agree on the time.
func (tx *Tx) DatabaseTime() (time.Time, error) {
	if tx.Engine() == SQLite {
		return tx.now, nil
	}
	var us int64
	err := tx.QueryRow(`SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`, nil, &us)
	return time.UnixMicro(us).UTC(), err
}

// A Line is the row of numbers, locked by this transaction. What is changed in it is written at the commit.
type Line struct {
	Next     int64  // the next number that nobody has: first for messages, deliveries and whatever is ordered
	TreeSize int64  // entries in the audit log
	Tree     []byte // its right edge; package audit knows the form

	// First is Next as it was when the transaction began: whoever remembers an earlier transaction's Next sees by it
	// whether somebody else took numbers meanwhile.
	First int64
}

// Take gives n consecutive numbers and returns the first.
func (l *Line) Take(n int64) int64 {
	first := l.Next
	l.Next += n
	return first
}

// Line returns the row of numbers. In a read-only snapshot it is a copy to look at.
func (tx *Tx) Line() (*Line, error) {
	if tx.line != nil {
		return tx.line, nil
	}
	const show = `SELECT next, tree_size, tree FROM line WHERE id = 1`
	l := &Line{}
	if err := tx.QueryRow(show, nil, &l.Next, &l.TreeSize, &l.Tree); err != nil {
		return nil, fmt.Errorf("read the line of numbers: %w", err)
	}
	l.First = l.Next
	tx.line = l
	return l, nil
}

// A Kind is the type of a column, as far as moving many rows at once must know it.
type Kind uint8

// Kinds of columns, and the Go types that they take. A nil value is NULL for each of them.
const (
	Int   Kind = iota + 1 // int64, int
	Text                  // string
	Bytes                 // []byte
	UUID                  // ID
	Time                  // time.Time; microseconds since 1970 on SQLite, timestamptz on PostgreSQL
	Inet                  // string; text on SQLite, inet on PostgreSQL
	JSON                  // string; text on SQLite, jsonb on PostgreSQL
)

// A Column is a name and a kind.
type Column struct {
	Name string
	Kind Kind
}

// A Table is what Insert needs to know. NewTable makes it; make it once and keep it.
type Table struct {
	Name    string
	Columns []Column

	sql  string // one row
	bulk string // many rows, PostgreSQL
}

// Rows walks over a result.
type Rows struct {
	next  func() bool
	scan  func(dest []any) error
	err   func() error
	close func()
}

// Next moves to the next row.
func (r *Rows) Next() bool { return r.next() }

// Scan copies the row's columns into *int64, *int, *bool, *string, *[]byte, *ID or *time.Time. NULL becomes the zero value.
func (r *Rows) Scan(dest ...any) error { return r.scan(dest) }

// Err returns what ended the walk early.
func (r *Rows) Err() error { return r.err() }

// Close ends the walk. It may be called twice.
func (r *Rows) Close() { r.close() }
