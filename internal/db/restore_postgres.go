package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"strings"

	"github.com/jackc/pgx/v5"
)

// An address is PostgreSQL's, taken apart so that its programs get the password by their environment, which only the same
// user can see, and not by their arguments, which everybody can.
type address struct {
	url      url.URL // without password, and without what only our driver knows
	password string
	database string
}

func parseAddress(raw string) (*address, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("the address is not understood; its form is postgres://USER@HOST:PORT/DATABASE")
	}
	a := &address{url: *u, database: strings.TrimPrefix(u.Path, "/")}
	if a.database == "" {
		return nil, errors.New("the address names no database; its form is postgres://USER@HOST:PORT/DATABASE")
	}
	if p, ok := u.User.Password(); ok {
		a.password = p
		a.url.User = url.User(u.User.Username())
	}
	q := u.Query()
	for name := range q {
		if strings.HasPrefix(name, "pool_") || strings.HasPrefix(name, "default_query_exec_mode") || strings.HasSuffix(name, "_cache_capacity") {
			q.Del(name)
		}
	}
	a.setQuery(q)
	return a, nil
}

// setQuery writes a space as %20: PostgreSQL's programs take a plus sign for itself.
func (a *address) setQuery(q url.Values) { a.url.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") }

// at is the address of another database of the same server, as our driver takes it.
func (a *address) at(database string) string {
	u := a.url
	u.Path = "/" + database
	if a.password != "" {
		u.User = url.UserPassword(u.User.Username(), a.password)
	}
	return u.String()
}

func (a *address) command(ctx context.Context, program, database string, args ...string) *exec.Cmd {
	u := a.url
	u.Path = "/" + database
	cmd := exec.CommandContext(ctx, program, append(args, "--dbname="+u.String())...)
	cmd.Env = append(cmd.Environ(), "PGAPPNAME=lazaret "+program)
	if a.password != "" {
		cmd.Env = append(cmd.Env, "PGPASSWORD="+a.password)
	}
	return cmd
}

// connect opens one connection to a database of the server; without a name to one that every server has.
func (a *address) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	names := []string{database}
	if database == "" {
		names = []string{"postgres", "template1"}
	}
	var err error
	for _, name := range names {
		var c *pgx.Conn
		if c, err = pgx.Connect(ctx, a.at(name)); err == nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("connect: %w", connectError(err))
}

const databaseThere = `SELECT COUNT(*) FROM pg_database WHERE datname = $1`

// restorePostgres fills a database under another name, and gives it its own at the end.
func restorePostgres(ctx context.Context, r Restoring) (aside string, err error) {
	a, err := parseAddress(r.URL)
	if err != nil {
		return "", err
	}
	admin, err := a.connect(ctx, "")
	if err != nil {
		return "", err
	}
	defer admin.Close(context.WithoutCancel(ctx))
	if err := checkTool(ctx, "pg_restore", admin); err != nil {
		return "", err
	}
	var n int
	if err := admin.QueryRow(ctx, databaseThere, a.database).Scan(&n); err != nil {
		return "", connectError(err)
	}
	there := n > 0
	if there && !r.Replace {
		return "", fmt.Errorf("%w: %s", ErrExists, a.database)
	}
	fresh := a.database + "_restoring"
	if len(fresh) > 63 {
		return "", fmt.Errorf("the name %s is too long to build a database beside it", a.database)
	}
	create := "CREATE DATABASE " + pgx.Identifier{fresh}.Sanitize() + " TEMPLATE template0"
	if _, err := admin.Exec(ctx, create); err != nil {
		return "", fmt.Errorf("make the new database %s (the role needs CREATEDB; one of that name may be left from an earlier try, then drop it): %w",
			fresh, connectError(err))
	}
	placed := false
	defer func() {
		if placed {
			return
		}
		if e := dropPostgres(context.WithoutCancel(ctx), a.at(fresh)); e != nil {
			err = errors.Join(err, fmt.Errorf("drop the half-made database %s: %w", fresh, e))
		}
	}()
	if err := a.fill(ctx, r.Fill, fresh); err != nil {
		return "", err
	}
	if r.Check != nil {
		if err := r.Check(ctx, a.at(fresh)); err != nil {
			return "", err
		}
	}
	tx, err := admin.Begin(ctx)
	if err != nil {
		return "", connectError(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	rename := func(from, to string) error {
		_, err := tx.Exec(ctx, "ALTER DATABASE "+pgx.Identifier{from}.Sanitize()+" RENAME TO "+pgx.Identifier{to}.Sanitize())
		if err != nil {
			return fmt.Errorf("rename database %s to %s: %w", from, to, connectError(err))
		}
		return nil
	}
	if there {
		aside = a.database + "_replaced_" + r.Now().UTC().Format("20060102150405")
		if err := rename(a.database, aside); err != nil {
			return "", err
		}
	}
	if err := rename(fresh, a.database); err != nil {
		return "", err
	}
	if err := tx.Commit(ctx); err != nil {
		return "", connectError(err)
	}
	placed = true
	return aside, nil
}

// fill has pg_restore read the dump. It works in one transaction; where fill's source fails, it is killed before it could
// take the end of its input for the end of the dump.
func (a *address) fill(ctx context.Context, fill func(context.Context, io.Writer) error, database string) error {
	ctx, kill := context.WithCancel(ctx)
	defer kill()
	cmd := a.command(ctx, "pg_restore", database, "--format=custom", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--no-password")
	said := &tail{}
	cmd.Stderr = said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %w", ErrTool, err)
	}
	out := &writer{w: in}
	fillErr := fill(ctx, out)
	if fillErr != nil {
		kill()
	}
	in.Close()
	waitErr := cmd.Wait()
	switch {
	case fillErr != nil && out.err == nil:
		return fillErr
	case waitErr != nil:
		return fmt.Errorf("pg_restore: %w%s", waitErr, said)
	}
	return fillErr
}

func dropPostgres(ctx context.Context, raw string) error {
	a, err := parseAddress(raw)
	if err != nil {
		return err
	}
	admin, err := a.connect(ctx, "")
	if err != nil {
		return err
	}
	defer admin.Close(ctx)
	if _, err := admin.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{a.database}.Sanitize()+" WITH (FORCE)"); err != nil {
		return connectError(err)
	}
	return nil
}
