package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
)

// TestSeparateRoles goes docs/postgresql.md through: the service's role may not make tables and says who must, the owner makes them,
// the service runs with docs/sql's rights, and is refused when some are missing.
func TestSeparateRoles(t *testing.T) {
	if os.Getenv(dbtest.Variable) == "" {
		t.Skip("no " + dbtest.Variable + `: the suite "postgres" runs this`)
	}
	s := dbtest.Roles(t)
	dir := t.TempDir()
	site := filepath.Join(dir, "site.yaml")
	owner, err := url.Parse(s.Owner)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := owner.User.Password()
	secret := filepath.Join(dir, "owner.secret")
	owner.User = url.User(owner.User.Username())
	for name, text := range map[string]string{site: quietSite + fmt.Sprintf("database: %q\n", s.App), secret: password + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lazaret := func(want int, args ...string) string {
		t.Helper()
		p, stdout, stderr := newProgram(t)
		if code := p.run(t.Context(), args); code != want {
			t.Fatalf("lazaret %s ended with %d, want %d:\n%s%s", strings.Join(args, " "), code, want, stdout, stderr)
		}
		return stdout.String() + stderr.String()
	}
	says := func(got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("%q is not said in:\n%s", want, got)
		}
	}
	says(lazaret(exitFound, "serve", "--config", site), "as who owns the tables, then docs/sql/grants.sql")
	migrate := []string{"migrate", "--config", site, "--owner", owner.String()}
	if password != "" {
		migrate = append(migrate, "--password", "file:"+secret)
	}
	said := lazaret(exitDone, migrate...)
	says(said, "0004_isolation.postgres.sql")
	says(said, "hint: now run docs/sql/grants.sql")
	says(lazaret(exitFound, "serve", "--config", site), "does not let lazaret_app use attempt, audit_detail, audit_log")
	s.Grant(t)
	says(lazaret(exitDone, migrate...), "no changes made")
	serviceIsOnRecord(t, s.App)

	var found struct {
		Errors   int
		Findings []finding
	}
	if err := json.Unmarshal([]byte(lazaret(exitDone, "check", "--config", site, "--database", "--json")), &found); err != nil {
		t.Fatal(err)
	}
	if found.Errors != 0 {
		t.Errorf("found %+v", found.Findings)
	}
	for _, f := range found.Findings {
		if f.Key == "database" && strings.Contains(f.What, "is used as") {
			t.Errorf("found %s", f.What)
		}
	}
	c := config.Database{Kind: "postgres", URL: s.Admin}
	p, _, stderr := newProgram(t)
	if err := examineDatabase(t.Context(), &config.Config{Database: c}, p.logger("info", "text")); err != nil {
		t.Error(err)
	}
	says(stderr.String(), "is used as the superuser")
	if err := migrated(fmt.Errorf("open: %w", db.ErrNotMigrated)); !errors.Is(err, db.ErrNotMigrated) {
		t.Errorf("the reason is lost: %v", err)
	}
}
