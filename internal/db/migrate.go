package db

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"
)

//go:embed schema/*.sql
var schema embed.FS

// migration is one file of a room's schema.
type migration struct {
	room, name, sql, sum string
}

// Migrate brings a room's tables up to date. files holds schema/NNNN_name.sql for both engines, or
// schema/NNNN_name.sqlite.sql and schema/NNNN_name.postgres.sql where they differ. They run in the order of their names,
// each once, forward only, under a lock that keeps other replicas waiting. A file that has run may not change: if it did,
// the program and the database are not of one kind, and Migrate refuses. Where all have run nothing is asked of the role but to
// read; where it may not make tables and some are missing, the error is ErrNotMigrated.
func (d *DB) Migrate(ctx context.Context, room string, files fs.FS) error {
	names, err := fs.Glob(files, "schema/*.sql")
	if err != nil {
		return err
	}
	sort.Strings(names)
	other := ".postgres.sql"
	if d.Engine() == PostgreSQL {
		other = ".sqlite.sql"
	}
	var ms []migration
	for _, n := range names {
		if strings.HasSuffix(n, other) {
			continue
		}
		b, err := fs.ReadFile(files, n)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		ms = append(ms, migration{room: room, name: path.Base(n), sql: string(b), sum: hex.EncodeToString(sum[:])})
	}
	if len(ms) == 0 {
		return fmt.Errorf("migrate %s: no schema files", room)
	}
	if err := d.store.migrate(ctx, ms, d.Now()); err != nil {
		return fmt.Errorf("migrate %s: %w", room, err)
	}
	return nil
}

const (
	createMigrations = `CREATE TABLE IF NOT EXISTS schema_migration (
		room TEXT NOT NULL, name TEXT NOT NULL, sum TEXT NOT NULL, applied_at BIGINT NOT NULL, PRIMARY KEY (room, name))`
	findMigration   = `SELECT sum FROM schema_migration WHERE room = $1 AND name = $2`
	recordMigration = `INSERT INTO schema_migration (room, name, sum, applied_at) VALUES ($1, $2, $3, $4)`
)

// apply runs what has not run yet, inside the engine's own transaction and lock.
func apply(tx *Tx, ms []migration, now time.Time, script func(sql string) error) error {
	if _, err := tx.Exec(createMigrations); err != nil {
		return err
	}
	todo, err := pending(tx, ms)
	if err != nil {
		return err
	}
	for _, m := range todo {
		if err := script(m.sql); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if _, err := tx.Exec(recordMigration, m.room, m.name, m.sum, now.UnixMicro()); err != nil {
			return err
		}
	}
	return nil
}

// pending is what has not run yet.
func pending(tx *Tx, ms []migration) (todo []migration, err error) {
	for _, m := range ms {
		var sum string
		err := tx.QueryRow(findMigration, []any{m.room, m.name}, &sum)
		switch {
		case errors.Is(err, ErrNoRows):
			todo = append(todo, m)
		case err != nil:
			return nil, err
		case sum != m.sum:
			return nil, fmt.Errorf("%s has run in another form: this database belongs to another build of lazaret", m.name)
		}
	}
	return todo, nil
}

func (s *sqliteStore) migrate(ctx context.Context, ms []migration, now time.Time) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.writer
	tx := &Tx{db: s.db, ctx: ctx, now: now, run: c}
	if err := c.run("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := apply(tx, ms, now, c.c.Exec); err != nil {
		c.run("ROLLBACK")
		return sqliteError(err)
	}
	return s.judge(c.run("COMMIT"))
}

// migrationLock is a number of our own for pg_advisory_xact_lock.
const migrationLock = 0x6c617a61726574

func (s *postgresStore) migrate(ctx context.Context, ms []migration, now time.Time) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return connectError(err)
	}
	defer conn.Release()
	run := &postgresTx{conn: conn.Conn()}
	tx := &Tx{db: s.db, ctx: ctx, now: now, run: run}
	if done, err := s.migrated(tx, ms); done || err != nil {
		return err
	}
	if _, err := run.conn.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	defer run.rollback() // after a commit there is nothing to roll back, which the server notes and forgives
	if _, err := run.conn.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
		return err
	}
	err = apply(tx, ms, now, func(sql string) error {
		_, err := run.conn.PgConn().Exec(ctx, sql).ReadAll()
		return err
	})
	if err != nil {
		return err
	}
	_, err = run.conn.Exec(ctx, "COMMIT")
	return err
}

// migrated says whether all have run. A role that only works in the tables, and may not make them, gets no further.
func (s *postgresStore) migrated(tx *Tx, ms []migration) (bool, error) {
	var begun, may bool
	const look = `SELECT to_regclass('schema_migration') IS NOT NULL, coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)`
	if err := tx.QueryRow(look, nil, &begun, &may); err != nil {
		return false, err
	}
	todo := ms
	if begun {
		var err error
		if todo, err = pending(tx, ms); err != nil {
			return false, err
		}
	}
	if len(todo) > 0 && !may {
		return false, fmt.Errorf("%w: %s", ErrNotMigrated, todo[0].name)
	}
	return len(todo) == 0, nil
}
