package db

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// sqliteStore is one SQLite file: a connection that writes, a few that read, and one that moves the log into the file.
type sqliteStore struct {
	db   *DB
	path string
	lock *os.File // keeps a second process out

	writing sync.Mutex // held for a write transaction; also by the checkpointer for its last step
	writer  *sqliteConn
	readers chan *sqliteConn
	reading int // how many readers there are

	doubtful bool // the log may end in a transaction that was told as failed; guarded by writing

	moving     sync.Mutex    // held while the log is moved into the file, and when a backup makes that stand still; before writing
	checkpoint chan struct{} // wakes the checkpointer
	done       sync.WaitGroup
	endErr     error // the failed fsync of the last checkpoint; read after done
}

// checkpointPages is how long the write-ahead log may grow before it is moved into the file: 32 MiB of 4 KiB pages.
const checkpointPages = 8192

func openSQLite(ctx context.Context, d *DB, path string) (_ *sqliteStore, err error) {
	if path == "" || strings.HasPrefix(path, ":") || strings.ContainsAny(path, "?#") {
		return nil, errors.New(`an SQLite address has the form "sqlite:DIRECTORY/FILE.db"`)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	s := &sqliteStore{db: d, path: path, checkpoint: make(chan struct{}, 1), readers: make(chan *sqliteConn, d.cfg.Readers)}
	if s.lock, err = lockFile(path + ".lock"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.lock.Close()
		}
	}()
	if err := s.recoverFromFailedSync(ctx); err != nil {
		return nil, err
	}
	// The file is made by us, so that no moment exists in which others may read it.
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	} else if err := f.Close(); err != nil {
		return nil, err
	}
	if s.writer, err = s.connect(32 << 10); err != nil {
		return nil, err
	}
	s.writer.c.WALHook(func(_ *sqlite3.Conn, _ string, pages int) error {
		if pages >= checkpointPages {
			select {
			case s.checkpoint <- struct{}{}:
			default:
			}
		}
		return nil
	})
	for range d.cfg.Readers {
		r, err := s.connect(4 << 10)
		if err != nil {
			s.closeConns()
			return nil, err
		}
		s.readers <- r
		s.reading++
	}
	mover, err := s.connect(256)
	if err != nil {
		s.closeConns()
		return nil, err
	}
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		s.runCheckpoints(mover)
	}()
	return s, nil
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (it holds %s); stop it first", ErrInUse, filepath.Base(path))
		}
		return nil, err
	}
	return f, nil
}

// connect opens one more connection with a page cache of so many KiB.
func (s *sqliteStore) connect(cacheKiB int) (*sqliteConn, error) {
	name := "file:" + (&urlPath{s.path}).String()
	name += "?vfs=" + layerOver(s.db.cfg.VFS)
	c, err := sqlite3.OpenFlags(name, sqlite3.OPEN_READWRITE|sqlite3.OPEN_URI|sqlite3.OPEN_NOFOLLOW)
	if err != nil {
		return nil, sqliteError(err)
	}
	// synchronous=FULL: a commit returns after fdatasync of the log. The log is moved by the checkpointer only, and
	// never truncated. trusted_schema=off: nothing in a tampered schema runs code.
	pragmas := fmt.Sprintf(`PRAGMA busy_timeout = 10000; PRAGMA journal_mode = wal; PRAGMA synchronous = full;
		PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = -1; PRAGMA temp_store = memory;
		PRAGMA trusted_schema = off; PRAGMA cell_size_check = on; PRAGMA cache_size = -%d`, cacheKiB)
	if err := c.Exec(pragmas); err != nil {
		c.Close()
		return nil, sqliteError(err)
	}
	return &sqliteConn{c: c, stmts: map[string]*sqlite3.Stmt{}}, nil
}

// urlPath escapes what an SQLite URI would read as something else.
type urlPath struct{ path string }

func (p *urlPath) String() string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(p.path)
}

func (s *sqliteStore) engine() Engine { return SQLite }

func (s *sqliteStore) write(ctx context.Context, tx *Tx, fn func() error) (err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.writer
	tx.run = c
	defer func() {
		if err != nil {
			err = s.judge(err)
		}
		if !c.c.GetAutocommit() {
			if rollback := c.run("ROLLBACK"); rollback != nil {
				s.db.cfg.Log.Error("rollback", "error", rollback)
			}
		}
	}()
	if s.doubtful {
		if err := s.overwriteTail(); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	if err := c.run("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	line, err := tx.Line()
	if err != nil {
		return err
	}
	tx.lineWas = *line
	if err := fn(); err != nil {
		return err
	}
	if fault := s.db.cfg.Fault; fault != nil {
		if err := fault(BeforeCommit); err != nil {
			return err
		}
	}
	if err := c.run("COMMIT"); err != nil {
		return s.afterFailedCommit(err)
	}
	if fault := s.db.cfg.Fault; fault != nil {
		if err := fault(AfterCommit); err != nil {
			return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
	}
	return nil
}

// afterFailedCommit makes an error of COMMIT mean what it says. An operation that failed may have taken effect all the same:
// then the log ends in a whole transaction that this process takes for undone, and that the next one would find and keep,
// unless something is written over it. Until that is done, nobody may be told that the transaction was not kept.
func (s *sqliteStore) afterFailedCommit(err error) error {
	if errors.Is(sqliteError(err), ErrFull) || errors.Is(err, sqlite3.BUSY) || failedSync(err) {
		return err // the last page was not written; or the process ends
	}
	s.doubtful = true
	if again := s.overwriteTail(); again != nil {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, errors.Join(err, s.judge(again)))
	}
	return err
}

// overwriteTail commits a change of nothing, at the place in the log where the failed transaction began.
func (s *sqliteStore) overwriteTail() error {
	c := s.writer
	if !c.c.GetAutocommit() {
		if err := c.run("ROLLBACK"); err != nil {
			return err
		}
	}
	// The value must differ from the one before, or nothing is written.
	stmt, _, err := c.c.Prepare("PRAGMA user_version")
	if err != nil {
		return err
	}
	stmt.Step()
	n := stmt.ColumnInt64(0)
	if err := stmt.Close(); err != nil {
		return err
	}
	if err := c.c.Exec(fmt.Sprintf("PRAGMA user_version = %d", (n+1)&0x7fffffff)); err != nil {
		return err
	}
	s.doubtful = false
	return nil
}

func failedSync(err error) bool {
	return errors.Is(err, sqlite3.IOERR_FSYNC) || errors.Is(err, sqlite3.IOERR_DIR_FSYNC)
}

// judge decides what a failed write means for the process.
func (s *sqliteStore) judge(err error) error {
	err = sqliteError(err)
	if failedSync(err) {
		s.markFailedSync()
		s.db.stop(err)
		return fmt.Errorf("%w: %w", ErrStopped, err)
	}
	if errors.Is(err, sqlite3.IOERR) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func sqliteError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sqlite3.FULL), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

func (s *sqliteStore) read(ctx context.Context, tx *Tx, fn func() error) error {
	var c *sqliteConn
	select {
	case c = <-s.readers:
	case <-ctx.Done():
		return ctx.Err()
	}
	if c == nil {
		return ErrStopped
	}
	defer func() { s.readers <- c }()
	if s.isClosed() {
		return ErrStopped
	}
	old := c.c.SetInterrupt(ctx)
	defer c.c.SetInterrupt(old)
	tx.run = c
	if err := c.run("BEGIN"); err != nil {
		return err
	}
	err := fn()
	c.c.SetInterrupt(context.Background())
	if end := c.run("COMMIT"); err == nil {
		err = end
	}
	if err != nil && !c.c.GetAutocommit() {
		c.run("ROLLBACK")
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (s *sqliteStore) isClosed() bool { return errors.Is(s.db.Err(), ErrStopped) }

// runCheckpoints moves the log into the file, mostly beside the writer. Only the last few pages are moved while the
// writer waits: with all of it moved and nobody reading the log, the next transaction starts at its beginning again.
func (s *sqliteStore) runCheckpoints(c *sqliteConn) {
	defer c.close()
	defer s.lastCheckpoint(c)
	for range s.checkpoint {
		for range 4 {
			s.moving.Lock()
			inLog, moved, err := c.c.WALCheckpoint("main", sqlite3.CHECKPOINT_PASSIVE)
			s.moving.Unlock()
			if err != nil {
				s.checkpointFailed(err)
				break
			}
			if inLog-moved < checkpointPages/16 {
				break
			}
		}
		s.moving.Lock()
		s.writing.Lock()
		_, _, err := c.c.WALCheckpoint("main", sqlite3.CHECKPOINT_PASSIVE)
		s.writing.Unlock()
		s.moving.Unlock()
		if err != nil {
			s.checkpointFailed(err)
		}
		runtime.Gosched()
	}
}

// lastCheckpoint leaves nothing for SQLite to move when it closes, for it tells nobody of a failed fsync then.
func (s *sqliteStore) lastCheckpoint(c *sqliteConn) {
	if failedSync(s.db.Err()) {
		return
	}
	s.moving.Lock()
	defer s.moving.Unlock()
	if _, _, err := c.c.WALCheckpoint("main", sqlite3.CHECKPOINT_PASSIVE); err != nil {
		s.checkpointFailed(err)
		if failedSync(err) { // anything else does no harm: the log stays
			s.endErr = fmt.Errorf("move the write-ahead log into the database file: %w", err)
		}
	}
}

func (s *sqliteStore) checkpointFailed(err error) {
	if errors.Is(err, sqlite3.BUSY) || errors.Is(err, sqlite3.LOCKED) {
		return // a reader or the writer was in the way; the next group wakes us again
	}
	s.db.cfg.Log.Error("moving the write-ahead log into the database file", "error", s.judge(err))
}

func (s *sqliteStore) close() error {
	if s.checkpoint == nil {
		return nil
	}
	s.writing.Lock()
	s.writer.c.WALHook(nil)
	s.writing.Unlock()
	close(s.checkpoint)
	s.done.Wait()
	s.checkpoint = nil
	err := errors.Join(s.endErr, s.closeConns())
	if e := s.lock.Close(); err == nil {
		err = e
	}
	return err
}

func (s *sqliteStore) closeConns() error {
	var errs []error
	for range s.reading {
		errs = append(errs, (<-s.readers).close()) // waits for a read that is under way
	}
	close(s.readers)
	return errors.Join(append(errs, s.writer.close())...)
}

// sqliteConn is one connection with its prepared statements.
type sqliteConn struct {
	c     *sqlite3.Conn
	stmts map[string]*sqlite3.Stmt
}

func (c *sqliteConn) close() error {
	for _, s := range c.stmts {
		s.Close()
	}
	return c.c.Close()
}

// dollar finds our placeholders. SQLite would take $1 for a name and number it by its first appearance.
var dollar = regexp.MustCompile(`\$(\d+)`)

// prepare returns a statement that is not in use, and whether the cache owns it.
func (c *sqliteConn) prepare(sql string) (*sqlite3.Stmt, bool, error) {
	s, ok := c.stmts[sql]
	if ok && !s.Busy() {
		return s, true, nil
	}
	s, rest, err := c.c.Prepare(dollar.ReplaceAllString(sql, "?$1"))
	if err != nil {
		return nil, false, err
	}
	if strings.TrimSpace(rest) != "" {
		s.Close()
		return nil, false, errors.New("more than one statement")
	}
	if !ok {
		c.stmts[sql] = s
	}
	return s, !ok, nil
}

func (c *sqliteConn) run(sql string) error {
	_, err := c.exec(context.Background(), sql, nil)
	return err
}

func (c *sqliteConn) exec(_ context.Context, sql string, args []any) (int64, error) {
	s, cached, err := c.prepare(sql)
	if err != nil {
		return 0, err
	}
	if err := bindAll(s, args); err != nil {
		return 0, err
	}
	for s.Step() {
	}
	err = s.Err()
	n := c.c.Changes()
	if reset := s.Reset(); err == nil {
		err = reset
	}
	if !cached {
		s.Close()
	}
	return n, err
}

func (c *sqliteConn) query(_ context.Context, sql string, args []any) (*Rows, error) {
	s, cached, err := c.prepare(sql)
	if err != nil {
		return nil, err
	}
	if err := bindAll(s, args); err != nil {
		return nil, err
	}
	var failed error
	open := true
	return &Rows{
		next: func() bool {
			if !open {
				return false
			}
			if s.Step() {
				return true
			}
			failed = s.Err()
			return false
		},
		scan: func(dest []any) error { return scanSQLite(s, dest) },
		err:  func() error { return failed },
		close: func() {
			if !open {
				return
			}
			open = false
			if cached {
				s.Reset()
				return
			}
			s.Close()
		},
	}, nil
}

func (c *sqliteConn) insert(_ *Tx, t *Table, values []any) error {
	_, err := c.exec(context.Background(), t.insertSQL(), values)
	return err
}

func (c *sqliteConn) execLater(tx *Tx, l later) error {
	n, err := c.exec(tx.ctx, l.sql, l.args)
	if err != nil {
		return err
	}
	if l.want >= 0 && n != l.want {
		return l.or
	}
	return nil
}

func (c *sqliteConn) flush(ctx context.Context, tx *Tx) error {
	if !tx.lineChanged() {
		return nil
	}
	_, err := c.exec(ctx, updateLine, tx.lineArgs())
	return err
}

func bindAll(s *sqlite3.Stmt, args []any) error {
	if n := s.BindCount(); n != len(args) {
		return fmt.Errorf("%d values for %d placeholders", len(args), n)
	}
	for i, a := range args {
		if err := bind(s, i+1, a); err != nil {
			return err
		}
	}
	return nil
}

func bind(s *sqlite3.Stmt, i int, a any) error {
	switch v := a.(type) {
	case nil:
		return s.BindNull(i)
	case int64:
		return s.BindInt64(i, v)
	case int:
		return s.BindInt64(i, int64(v))
	case bool:
		return s.BindBool(i, v)
	case string:
		return s.BindText(i, v)
	case []byte:
		if v == nil {
			return s.BindNull(i)
		}
		return s.BindBlob(i, v)
	case ID:
		return s.BindBlob(i, v[:])
	case time.Time:
		return s.BindInt64(i, v.UnixMicro())
	}
	return fmt.Errorf("a value of type %T has no place in the database", a)
}

func scanSQLite(s *sqlite3.Stmt, dest []any) error {
	if n := s.ColumnCount(); n != len(dest) {
		return fmt.Errorf("%d columns into %d values", n, len(dest))
	}
	for i, d := range dest {
		null := s.ColumnType(i) == sqlite3.NULL
		switch v := d.(type) {
		case *int64:
			*v = s.ColumnInt64(i)
		case *int:
			*v = s.ColumnInt(i)
		case *bool:
			*v = s.ColumnBool(i)
		case *string:
			*v = s.ColumnText(i)
		case *[]byte:
			if *v = nil; !null {
				*v = s.ColumnBlob(i, []byte{})
			}
		case *ID:
			if *v = (ID{}); !null {
				if b := s.ColumnRawBlob(i); copy(v[:], b) != len(v) || len(b) != len(v) {
					return fmt.Errorf("column %d holds no id", i+1)
				}
			}
		case *time.Time:
			if *v = (time.Time{}); !null {
				*v = time.UnixMicro(s.ColumnInt64(i)).UTC()
			}
		default:
			return fmt.Errorf("nothing can be read into a %T", d)
		}
	}
	return s.Err()
}
