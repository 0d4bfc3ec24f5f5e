package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A Database is where the rows lie. The password is held apart, so that the rest can be shown.
type Database struct {
	Kind     string // "sqlite" or "postgres"
	Path     string // of SQLite's file
	URL      string // PostgreSQL's, without a password
	Password Secret
}

// databaseKeys are the long form's keys.
type databaseKeys struct {
	URL      Text   `key:"url" required:"true" doc:"sqlite:PATH or postgres://USER@HOST:PORT/NAME?sslmode=verify-full"`
	Password Secret `key:"password" doc:"PostgreSQL's password: env:NAME or file:PATH."`
}

// String shows which database it is, without a password.
func (d Database) String() string {
	if d.Kind == "sqlite" {
		return "sqlite:" + d.Path
	}
	return d.URL
}

// DSN is what a driver opens: "sqlite:PATH", or PostgreSQL's URL with the password resolved into it. It is a secret then.
func (d Database) DSN() (string, error) {
	if d.Kind == "sqlite" || d.Password.IsZero() {
		return d.String(), nil
	}
	u, err := url.Parse(d.URL)
	if err != nil {
		return "", errors.New("database: the URL does not parse") // the parser's error quotes it
	}
	password, err := d.Password.Resolve()
	if err != nil {
		return "", err
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String(), nil
}

func (d *Database) read(r *reader, n *yaml.Node, key string) {
	if n.Kind == yaml.MappingNode {
		var long databaseKeys
		r.value(n, reflect.ValueOf(&long).Elem(), key, fieldTag{})
		if long.URL == "" {
			return
		}
		at := field(n, "url")
		if !d.parse(r, at, joinKey(key, "url"), string(long.URL)) || long.Password.IsZero() {
			return
		}
		switch {
		case d.Kind == "sqlite":
			r.fail(n, joinKey(key, "password"), "SQLite has no password", "remove it")
		case !d.Password.IsZero():
			r.fail(at, joinKey(key, "url"), "holds a password, and password is given too", "take it out of the URL")
		case hasNoUser(d.URL):
			r.fail(at, joinKey(key, "url"), "names no user for the password", "write postgres://USER@HOST/NAME")
		}
		d.Password = long.Password
		return
	}
	if text, ok := r.scalar(n, key, "a database", databaseNext); ok {
		d.parse(r, n, key, text)
	}
}

const databaseNext = "write sqlite:PATH or postgres://USER@HOST/NAME"

func (d *Database) parse(r *reader, n *yaml.Node, key, text string) bool {
	if path, ok := strings.CutPrefix(text, "sqlite:"); ok {
		if path == "" || strings.HasPrefix(path, ":") || strings.ContainsAny(path, "?\n\x00") {
			r.fail(n, key, "names no file for SQLite", "write sqlite:PATH, without options")
			return false
		}
		d.Kind, d.Path = "sqlite", path
		return true
	}
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		r.fail(n, key, "is neither sqlite: nor postgres://", databaseNext)
		return false
	}
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" {
		r.fail(n, key, "is not a URL that PostgreSQL has", "write postgres://USER@HOST:PORT/NAME; the password goes into database.password, as a reference")
		return false
	}
	if p, ok := u.User.Password(); ok {
		d.Password = ParseSecret(p)
		if !d.Password.IsZero() {
			d.Password.kind, d.Password.text = "clear", &p
		}
		u.User = url.User(u.User.Username())
	}
	q := u.Query()
	for _, name := range []string{"password", "sslpassword", "passfile"} {
		if q.Has(name) {
			r.fail(n, key, "holds "+name+" among its options", "remove it; the password goes into database.password, as a reference")
			return false
		}
	}
	d.Kind, d.URL = "postgres", u.String()
	return true
}

func (*Database) schema() map[string]any {
	url := map[string]any{"type": "string", "pattern": `^(sqlite:[^:?].*|postgres(ql)?://.+)$`}
	long := schemaOf(reflect.ValueOf(&databaseKeys{}).Elem(), fieldTag{})
	long["properties"].(map[string]any)["url"].(map[string]any)["pattern"] = url["pattern"]
	return map[string]any{"title": "database", "oneOf": []any{url, long}}
}

func hasNoUser(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.User.Username() == "" && !u.Query().Has("user")
}

// remote says whether the way to PostgreSQL leaves this machine, and sslmode how it is protected ("" where not said).
func (d Database) remote() (remote bool, sslmode string) {
	u, err := url.Parse(d.URL)
	if d.Kind != "postgres" || err != nil {
		return false, ""
	}
	q := u.Query()
	hosts := u.Host
	if h := q.Get("host"); h != "" {
		hosts = h
	}
	for h := range strings.SplitSeq(hosts, ",") {
		if name, _, err := net.SplitHostPort(h); err == nil {
			h = name
		}
		h = strings.Trim(h, "[]")
		if h == "" || h == "localhost" || strings.HasPrefix(h, "/") || strings.HasPrefix(h, "@") {
			continue
		}
		if ip, err := netip.ParseAddr(h); err == nil && ip.Unmap().IsLoopback() {
			continue
		}
		remote = true
	}
	return remote, q.Get("sslmode")
}
