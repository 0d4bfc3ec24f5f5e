package main

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/retention"
)

const migrateHelp = `Make the database's tables, or bring them up to date, as who owns them. Only PostgreSQL set up with separate roles
needs it: elsewhere "lazaret serve" does it by itself.

Usage: lazaret migrate [--config FILE] [--owner URL] [--password REFERENCE] [--json]

    --config FILE          the configuration; else lazaret.yaml here, else /etc/lazaret/lazaret.yaml
    --owner URL            the same database as the role that owns the tables: postgres://lazaret_owner@HOST/NAME?sslmode=...
                           else what the configuration names
    --password REFERENCE   the owner's password: env:NAME or file:PATH
    --json                 what was done, as JSON

The service's own role (docs/sql/roles.sql) may not make tables, so that a stolen password of the service cannot switch off what
protects the audit log. After a release that changes tables: stop the service, run this, run docs/sql/grants.sql as the owner,
start. Running it again does nothing. All changes of a part are made in one transaction, or none.

Examples:
    lazaret migrate --owner 'postgres://lazaret_owner@db.example/lazaret?sslmode=verify-full' --password file:owner.secret
    lazaret migrate --config site.yaml
`

// note is a finding that asks for nothing.
const note config.Level = "note"

// databaseFindings examines the server that a configuration names. A server that cannot be reached is a finding too.
func databaseFindings(ctx context.Context, c *config.Config) []finding {
	add := func(level config.Level, what, next string) finding {
		return finding{Level: level, Key: "database", What: what, Next: next}
	}
	url, err := c.Database.DSN()
	if err != nil {
		return []finding{add(config.Error, "cannot be examined: "+err.Error(), "")}
	}
	found, err := db.Examine(ctx, url)
	if err != nil {
		return []finding{add(config.Error, strings.ReplaceAll(err.Error(), "\n\t", " "), "see that the server runs and that the address is right")}
	}
	var list []finding
	for _, f := range found {
		level := map[db.Weight]config.Level{db.Broken: config.Error, db.Warning: config.Warning, db.Note: note}[f.Weight]
		list = append(list, add(level, f.What, f.Next))
	}
	return list
}

// examineDatabase logs what is found, and refuses a server on which a promise does not hold.
func examineDatabase(ctx context.Context, c *config.Config, log *slog.Logger) error {
	var broken config.Errors
	for _, f := range databaseFindings(ctx, c) {
		switch f.Level {
		case config.Error:
			broken = append(broken, config.Problem{Key: f.Key, What: f.What, Next: f.Next})
		case config.Warning:
			log.Warn("database: "+f.What, "next", f.Next)
		default:
			log.Info("database: "+f.What, "next", f.Next)
		}
	}
	if broken != nil {
		return broken
	}
	return nil
}

// migrated says what to do where the service's role met tables that are not there yet.
func migrated(err error) error {
	if !errors.Is(err, db.ErrNotMigrated) {
		return err
	}
	return hint(err, `run "lazaret migrate" as who owns the tables, then docs/sql/grants.sql (see docs/postgresql.md)`)
}

// madeTables is what migrate tells.
type madeTables struct {
	Database string         `json:"database"`
	Made     []db.Migration `json:"made"`
	InAll    int            `json:"in_all"`
}

func (p *program) migrate(ctx context.Context, args []string) error {
	f := newFlags("migrate")
	path, owner, password := f.String("config", "", ""), f.String("owner", "", ""), f.String("password", "", "")
	asJSON := f.Bool("json", false, "")
	if err := f.noArguments(args); err != nil {
		return err
	}
	c, err := config.Load(*path)
	if err != nil {
		return err
	}
	if *owner != "" {
		if c.Database, err = ownersDatabase(*owner, *password); err != nil {
			return err
		}
	} else if *password != "" {
		return usage("--password is that of --owner, which is not given", "migrate")
	}
	if err := refuseDatabase(c, p); err != nil {
		return err
	}
	address, err := c.Database.DSN()
	if err != nil {
		return err
	}
	d, before, err := p.openToMigrate(ctx, c, address)
	if err != nil {
		return err
	}
	defer d.Close()
	for _, room := range []func(context.Context, *db.DB) error{audit.Migrate, engine.Migrate, retention.Migrate} {
		if err := room(ctx, d); err != nil {
			return err
		}
	}
	after, err := migrations(ctx, d)
	if err != nil {
		return err
	}
	out := madeTables{Database: c.Database.String(), Made: []db.Migration{}, InAll: len(after)}
	for _, m := range after {
		if !before[m] {
			out.Made = append(out.Made, m)
		}
	}
	if *asJSON {
		return p.json(out)
	}
	for _, m := range out.Made {
		p.printf("%-10s %s\n", m.Room, m.Name)
	}
	p.printf("%s made, %s in all\n", count(len(out.Made), "change"), thousands(int64(out.InAll)))
	if len(out.Made) > 0 && d.Engine() == db.PostgreSQL {
		p.say("hint: now run docs/sql/grants.sql as the owner, if the service has a role of its own")
	}
	return nil
}

// openToMigrate opens the database and says what has run before. Opening makes the tables of package db itself: where there are no
// others, those were made just now.
func (p *program) openToMigrate(ctx context.Context, c *config.Config, address string) (d *db.DB, before map[db.Migration]bool, err error) {
	d, err = db.Open(ctx, db.Config{URL: address, Now: p.now, Rand: p.rand, Log: p.logger(c.Log.Level, c.Log.Format), Readers: 1})
	if errors.Is(err, db.ErrInUse) {
		return nil, nil, hint(err, "stop the service first")
	}
	if err != nil {
		return nil, nil, migrated(err)
	}
	list, err := migrations(ctx, d)
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	before = map[db.Migration]bool{}
	for _, m := range list {
		if list[len(list)-1].Room != list[0].Room {
			before[m] = true
		}
	}
	return d, before, nil
}

func migrations(ctx context.Context, d *db.DB) (list []db.Migration, err error) {
	err = d.Read(ctx, func(tx *db.Tx) error {
		list, err = tx.Migrations()
		return err
	})
	return list, err
}

// ownersDatabase is the database under the owner's name. A password on a command line is seen by every user of the machine.
func ownersDatabase(owner, password string) (config.Database, error) {
	u, err := url.Parse(owner)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return config.Database{}, usage("--owner is no address of PostgreSQL: postgres://USER@HOST/NAME", "migrate")
	}
	if _, ok := u.User.Password(); ok || u.Query().Has("password") {
		return config.Database{}, usage("--owner holds a password, which everybody on this machine can see: use --password file:PATH", "migrate")
	}
	secret := config.ParseSecret(password)
	if secret.Clear() {
		return config.Database{}, usage("--password is no reference: write env:NAME or file:PATH", "migrate")
	}
	return config.Database{Kind: "postgres", URL: owner, Password: secret}, nil
}

// refuseDatabase holds the owner's connection to the rules of the service's.
func refuseDatabase(c *config.Config, p *program) error {
	var wrong config.Errors
	for _, f := range c.Check(p.now()) {
		if f.Level == config.Error && strings.HasPrefix(f.Key, "database") {
			wrong = append(wrong, config.Problem{Key: f.Key, What: f.What, Next: f.Next}) // without the file: it may be --owner's
		}
	}
	if wrong != nil {
		return wrong
	}
	return nil
}
