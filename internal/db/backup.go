package db

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/ncruces/go-sqlite3"
)

// ErrTool: pg_dump or pg_restore is not there, or is older than the server.
var ErrTool = errors.New("PostgreSQL's own program for this is missing or too old")

// Backup writes one consistent state of the database to w, while others read and write. look sees that same state before
// the first byte; size is how many bytes will come, exact on SQLite, and on PostgreSQL about how many.
//
// On SQLite w gets the database file itself; on PostgreSQL what pg_dump --format=custom writes, uncompressed. On SQLite the
// write-ahead log grows while w is written to, because it cannot be moved into the file until the copy is done.
func (d *DB) Backup(ctx context.Context, look func(tx *Tx, size int64) error, w io.Writer) error {
	if err := d.Err(); err != nil {
		return err
	}
	if err := d.store.backup(ctx, look, w); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("copy the database: %w", err)
	}
	return nil
}

// A Migration is one that has run.
type Migration struct {
	Room string `json:"room"`
	Name string `json:"name"`
	Sum  string `json:"sum"` // SHA-256 of its text
}

// Migrations lists what has run, by room and name.
func (tx *Tx) Migrations() (list []Migration, err error) {
	rows, err := tx.Query(`SELECT room, name, sum FROM schema_migration ORDER BY room, name`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var m Migration
		if err := rows.Scan(&m.Room, &m.Name, &m.Sum); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, rows.Err()
}

// copyBlock is how much of a file is copied at once.
const copyBlock = 1 << 20

// backup copies the file. It relies on one rule of SQLite's write-ahead log: a transaction that begins to read when all of
// the log is in the file reads the file alone, and until it ends nobody may move pages into the file (it holds read mark 0,
// which a checkpoint must have for itself). So the file stands still, and plain reads see one state, at the disk's speed.
func (s *sqliteStore) backup(ctx context.Context, look func(*Tx, int64) error, w io.Writer) (err error) {
	reader, err := s.connect(4 << 10)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.close()) }()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		still, err := s.standStill(reader)
		if err != nil {
			return err
		}
		if still {
			break
		}
		select { // somebody still reads an older state
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	defer reader.run("ROLLBACK")
	tx := &Tx{db: s.db, ctx: ctx, now: s.db.Now(), readOnly: true, run: reader}
	var size, pageSize int64
	if err := tx.QueryRow("PRAGMA page_count", nil, &size); err != nil {
		return err
	}
	if err := tx.QueryRow("PRAGMA page_size", nil, &pageSize); err != nil {
		return err
	}
	size *= pageSize
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return err
	}
	if before.Size() < size {
		return errors.New("the database file is shorter than its header says")
	}
	if err := look(tx, size); err != nil {
		return err
	}
	buf := make([]byte, copyBlock)
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(copyBlock, size-at)]
		if _, err := io.ReadFull(f, part); err != nil {
			return fmt.Errorf("read the database file at byte %d: %w", at, err)
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
		at += int64(len(part))
	}
	// Should the rule above ever not hold, the copy is refused and not merely wrong.
	after, err := f.Stat()
	if err != nil {
		return err
	}
	if !after.ModTime().Equal(before.ModTime()) {
		return errors.New("the database file was changed while it was copied; nothing of the copy may be used")
	}
	return nil
}

// standStill moves all of the log into the file and begins to read it on c. false: another reader keeps part of the log.
func (s *sqliteStore) standStill(c *sqliteConn) (bool, error) {
	s.moving.Lock()
	defer s.moving.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.isClosed() {
		return false, ErrStopped
	}
	inLog, moved, err := c.c.WALCheckpoint("main", sqlite3.CHECKPOINT_PASSIVE)
	if errors.Is(err, sqlite3.BUSY) || errors.Is(err, sqlite3.LOCKED) {
		return false, nil
	}
	if err != nil {
		return false, s.judge(err)
	}
	if inLog != moved {
		return false, nil
	}
	if err := c.run("BEGIN"); err != nil {
		return false, err
	}
	var one int64
	tx := &Tx{db: s.db, ctx: context.Background(), run: c, readOnly: true}
	if err := tx.QueryRow("SELECT COUNT(*) FROM sqlite_schema", nil, &one); err != nil {
		c.run("ROLLBACK")
		return false, err
	}
	return true, nil
}

// backup has pg_dump write the state that a transaction of ours sees too.
func (s *postgresStore) backup(ctx context.Context, look func(*Tx, int64) error, w io.Writer) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return connectError(err)
	}
	defer conn.Release()
	run := &postgresTx{conn: conn.Conn()}
	if err := checkTool(ctx, "pg_dump", run.conn); err != nil {
		return err
	}
	if _, err := run.conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return connectError(err)
	}
	defer run.rollback()
	if _, err := run.conn.Exec(ctx, setOrganisation, everyOrganisation); err != nil {
		return connectError(err)
	}
	var snapshot string
	var size int64
	const export = `SELECT pg_export_snapshot(), pg_database_size(current_database())`
	if err := run.conn.QueryRow(ctx, export).Scan(&snapshot, &size); err != nil {
		return connectError(err)
	}
	tx := &Tx{db: s.db, ctx: ctx, now: s.db.Now(), readOnly: true, run: run}
	if err := look(tx, size); err != nil {
		return err
	}
	a, err := parseAddress(s.db.cfg.URL)
	if err != nil {
		return err
	}
	// Under a role that the row policies bind, a dump of no organisation would look like a dump of all. By the address: its options,
	// where it has any, would overrule PGOPTIONS.
	q := a.url.Query()
	q.Set("options", strings.TrimSpace(q.Get("options")+" -c lazaret.organisation="+everyOrganisation))
	a.setQuery(q)
	cmd := a.command(ctx, "pg_dump", a.database, "--format=custom", "--compress=0", "--no-password", "--snapshot="+snapshot, "--enable-row-security")
	out := &writer{w: w}
	cmd.Stdout = out
	said := &tail{}
	cmd.Stderr = said
	err = cmd.Run()
	if out.err != nil {
		return out.err // pg_dump saw its pipe break, which is only the consequence
	}
	if err != nil {
		return fmt.Errorf("pg_dump: %w%s", err, said)
	}
	return nil
}

// writer keeps the first error of the real writer, for exec reports only that the program ended.
type writer struct {
	w   io.Writer
	err error
}

func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.w.Write(p)
	w.err = err
	return n, err
}

// tail keeps the last of what a program says about itself: names of tables and settings, never rows.
type tail struct{ b bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	if t.b.Len() < 4<<10 {
		t.b.Write(p[:min(len(p), 4<<10)])
	}
	return len(p), nil
}

func (t *tail) String() string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(t.b.Bytes()), []byte("\n"))
	if len(line) == 0 {
		return ""
	}
	return " (" + string(line[:min(len(line), 300)]) + ")"
}

var toolVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// checkTool: a pg_dump older than its server refuses, or worse, does not know what it leaves out.
func checkTool(ctx context.Context, name string, conn *pgx.Conn) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("%w: %s is not in PATH; install PostgreSQL's client programs", ErrTool, name)
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	m := toolVersion.FindSubmatch(out)
	if err != nil || m == nil {
		return fmt.Errorf("%w: %s --version does not say what it is", ErrTool, name)
	}
	have, _ := strconv.Atoi(string(m[1]))
	var number int
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&number); err != nil {
		return connectError(err)
	}
	if want := number / 10000; have < want {
		return fmt.Errorf("%w: %s is of version %d and the server of %d; install the client programs of version %d or later",
			ErrTool, name, have, want, want)
	}
	return nil
}
