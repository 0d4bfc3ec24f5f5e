package dbtest

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lazaret-health/lazaret/internal/db"
)

// A Split is a database as docs/sql sets it up: one role that owns the tables, one that works in them, one that audits. Each
// field is an address.
type Split struct{ Admin, Owner, App, Auditor string }

// Roles makes an empty database on the test server and runs docs/sql/roles.sql and database.sql over it. Grant is still to be
// called when the owner has made the tables; Migrate does both. The roles belong to the whole server, so all tests share them.
func Roles(t testing.TB) Split {
	t.Helper()
	s := Split{Admin: PostgreSQL(t)}
	server := os.Getenv(Variable)
	// Tests of several packages do this at the same time, and PostgreSQL refuses two that change one role.
	run(t, server, "SELECT pg_advisory_lock(7)", SQL(t, "roles.sql"), passwords(t, server), "SELECT pg_advisory_unlock(7)")
	u, err := url.Parse(s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Admin, "ALTER DATABASE "+pgx.Identifier{u.Path[1:]}.Sanitize()+" OWNER TO lazaret_owner", SQL(t, "database.sql"))
	as := func(role string) string {
		user := url.User(role)
		if p, ok := u.User.Password(); ok {
			user = url.UserPassword(role, p)
		}
		v := *u
		v.User = user
		return v.String()
	}
	s.Owner, s.App, s.Auditor = as("lazaret_owner"), as("lazaret_app"), as("lazaret_auditor")
	return s
}

// Migrate has the owner make the tables, and gives the others their rights.
func (s Split) Migrate(t testing.TB, rooms ...Room) {
	t.Helper()
	d, err := db.Open(t.Context(), Config(t, s.Owner))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, migrate := range rooms {
		if err := migrate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	s.Grant(t)
}

// Grant gives the roles their rights, by docs/sql/grants.sql.
func (s Split) Grant(t testing.TB) {
	t.Helper()
	run(t, s.Owner, SQL(t, "grants.sql"))
}

// passwords gives the roles the test server's own password, where it has one.
func passwords(t testing.TB, server string) (sql string) {
	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("%s is no address", Variable)
	}
	p, ok := u.User.Password()
	for _, role := range []string{"lazaret_owner", "lazaret_app", "lazaret_auditor"} {
		if ok {
			sql += "ALTER ROLE " + role + " PASSWORD '" + p + "';"
		}
	}
	return sql
}

// SQL reads a file of docs/sql.
func SQL(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	b, err := os.ReadFile(filepath.Join(dir, "docs", "sql", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// run sends scripts over one connection, as psql would.
func run(t testing.TB, address string, scripts ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(ctx)
	for _, sql := range scripts {
		if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
}
