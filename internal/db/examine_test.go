package db_test

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/retention"
)

// TestExamine: a real server and real roles, with settings changed for one database.
func TestExamine(t *testing.T) {
	if os.Getenv(dbtest.Variable) == "" {
		t.Skip("no " + dbtest.Variable + ": the suite \"postgres\" runs this")
	}
	s := dbtest.Roles(t)
	admin, err := pgx.Connect(t.Context(), s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	u, err := url.Parse(s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	database := pgx.Identifier{u.Path[1:]}.Sanitize()
	examine := func(address string) map[string]db.Weight {
		t.Helper()
		list, err := db.Examine(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]db.Weight{}
		for _, f := range list {
			found[f.What] = f.Weight
		}
		return found
	}
	says := func(found map[string]db.Weight, weight db.Weight, want string, expected bool) {
		t.Helper()
		for what, w := range found {
			if strings.HasPrefix(what, want) && w == weight {
				if !expected {
					t.Errorf("found: %s", what)
				}
				return
			}
		}
		if expected {
			t.Errorf("not found: %q, among %v", want, found)
		}
	}
	says(examine(s.App), db.Broken, "does not let", false) // nothing is there yet
	s.Migrate(t, audit.Migrate, engine.Migrate, retention.Migrate)
	says(examine(s.Admin), db.Warning, "is used as the superuser postgres", true)
	says(examine(s.Owner), db.Warning, "is used as lazaret_owner, which owns the tables", true)
	found := examine(s.App)
	for what, w := range found {
		if w == db.Broken || strings.Contains(what, "is used as") || strings.Contains(what, "BYPASSRLS") || strings.Contains(what, "entries of the audit log") ||
			strings.Contains(what, "into its log") || strings.Contains(what, "pg_hba.conf: ") {
			t.Errorf("the service's role: %s", what)
		}
	}
	for _, c := range []struct{ change, back, want string }{
		{"GRANT UPDATE ON audit_log TO lazaret_app", "REVOKE UPDATE ON audit_log FROM lazaret_app", "lets lazaret_app change entries of the audit log"},
		{"ALTER ROLE lazaret_app IN DATABASE " + database + " SET log_parameter_max_length_on_error = 100",
			"ALTER ROLE lazaret_app IN DATABASE " + database + " RESET log_parameter_max_length_on_error", "writes the values of statements that fail"},
		{"ALTER DATABASE " + database + " SET log_statement = 'mod'; ALTER ROLE lazaret_app IN DATABASE " + database + " SET log_parameter_max_length = -1",
			"ALTER DATABASE " + database + " RESET log_statement; ALTER ROLE lazaret_app IN DATABASE " + database + " RESET log_parameter_max_length",
			"writes the values of our statements into its log (log_statement = mod)"},
		{"ALTER DATABASE " + database + " SET password_encryption = 'md5'", "ALTER DATABASE " + database + " RESET password_encryption", "stores new passwords as md5"},
	} {
		says(examine(s.App), db.Warning, c.want, false)
		for i, sql := range []string{c.change, c.back} {
			if _, err := admin.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			says(examine(s.App), db.Warning, c.want, i == 0)
		}
	}
	for _, c := range []struct{ change, want string }{
		{"REVOKE SELECT ON pg_hba_file_rules FROM lazaret_app", "does not show lazaret_app its pg_hba.conf"},
		{"REVOKE SELECT ON content FROM lazaret_app", "does not let lazaret_app use content"},
	} {
		if _, err := admin.Exec(t.Context(), c.change); err != nil {
			t.Fatal(err)
		}
		weight := db.Note
		if strings.Contains(c.want, "content") {
			weight = db.Broken
		}
		says(examine(s.App), weight, c.want, true)
	}
	if list, err := db.Examine(t.Context(), "sqlite:nowhere.db"); err != nil || list != nil {
		t.Errorf("SQLite: %v, %v", list, err)
	}
	if _, err := db.Examine(t.Context(), (&url.URL{Scheme: "postgres", User: url.UserPassword("nobody", "SECRET"), Host: "127.0.0.1:1", Path: "/none"}).String()); err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("a server that is not there: %v", err)
	}
}
