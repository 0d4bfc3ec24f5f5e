// Package db is the one small door to the database: SQLite (embedded, the default) or PostgreSQL.
//
// It opens, migrates and transacts, gives numbers, and commits in groups. Everything that a process writes goes through
// [DB.Commit]: what has come while the previous group was being committed becomes the next one, in one transaction with
// one fsync, and each caller is then answered for itself. A caller therefore knows one of three things: kept (nil), not
// kept (an error), or not known (ErrOutcomeUnknown, when the connection broke at COMMIT).
//
// Numbers come from one row, the line, which stays locked until the transaction ends. So they have no gaps and become
// visible in order, on any number of replicas, and "greater than the last one I saw" is safe for queues and for the
// audit tree, whose size and right edge live in that row too.
//
// SQL is written once, in the portable subset with $1 placeholders; where the engines differ, a room keeps two files or
// asks [DB.Engine] and says why. Times are UTC, cut to microseconds, which is what both engines give back unchanged.
//
// SQLite runs in WAL mode with synchronous=FULL: one writer, several readers, a write-ahead log that is reused and not
// truncated (an fdatasync over bytes that already exist is about twice as fast as one that grows the file).
package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Engine says which database this is.
type Engine uint8

// The two engines.
const (
	SQLite Engine = iota + 1
	PostgreSQL
)

// String returns the engine's name as users read it.
func (e Engine) String() string {
	switch e {
	case SQLite:
		return "SQLite"
	case PostgreSQL:
		return "PostgreSQL"
	}
	return "unknown database"
}

// Errors that a caller branches on.
var (
	// ErrOutcomeUnknown: COMMIT was sent and no answer came. Look the record up by its id before saying anything about it.
	ErrOutcomeUnknown = errors.New("the database did not say whether it kept the transaction")
	// ErrStopped: an fsync failed earlier, or the database is closed. Nothing more is written by this process.
	ErrStopped = errors.New("the database takes no more writes in this process")
	// ErrFull: the disk has no room. Nothing of the transaction was kept.
	ErrFull = errors.New("the disk of the database is full")
	// ErrUnavailable: the server cannot be reached, or the disk answers with errors. Nothing of the transaction was kept.
	ErrUnavailable = errors.New("the database is not available")
	// ErrNoRows: a QueryRow found nothing.
	ErrNoRows = errors.New("no such row")
	// ErrNotMigrated: tables are missing or old, and this role may not make them. Who owns them must.
	ErrNotMigrated = errors.New("the database lacks tables or changes of them, and this role may not make any")
	// ErrInUse: another process holds this SQLite database.
	ErrInUse = errors.New("another process runs on this database")
)

// Stage is a moment of a group commit at which a test can make it fail.
type Stage uint8

// The stages that Config.Fault is asked at.
const (
	BeforeCommit Stage = iota + 1 // everything written, nothing committed: an error here is a failure that kept nothing
	AfterCommit                   // committed: an error here is a lost answer, so the outcome is unknown
)

// Config says which database to open and what it may use.
type Config struct {
	URL  string           // sqlite:PATH or postgres://...
	Now  func() time.Time // also the time inside a transaction
	Rand io.Reader        // for identifiers; crypto/rand.Reader outside tests
	Log  *slog.Logger

	// Stopped is called once, from the committing goroutine, after a failed fsync: the process must end, because
	// Linux may report the next fsync as good although the pages of the failed one never reached the disk.
	Stopped func(error)
	// Fault lets tests fail a commit at a stage. Nil outside tests.
	Fault func(Stage) error
	// VFS names a registered file layer for SQLite: tests record and break writes with it. Empty outside tests.
	VFS string
	// Readers bounds parallel reads. Default 4.
	Readers int
}

// A DB is an open database. Its methods may be called from any goroutine.
type DB struct {
	cfg   Config
	store store
	group group

	org atomic.Int64 // see Confine; 0: not yet

	mu      sync.Mutex
	stopped error // set once; guarded by mu
}

// store is what the two engines do differently.
type store interface {
	engine() Engine
	// write runs one transaction with the line locked. A nil return means committed.
	write(ctx context.Context, tx *Tx, fn func() error) error
	read(ctx context.Context, tx *Tx, fn func() error) error
	migrate(ctx context.Context, ms []migration, now time.Time) error
	backup(ctx context.Context, look func(*Tx, int64) error, w io.Writer) error
	close() error
}

// Open opens the database and makes the tables that this package needs itself. It starts no work of its own except,
// on SQLite, the checkpointer, which Close stops.
func Open(ctx context.Context, c Config) (*DB, error) {
	var missing []string
	if c.Now == nil {
		missing = append(missing, "Now")
	}
	if c.Rand == nil {
		missing = append(missing, "Rand")
	}
	if c.Log == nil {
		missing = append(missing, "Log")
	}
	if missing != nil {
		return nil, fmt.Errorf("open database: Config without %s", strings.Join(missing, ", "))
	}
	if c.Readers <= 0 {
		c.Readers = 4
	}
	d := &DB{cfg: c}
	d.group.db = d
	var err error
	switch scheme, rest, _ := strings.Cut(c.URL, ":"); scheme {
	case "sqlite":
		d.store, err = openSQLite(ctx, d, rest)
	case "postgres", "postgresql":
		d.store, err = openPostgres(ctx, d, c.URL)
	default:
		return nil, errors.New(`open database: the address must begin with "sqlite:" or "postgres://"`)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s database: %w", engineOf(c.URL), err)
	}
	if err := d.Migrate(ctx, "db", schema); err != nil {
		d.store.close()
		return nil, err
	}
	return d, nil
}

func engineOf(url string) Engine {
	if strings.HasPrefix(url, "sqlite:") {
		return SQLite
	}
	return PostgreSQL
}

// Engine says which engine stands behind the door.
func (d *DB) Engine() Engine { return d.store.engine() }

// Now is the clock of the database's owner, in UTC and microseconds.
func (d *DB) Now() time.Time { return d.cfg.Now().UTC().Truncate(time.Microsecond) }

// NewID makes an identifier: UUID version 7 of this clock and this source of randomness.
func (d *DB) NewID() ID { return NewID(d.cfg.Now(), d.cfg.Rand) }

// Confine keeps every later transaction to the rows of one organisation. On PostgreSQL the server holds it to that, by the row
// policies of the tables that have them (unless the role owns the tables or is a superuser: see [Examine]), and gives new rows of
// those tables to the organisation. Before it, and on a connection of anybody else, such tables look empty. On SQLite, where one
// process has the file for itself, it does nothing. A second organisation is an error: a group's transaction serves one.
func (d *DB) Confine(organisation int64) error {
	if organisation <= 0 {
		return fmt.Errorf("confine the database: %d is no organisation", organisation)
	}
	if !d.org.CompareAndSwap(0, organisation) && d.org.Load() != organisation {
		return errors.New("confine the database: it serves another organisation already")
	}
	return nil
}

// Read runs fn on one consistent snapshot. It may write nothing.
func (d *DB) Read(ctx context.Context, fn func(*Tx) error) error {
	tx := &Tx{db: d, ctx: ctx, now: d.Now(), readOnly: true}
	return d.store.read(ctx, tx, func() error { return fn(tx) })
}

// stop remembers that nothing may be written any more, and says so once.
func (d *DB) stop(err error) {
	d.mu.Lock()
	first := d.stopped == nil
	if first {
		d.stopped = err
	}
	d.mu.Unlock()
	if first && d.cfg.Stopped != nil {
		d.cfg.Stopped(err)
	}
}

// Err returns why nothing more is written, or nil while all is well.
func (d *DB) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stopped
}

// Close waits for the group under way and closes. Later calls return ErrStopped.
func (d *DB) Close() error {
	d.group.drain()
	d.mu.Lock()
	if d.stopped == nil {
		d.stopped = ErrStopped
	}
	d.mu.Unlock()
	return d.store.close()
}
