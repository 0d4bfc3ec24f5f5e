package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/retention"
)

// walled are the tables whose rows PostgreSQL shows to their organisation alone.
var walled = []string{"message", "content", "delivery", "attempt", "token_recent", "token_bucket", "token_run", "legal_hold"}

// unwalled have a column organisation and no policy, each for a reason.
var unwalled = map[string]string{
	"audit_log":        "one tree over all organisations: who verifies it must hash every entry",
	"audit_detail":     "sealed under its organisation's keys, and hashed by audit_log",
	"channel":          "names and numbers, needed to find out which organisation a queue is of",
	"reseal":           "how far the work is",
	"disposal":         "how far the work is",
	"message_disposal": "how far the work is",
	"retention_state":  "how far the work is",
}

func split(t *testing.T) dbtest.Split {
	t.Helper()
	if os.Getenv(dbtest.Variable) == "" {
		t.Skip("no " + dbtest.Variable + `: the suite "postgres" runs this`)
	}
	s := dbtest.Roles(t)
	s.Migrate(t, audit.Migrate, engine.Migrate, retention.Migrate)
	return s
}

// psql is a person at a prompt.
type psql struct {
	t    *testing.T
	conn *pgx.Conn
}

func prompt(t *testing.T, address string) *psql {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return &psql{t, conn}
}

func (p *psql) exec(sql string, args ...any) (int64, error) {
	tag, err := p.conn.Exec(p.t.Context(), sql, args...)
	return tag.RowsAffected(), err
}

func (p *psql) must(sql string, args ...any) int64 {
	p.t.Helper()
	n, err := p.exec(sql, args...)
	if err != nil {
		p.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func (p *psql) refused(sql string) {
	p.t.Helper()
	var pg *pgconn.PgError
	if _, err := p.exec(sql); !errors.As(err, &pg) || pg.Code != "42501" {
		p.t.Errorf("%s: %v, want insufficient privilege (42501)", sql, err)
	}
}

func (p *psql) texts(sql string, args ...any) []string {
	p.t.Helper()
	rows, err := p.conn.Query(p.t.Context(), sql, args...)
	if err != nil {
		p.t.Fatalf("%s: %v", sql, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		p.t.Fatalf("%s: %v", sql, err)
	}
	return list
}

// organisations are those whose rows of a table can be seen.
func (p *psql) organisations(table string) string {
	p.t.Helper()
	return strings.Join(p.texts("SELECT DISTINCT organisation::text FROM "+table+" ORDER BY 1"), " ")
}

// twoOrganisations gives north (1) and south (2) rows in every walled table, through engines with the service's role.
func twoOrganisations(t *testing.T, s dbtest.Split) {
	t.Helper()
	keys := t.TempDir()
	for i, org := range []string{"north", "south"} {
		d, w := newDoor(), newWard()
		step := func(c *engine.Destination) { c.Steps = steps(t, "PV1-3", "W9") }
		h := startWith(t, s.App, keys, channel(d, nil, destination("lab", w, step)), func(_ *db.Config, e *engine.Config) {
			e.Organisation = org
			e.SmallBuckets(8)
		})
		for n := range 12 {
			d.mustSend(t, adt(fmt.Sprintf("C%d", n), fmt.Sprintf("P%d", n)))
		}
		w.wait(t, 12)
		h.settled(t)
		for deadline := time.Now().Add(10 * time.Second); h.buckets() == 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no bucket was made")
			}
		}
		h.verify()
		h.stop()
		owner := prompt(t, s.Owner)
		owner.must(`INSERT INTO token_recent VALUES ($1, 999, '')`, i+1)
		owner.must(`INSERT INTO legal_hold (id, organisation, channel, from_at, until_at, patient, sealed, added_at, added_by)
			VALUES (gen_random_uuid(), $1, 'adt', 0, 0, '', '', 0, 'invented')`, i+1)
	}
}

// TestPostgreSQLWallsOffOrganisations: with the service's role and whatever SQL, by a mistake of ours or an injection into one
// statement: a transaction that stands for one organisation reads, changes, adds and moves nothing of another's.
func TestPostgreSQLWallsOffOrganisations(t *testing.T) {
	s := split(t)
	twoOrganisations(t, s)
	app := prompt(t, s.App)
	for _, table := range walled {
		app.must("RESET lazaret.organisation")
		if got := app.organisations(table); got != "" {
			t.Errorf("%s: who stands for nobody sees rows of %s", table, got)
		}
		for org, other := range map[string]string{"1": "2", "2": "1"} {
			app.must("SELECT set_config('lazaret.organisation', $1, false)", org)
			if got := app.organisations(table); got != org {
				t.Errorf("%s: organisation %s sees rows of %q", table, org, got)
			}
			if table != "token_bucket" && table != "token_run" { // of which nothing may be changed at all
				if n := app.must("UPDATE " + table + " SET organisation = organisation WHERE organisation = " + other); n != 0 {
					t.Errorf("%s: organisation %s changed %d rows of %s", table, org, n, other)
				}
				app.refused("UPDATE " + table + " SET organisation = " + other)
			}
			if table != "legal_hold" {
				if n := app.must("DELETE FROM " + table + " WHERE organisation = " + other); n != 0 {
					t.Errorf("%s: organisation %s deleted %d rows of %s", table, org, n, other)
				}
			}
			app.refused("INSERT INTO " + table + " (organisation) VALUES (" + other + ")")
		}
		app.must("SELECT set_config('lazaret.organisation', '0', false)")
		if got := app.organisations(table); got != "1 2" {
			t.Errorf("%s: a backup sees rows of %q, want 1 2", table, got)
		}
	}
	app.must("RESET lazaret.organisation")
	if _, err := app.exec("INSERT INTO content (number, sealed) VALUES (1000, '')"); err == nil {
		t.Error("content was kept that belongs to nobody")
	}
	app.must("BEGIN")
	app.must("SELECT set_config('lazaret.organisation', '1', true)")
	app.must("COMMIT")
	if got := app.organisations("message"); got != "" {
		t.Errorf("after the transaction its organisation's rows (%s) are still seen", got)
	}
	// What docs/threat-model.md says of the owner is so.
	if got := prompt(t, s.Owner).organisations("message"); got != "1 2" {
		t.Errorf("the owner of the tables sees %q", got)
	}
	tables := prompt(t, s.Owner).texts(`SELECT c.table_name FROM information_schema.columns c JOIN pg_class k ON k.relname = c.table_name
		WHERE c.table_schema = 'public' AND c.column_name = 'organisation' AND NOT k.relrowsecurity ORDER BY 1`)
	if want := slices.Sorted(maps.Keys(unwalled)); !slices.Equal(tables, want) {
		t.Errorf("tables with an organisation and no policy: %q, want %q; give a new one a policy, or its reason here", tables, want)
	}
}

// TestRolesMayDoWhatTheyNeedAndNoMore holds docs/sql/grants.sql to this table: S, I, U, D for select, insert, update, delete.
func TestRolesMayDoWhatTheyNeedAndNoMore(t *testing.T) {
	s := split(t)
	const grants = `SELECT table_name || ' ' || string_agg(CASE privilege_type WHEN 'SELECT' THEN 'S' WHEN 'INSERT' THEN 'I' WHEN 'UPDATE' THEN 'U'
		WHEN 'DELETE' THEN 'D' ELSE ' ' || privilege_type END, '' ORDER BY strpos('SIUD', left(privilege_type, 1)))
		FROM information_schema.role_table_grants WHERE grantee = $1 AND table_schema = 'public' GROUP BY table_name ORDER BY table_name`
	admin := prompt(t, s.Admin)
	for role, want := range map[string][]string{
		"lazaret_app": {"attempt SIUD", "audit_detail SID", "audit_log SI", "audit_tile SI", "channel SIU", "channel_revision SI", "content SIUD", "delivery SIUD",
			"disposal SIU", "legal_hold SIU", "line SU", "message SIUD", "message_disposal SI", "organisation SI", "queue SIU", "rejected_usage SIUD", "reseal SIUD",
			"retention_state SIU", "schema_migration S", "token_bucket SID", "token_recent SIUD", "token_run SID"},
		"lazaret_auditor": {"audit_detail S", "audit_log S", "audit_tile S", "line S", "schema_migration S"},
		"PUBLIC":          nil,
	} {
		got := admin.texts(grants, role)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", role, got, want)
		}
	}
	tables := admin.texts("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
	if app := admin.texts(grants, "lazaret_app"); len(tables) != len(app) {
		t.Errorf("%d tables, of which docs/sql/grants.sql names %d: %q", len(tables), len(app), tables)
	}

	app, auditor := prompt(t, s.App), prompt(t, s.Auditor)
	for _, sql := range []string{
		"UPDATE audit_log SET result = 'success'", "DELETE FROM audit_log", "TRUNCATE audit_log", "ALTER TABLE audit_log DISABLE TRIGGER ALL",
		"DROP TRIGGER audit_log_append_only ON audit_log", "UPDATE audit_tile SET root = ''", "DELETE FROM audit_tile", "UPDATE audit_detail SET sealed = ''",
		"ALTER TABLE message DISABLE ROW LEVEL SECURITY", "DROP POLICY organisation ON message", "CREATE POLICY open ON message USING (true)",
		"CREATE TABLE mine (a INT)", "CREATE TEMPORARY TABLE mine (a INT)", "CREATE FUNCTION f() RETURNS INT LANGUAGE sql AS 'SELECT 1'", "DROP TABLE message",
		"SET ROLE lazaret_owner", "SET ROLE lazaret_auditor", "ALTER SYSTEM SET fsync = off", "SET session_replication_role = replica",
		"COPY message TO PROGRAM 'cat'", "SELECT pg_read_file('postgresql.conf')", "UPDATE schema_migration SET sum = ''", "DELETE FROM line",
	} {
		app.refused(sql)
	}
	for _, table := range append(slices.Clone(walled), "channel", "queue", "organisation", "channel_revision", "disposal", "rejected_usage") {
		auditor.refused("SELECT * FROM " + table)
	}
	for _, sql := range []string{"INSERT INTO audit_log DEFAULT VALUES", "DELETE FROM audit_detail", "UPDATE line SET next = 1", "CREATE TABLE mine (a INT)", "SET ROLE lazaret_app"} {
		auditor.refused(sql)
	}
	auditor.must("SELECT count(*) FROM audit_log")
}

// TestTheAuditorVerifiesTheLog: the role that sees nothing but the record recomputes all of it.
func TestTheAuditorVerifiesTheLog(t *testing.T) {
	s := split(t)
	twoOrganisations(t, s)
	d := dbtest.Open(t, dbtest.Config(t, s.Auditor))
	log, err := audit.New(t.Context(), audit.Config{DB: d, Keys: openRing(t, t.TempDir()), Rand: bytes.NewReader(nil)})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Read(t.Context(), func(tx *db.Tx) error {
		line, err := tx.Line()
		if err == nil && line.TreeSize < 48 {
			t.Errorf("only %d entries", line.TreeSize)
		}
		_, err = log.Recompute(tx, nil)
		return err
	}); err != nil {
		t.Errorf("the auditor cannot verify: %v", err)
	}
}

// TestTheServiceMakesNoTables: its role is told what is missing, and by whom it is to be made.
func TestTheServiceMakesNoTables(t *testing.T) {
	if os.Getenv(dbtest.Variable) == "" {
		t.Skip("no " + dbtest.Variable + `: the suite "postgres" runs this`)
	}
	s := dbtest.Roles(t)
	if _, err := db.Open(t.Context(), dbtest.Config(t, s.App)); !errors.Is(err, db.ErrNotMigrated) {
		t.Errorf("on an empty database: %v", err)
	}
	s.Migrate(t, audit.Migrate, engine.Migrate, retention.Migrate)
	d := dbtest.Open(t, dbtest.Config(t, s.App))
	for _, migrate := range []dbtest.Room{audit.Migrate, engine.Migrate, retention.Migrate} {
		if err := migrate(t.Context(), d); err != nil {
			t.Errorf("where all is made: %v", err)
		}
	}
	later := fstest.MapFS{"schema/0001_later.sql": {Data: []byte("CREATE TABLE later (a BIGINT);")}}
	if err := d.Migrate(t.Context(), "later", later); !errors.Is(err, db.ErrNotMigrated) || !strings.Contains(err.Error(), "0001_later.sql") {
		t.Errorf("with a change to come: %v", err)
	}
}

// TestABackupByTheServiceHoldsEveryOrganisation: row policies never make a backup that lacks somebody's rows.
func TestABackupByTheServiceHoldsEveryOrganisation(t *testing.T) {
	s := split(t)
	twoOrganisations(t, s)
	d := dbtest.Open(t, dbtest.Config(t, s.App))
	if err := d.Confine(2); err != nil {
		t.Fatal(err)
	}
	var copied bytes.Buffer
	seen := int64(0)
	err := d.Backup(t.Context(), func(tx *db.Tx, _ int64) error {
		return tx.QueryRow("SELECT count(*) FROM message", nil, &seen)
	}, &copied)
	if err != nil {
		t.Fatal(err)
	}
	scratch, err := db.Scratch(s.Admin, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Drop(context.Background(), scratch) })
	_, err = db.Restore(t.Context(), db.Restoring{URL: scratch, Now: time.Now, Log: slog.New(slog.DiscardHandler), Fill: func(_ context.Context, w io.Writer) error {
		_, err := io.Copy(w, &copied)
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	was, is := prompt(t, s.Owner), prompt(t, scratch)
	for _, table := range walled {
		sql := "SELECT organisation || ': ' || count(*) FROM " + table + " GROUP BY organisation ORDER BY organisation"
		if a, b := was.texts(sql), is.texts(sql); len(a) != 2 || !slices.Equal(a, b) {
			t.Errorf("%s: %q was backed up as %q", table, a, b)
		}
	}
	if seen != 24 {
		t.Errorf("the backup's own look saw %d messages, want 24", seen)
	}
}

// TestADatabaseServesOneOrganisation: a second one would write rows into the first's.
func TestADatabaseServesOneOrganisation(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		d := dbtest.Open(t, dbtest.Config(t, address))
		if err := errors.Join(d.Confine(1), d.Confine(1)); err != nil {
			t.Error(err)
		}
		if d.Confine(2) == nil || d.Confine(0) == nil || d.Confine(-1) == nil {
			t.Error("another organisation was taken")
		}
	})
}

// TestRowsFromBeforeTheWallsGetTheirOrganisation runs the migration over rows that an earlier release left.
func TestRowsFromBeforeTheWallsGetTheirOrganisation(t *testing.T) {
	if os.Getenv(dbtest.Variable) == "" {
		t.Skip("no " + dbtest.Variable + `: the suite "postgres" runs this`)
	}
	d := dbtest.Open(t, dbtest.Config(t, dbtest.PostgreSQL(t)))
	before := fstest.MapFS{}
	files, err := filepath.Glob("schema/*.sql")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		if name < "schema/0004" {
			before[name] = &fstest.MapFile{Data: readFile(t, name)}
		}
	}
	if err := d.Migrate(t.Context(), "engine", before); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(t.Context(), 0, func(tx *db.Tx) error {
		for _, sql := range []string{
			`INSERT INTO organisation SELECT n, gen_random_uuid(), 'org' || n FROM generate_series(1, 2) n`,
			`INSERT INTO channel (number, organisation, name) VALUES (1, 1, 'a'), (2, 2, 'b')`,
			`INSERT INTO queue (number, channel, name) VALUES (11, 1, 'x'), (12, 2, 'y')`,
			`INSERT INTO message SELECT n, gen_random_uuid(), 1 + n % 2, 1, 1, 0, 1, '', 0, '', 0, NULL, '' FROM generate_series(1, 9) n`,
			`INSERT INTO content SELECT n, '' FROM generate_series(1, 9) n`,
			`INSERT INTO delivery SELECT 11 + n % 2, n, n, 1, 0, 0, 0, 0, 1, 0, '', '' FROM generate_series(1, 9) n`,
			`INSERT INTO attempt SELECT 11 + n % 2, n, '' FROM generate_series(1, 9) n`,
		} {
			if _, err := tx.Exec(sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := engine.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"content", "delivery", "attempt"} {
		var right int64
		if err := d.Read(t.Context(), func(tx *db.Tx) error {
			return tx.QueryRow("SELECT count(*) FROM "+table+" WHERE organisation = 1 + number % 2", nil, &right)
		}); err != nil || right != 9 {
			t.Errorf("%s: %d of 9 rows have their organisation, %v", table, right, err)
		}
	}
}
