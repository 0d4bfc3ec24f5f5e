package db

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgresStore is a pool of connections to PostgreSQL. One group writes at a time: a second would wait for the line.
type postgresStore struct {
	db   *DB
	pool *pgxpool.Pool
}

// postgresConfig is how every connection of ours is made.
func postgresConfig(url string) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The parser's text repeats the address without its password; still, only what we know to be harmless goes on.
		return nil, errors.New("the address is not understood; its form is postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full")
	}
	cfg.ConnConfig.RuntimeParams["application_name"] = "lazaret"
	cfg.ConnConfig.RuntimeParams["timezone"] = "UTC"
	// An acknowledgement means safe: no server default may make a commit return before its record is on disk.
	cfg.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	return cfg, nil
}

func openPostgres(ctx context.Context, d *DB, url string) (*postgresStore, error) {
	cfg, err := postgresConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = int32(d.cfg.Readers + 2)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &postgresStore{db: d, pool: pool}
	var fsync string
	if err := pool.QueryRow(ctx, "SHOW fsync").Scan(&fsync); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect: %w", connectError(err))
	}
	if fsync != "on" {
		pool.Close()
		return nil, errors.New("the server runs with fsync=off, so no acknowledgement would be true; set fsync = on")
	}
	return s, nil
}

// connectError keeps the server's own word and drops the rest, which may name the user and the address.
func connectError(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fmt.Errorf("the server says %s (SQLSTATE %s)", pg.Message, pg.Code)
	}
	return err
}

func (s *postgresStore) engine() Engine { return PostgreSQL }

func (s *postgresStore) close() error {
	s.pool.Close()
	return nil
}

// The lock on the line is held until the commit: so numbers become visible in order, on any number of replicas.
const lockLine = `SELECT next, tree_size, tree FROM line WHERE id = 1 FOR UPDATE`

// Who may be seen in the rows of this transaction. It travels with BEGIN, so that it costs no round trip, and ends with the
// transaction, so that a connection that goes back to a pool, ours or one in between, carries nothing on.
const setOrganisation = `SELECT set_config('lazaret.organisation', $1, true)`

// everyOrganisation is what the policies know as "all": for what is about the database as a whole, a backup above all.
const everyOrganisation = "0"

// begin opens a transaction, and asks for the line in the same round trip where one is wanted.
func (s *postgresStore) begin(ctx context.Context, run *postgresTx, begin string, line *Line) error {
	b := &pgx.Batch{}
	b.Queue(begin)
	if n := s.db.org.Load(); n != 0 {
		b.Queue(setOrganisation, strconv.FormatInt(n, 10))
	}
	if line != nil {
		b.Queue(lockLine).QueryRow(func(row pgx.Row) error { return row.Scan(&line.Next, &line.TreeSize, &line.Tree) })
	}
	return run.conn.SendBatch(ctx, b).Close()
}

func (s *postgresStore) write(ctx context.Context, tx *Tx, fn func() error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, connectError(err))
	}
	defer conn.Release()
	run := &postgresTx{conn: conn.Conn()}
	tx.run = run
	line := &Line{}
	if err := s.begin(ctx, run, "BEGIN", line); err != nil {
		return run.failed(err)
	}
	line.First = line.Next
	tx.line, tx.lineWas = line, *line
	err = fn()
	if err == nil && s.db.cfg.Fault != nil {
		err = s.db.cfg.Fault(BeforeCommit)
	}
	if err != nil {
		return run.failed(err)
	}
	tag, err := run.conn.Exec(ctx, "COMMIT")
	if err != nil {
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.SeverityUnlocalized == "ERROR" {
			run.rollback()
			return serverError(err) // the server itself says that it did not commit
		}
		// A server that stops (FATAL) or cannot sync its log (PANIC) may find the commit in it when it starts again.
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	if tag.String() != "COMMIT" {
		return errors.New("the server rolled the transaction back")
	}
	if s.db.cfg.Fault != nil {
		if err := s.db.cfg.Fault(AfterCommit); err != nil {
			return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
	}
	return nil
}

func (s *postgresStore) read(ctx context.Context, tx *Tx, fn func() error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return connectError(err)
	}
	defer conn.Release()
	run := &postgresTx{conn: conn.Conn()}
	if err := s.begin(ctx, run, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", nil); err != nil {
		run.rollback()
		return err
	}
	tx.run = run
	err = fn()
	run.rollback()
	return err
}

// postgresTx runs the statements of one transaction on one connection.
type postgresTx struct {
	conn    *pgx.Conn
	inserts []*bulk
}

// rollback ends the transaction; the pool throws the connection away when even that fails.
func (p *postgresTx) rollback() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := p.conn.Exec(ctx, "ROLLBACK"); err != nil {
		p.conn.Close(ctx)
	}
}

// failed ends a transaction that was not committed, and tells a connection that broke from a statement that was refused.
func (p *postgresTx) failed(err error) error {
	p.rollback()
	if p.conn.IsClosed() {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return serverError(err)
}

// serverError tells what no statement is to blame for (PostgreSQL, appendix A: classes 53, 58 and 57P; 25006 is a server that
// has become a standby), so that a group is not split for it.
func serverError(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	switch {
	case pg.Code == "53100":
		return fmt.Errorf("%w: %w", ErrFull, err)
	case strings.HasPrefix(pg.Code, "53"), strings.HasPrefix(pg.Code, "58"), strings.HasPrefix(pg.Code, "57P"), pg.Code == "25006":
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func (p *postgresTx) exec(ctx context.Context, sql string, args []any) (int64, error) {
	tag, err := p.conn.Exec(ctx, sql, pgArgs(args)...)
	return tag.RowsAffected(), err
}

func (p *postgresTx) query(ctx context.Context, sql string, args []any) (*Rows, error) {
	rows, err := p.conn.Query(ctx, sql, pgArgs(args)...)
	if err != nil {
		return nil, err
	}
	return &Rows{
		next:  rows.Next,
		scan:  func(dest []any) error { return scanPostgres(rows, dest) },
		err:   rows.Err,
		close: rows.Close,
	}, nil
}

func (p *postgresTx) execLater(tx *Tx, l later) error {
	tx.later = append(tx.later, l)
	return nil
}

// flush sends everything that was put off, and the line, in one round trip.
func (p *postgresTx) flush(ctx context.Context, tx *Tx) error {
	batch := &pgx.Batch{}
	var culprit *later // the first put-off statement that failed
	for _, b := range p.inserts {
		batch.Queue(b.table.bulk, b.args()...)
	}
	for i := range tx.later {
		l := &tx.later[i]
		batch.Queue(l.sql, pgArgs(l.args)...).Exec(func(tag pgconn.CommandTag) error {
			if l.want >= 0 && tag.RowsAffected() != l.want {
				if culprit == nil {
					culprit = l
				}
				return l.or
			}
			return nil
		})
	}
	if tx.lineChanged() {
		batch.Queue(updateLine, tx.lineArgs()...)
	}
	if batch.Len() == 0 {
		return nil
	}
	err := p.conn.SendBatch(ctx, batch).Close()
	if err != nil && culprit != nil && errors.Is(err, culprit.or) {
		return &applyError{culprit.change, culprit.or}
	}
	return err
}

// bulk collects the rows of one table, a slice a column.
type bulk struct {
	table   *Table
	columns []column
}

// column is one array that PostgreSQL unfolds.
type column interface {
	add(v any) error
	array() any
}

func (p *postgresTx) insert(_ *Tx, t *Table, values []any) error {
	var b *bulk
	for _, have := range p.inserts {
		if have.table == t {
			b = have
			break
		}
	}
	if b == nil {
		b = &bulk{table: t, columns: make([]column, len(t.Columns))}
		for i, c := range t.Columns {
			b.columns[i] = newColumn(c.Kind)
		}
		p.inserts = append(p.inserts, b)
	}
	for i, v := range values {
		if err := b.columns[i].add(v); err != nil {
			return fmt.Errorf("insert into %s, column %s: %w", t.Name, t.Columns[i].Name, err)
		}
	}
	return nil
}

func (b *bulk) args() []any {
	args := make([]any, len(b.columns))
	for i, c := range b.columns {
		args[i] = c.array()
	}
	return args
}

func newColumn(k Kind) column {
	switch k {
	case Int:
		return &intColumn{}
	case Bytes:
		return &bytesColumn{}
	case UUID:
		return &uuidColumn{}
	case Time:
		return &timeColumn{}
	case Inet:
		return &textColumn{check: func(s string) error {
			if _, err := netip.ParseAddr(s); err != nil {
				if _, err := netip.ParsePrefix(s); err != nil {
					return errors.New("not an IP address")
				}
			}
			return nil
		}}
	}
	return &textColumn{}
}

type intColumn struct{ v []pgtype.Int8 }

func (c *intColumn) array() any { return c.v }
func (c *intColumn) add(v any) error {
	switch v := v.(type) {
	case nil:
		c.v = append(c.v, pgtype.Int8{})
	case int64:
		c.v = append(c.v, pgtype.Int8{Int64: v, Valid: true})
	case int:
		c.v = append(c.v, pgtype.Int8{Int64: int64(v), Valid: true})
	default:
		return fmt.Errorf("a %T is no number", v)
	}
	return nil
}

type textColumn struct {
	v     []pgtype.Text
	check func(string) error
}

func (c *textColumn) array() any { return c.v }
func (c *textColumn) add(v any) error {
	switch v := v.(type) {
	case nil:
		c.v = append(c.v, pgtype.Text{})
	case string:
		if c.check != nil {
			if err := c.check(v); err != nil {
				return err
			}
		}
		c.v = append(c.v, pgtype.Text{String: v, Valid: true})
	default:
		return fmt.Errorf("a %T is no text", v)
	}
	return nil
}

type bytesColumn struct{ v [][]byte }

func (c *bytesColumn) array() any { return c.v }
func (c *bytesColumn) add(v any) error {
	switch v := v.(type) {
	case nil:
		c.v = append(c.v, nil)
	case []byte:
		c.v = append(c.v, v)
	default:
		return fmt.Errorf("a %T is no bytes", v)
	}
	return nil
}

type uuidColumn struct{ v []pgtype.UUID }

func (c *uuidColumn) array() any { return c.v }
func (c *uuidColumn) add(v any) error {
	switch v := v.(type) {
	case nil:
		c.v = append(c.v, pgtype.UUID{})
	case ID:
		c.v = append(c.v, pgtype.UUID{Bytes: v, Valid: true})
	default:
		return fmt.Errorf("a %T is no id", v)
	}
	return nil
}

type timeColumn struct{ v []pgtype.Timestamptz }

func (c *timeColumn) array() any { return c.v }
func (c *timeColumn) add(v any) error {
	switch v := v.(type) {
	case nil:
		c.v = append(c.v, pgtype.Timestamptz{})
	case time.Time:
		c.v = append(c.v, pgtype.Timestamptz{Time: v, Valid: true})
	default:
		return fmt.Errorf("a %T is no time", v)
	}
	return nil
}

func pgArgs(args []any) []any {
	for i, a := range args {
		if id, ok := a.(ID); ok {
			args[i] = [16]byte(id)
		}
	}
	return args
}

func scanPostgres(rows pgx.Rows, dest []any) error {
	into := make([]any, len(dest))
	after := make([]func(), 0, len(dest))
	for i, d := range dest {
		switch v := d.(type) {
		case *int64:
			into[i], after = orZero(v, after)
		case *int:
			into[i], after = orZero(v, after)
		case *bool:
			into[i], after = orZero(v, after)
		case *string:
			into[i], after = orZero(v, after)
		case *time.Time:
			into[i], after = orZero(v, after)
			after = append(after, func() {
				if !v.IsZero() {
					*v = v.UTC()
				}
			})
		case *[]byte:
			into[i] = v
		case *ID:
			u := &pgtype.UUID{}
			into[i] = u
			after = append(after, func() { *v = ID(u.Bytes) })
		default:
			return fmt.Errorf("nothing can be read into a %T", d)
		}
	}
	if err := rows.Scan(into...); err != nil {
		return err
	}
	for _, f := range after {
		f()
	}
	return nil
}

// orZero scans into a pointer, because NULL has no place in a plain value.
func orZero[T any](v *T, after []func()) (any, []func()) {
	var p *T
	return &p, append(after, func() {
		var zero T
		if *v = zero; p != nil {
			*v = *p
		}
	})
}
