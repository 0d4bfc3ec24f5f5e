package db_test

import (
	"context"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lazaret-health/lazaret/internal/db/dbtest"
)

// session is a person at a prompt, with what the server says to them beside the rows.
func session(t *testing.T, address string) (conn *pgx.Conn, said func() string) {
	t.Helper()
	c, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	var notices strings.Builder
	c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices.WriteString(n.Message + "\n") }
	if conn, err = pgx.ConnectConfig(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn, func() string {
		defer notices.Reset()
		return notices.String()
	}
}

func script(t *testing.T, conn *pgx.Conn, sql string) []*pgconn.Result {
	t.Helper()
	results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// TestPgAuditAsDocumented runs docs/sql/pgaudit.sql, for one database instead of the whole server, and has pgAudit tell the client
// what it writes: what a person reads is there, and the service's own statements are not.
func TestPgAuditAsDocumented(t *testing.T) {
	if os.Getenv(dbtest.Variable) == "" {
		t.Skip("no " + dbtest.Variable + ": the suite \"postgres\" runs this")
	}
	s := dbtest.Roles(t)
	admin, _ := session(t, s.Admin)
	if loaded := script(t, admin, `SELECT count(*) FROM pg_settings WHERE name = 'pgaudit.log'`); string(loaded[0].Rows[0][0]) == "0" {
		t.Skip("the server that " + dbtest.Variable + " names has no pgAudit loaded: the suite \"postgres\" starts one that has")
	}
	u, err := url.Parse(s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	here := pgx.Identifier{u.Path[1:]}.Sanitize()
	sql := strings.ReplaceAll(dbtest.SQL(t, "pgaudit.sql"), "ALTER SYSTEM SET", "ALTER DATABASE "+here+" SET")
	sql = strings.ReplaceAll(sql, "ALTER ROLE lazaret_app SET", "ALTER ROLE lazaret_app IN DATABASE "+here+" SET")
	script(t, admin, sql+"ALTER DATABASE "+here+" SET pgaudit.log_client = on; ALTER DATABASE "+here+" SET pgaudit.log_level = 'notice'")

	owner, said := session(t, s.Owner)
	script(t, owner, "CREATE TABLE invented (number BIGINT, what TEXT); GRANT SELECT, INSERT ON invented TO lazaret_app")
	if got := said(); !strings.Contains(got, "DDL,CREATE TABLE") || !strings.Contains(got, "ROLE,GRANT") {
		t.Errorf("of a table made and a right given pgAudit says %q", got)
	}
	if _, err := owner.Exec(t.Context(), "SELECT * FROM invented WHERE number = $1", int64(4711)); err != nil {
		t.Fatal(err)
	}
	if got := said(); !strings.Contains(got, "READ,SELECT") || !strings.Contains(got, "4711") {
		t.Errorf("of a person's reading pgAudit says %q, want the statement and its value", got)
	}
	app, said := session(t, s.App)
	if _, err := app.Exec(t.Context(), "INSERT INTO invented VALUES ($1, $2)", int64(1), "MARKER"); err != nil {
		t.Fatal(err)
	}
	script(t, app, "SELECT * FROM invented")
	if got := said(); strings.Contains(got, "AUDIT") {
		t.Errorf("of the service's own work pgAudit says %q", got)
	}
	if _, err := app.Exec(t.Context(), "SET ROLE lazaret_app"); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Exec(t.Context(), "DROP TABLE IF EXISTS nothing_of_this_name"); err != nil {
		t.Fatal(err)
	}
	if got := said(); !strings.Contains(got, "DDL,DROP TABLE") {
		t.Errorf("of what the service should never do pgAudit says %q", got)
	}
}

// TestWhatPgcryptoShows runs docs/sql/pgcrypto.sql: the guide's example works, and shows what its comments say.
func TestWhatPgcryptoShows(t *testing.T) {
	if os.Getenv(dbtest.Variable) == "" {
		t.Skip("no " + dbtest.Variable + ": the suite \"postgres\" runs this")
	}
	address := dbtest.PostgreSQL(t)
	conn, _ := session(t, address)
	results := script(t, conn, dbtest.SQL(t, "pgcrypto.sql"))
	var moved string
	for _, r := range results {
		for i, f := range r.FieldDescriptions {
			switch {
			case f.Name == "the_statement_is_there" && string(r.Rows[0][i]) != "t":
				t.Error("pg_stat_activity does not show the statement")
			case f.Name == "a_number_where_a_date_was":
				moved = string(r.Rows[0][i])
			}
		}
	}
	if moved != "123-45-6789" {
		t.Errorf("a moved value opened as %q", moved)
	}
	// Another session reads value and key after the statement has long ended.
	if _, err := conn.Exec(t.Context(), "SELECT pgp_sym_encrypt('123-45-6789', 'encryption_key')"); err != nil {
		t.Fatal(err)
	}
	other, _ := session(t, address)
	seen := script(t, other, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%123-45-6789%encryption_key%' AND pid <> pg_backend_pid()")
	if string(seen[0].Rows[0][0]) == "0" {
		t.Error("the key does not stand in pg_stat_activity any more: docs/sql/pgcrypto.sql says that it does")
	}
}
