// Package dbtest opens databases for tests: every suite runs on SQLite, and on PostgreSQL too where there is one.
//
// "make postgres" starts a server of its own and names it in LAZARET_TEST_POSTGRES (a postgres:// address whose user may
// create databases). Each test then gets a database of its own, which is dropped when the test ends.
package dbtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lazaret-health/lazaret/internal/db"
)

// Variable names the environment variable that holds the address of the PostgreSQL server.
const Variable = "LAZARET_TEST_POSTGRES"

// A Room makes its tables, as audit.Migrate does.
type Room func(context.Context, *db.DB) error

// Each runs the suite once a database, as a subtest named after the engine. address is where an empty database is. Where rooms are
// given, PostgreSQL's has their tables already, made by their owner, and the address is that of the role of the service: so the suite
// runs with no more rights than docs/sql gives, and behind the row policies.
func Each(t *testing.T, suite func(t *testing.T, address string), rooms ...Room) {
	t.Run("SQLite", func(t *testing.T) { suite(t, SQLite(t)) })
	if os.Getenv(Variable) == "" {
		return
	}
	t.Run("PostgreSQL", func(t *testing.T) {
		if rooms == nil {
			suite(t, PostgreSQL(t))
			return
		}
		s := Roles(t)
		s.Migrate(t, rooms...)
		suite(t, s.App)
	})
}

// SQLite returns the address of a database that does not exist yet.
func SQLite(t testing.TB) string {
	return "sqlite:" + filepath.Join(t.TempDir(), "lazaret.db")
}

// PostgreSQL makes an empty database on the test server and returns its address.
func PostgreSQL(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	u, err := url.Parse(os.Getenv(Variable))
	if err != nil {
		t.Fatalf("%s is no address", Variable)
	}
	admin, err := pgx.Connect(ctx, u.String())
	if err != nil {
		t.Fatalf("connect to the test server: %v", err)
	}
	defer admin.Close(ctx)
	var b [8]byte
	rand.Read(b[:])
	name := "lazaret_test_" + hex.EncodeToString(b[:])
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create a test database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		admin, err := pgx.Connect(ctx, os.Getenv(Variable))
		if err != nil {
			t.Errorf("connect to drop the test database: %v", err)
			return
		}
		defer admin.Close(ctx)
		if _, err := admin.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the test database: %v", err)
		}
	})
	u.Path = "/" + name
	return u.String()
}

// Config is a configuration with a real clock and real randomness, for the database at address.
func Config(t testing.TB, address string) db.Config {
	return db.Config{URL: address, Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// Open opens the database at address and closes it when the test ends.
func Open(t testing.TB, c db.Config) *db.DB {
	t.Helper()
	d, err := db.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}
