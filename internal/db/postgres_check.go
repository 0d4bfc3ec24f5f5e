package db

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Weight says what a Finding means.
type Weight uint8

// Weights of findings.
const (
	Note    Weight = iota + 1 // good to know, or not visible from here
	Warning                   // less safe than docs/postgresql.md sets it up
	Broken                    // a promise does not hold on this server: nothing may run on it
)

// A Finding is one thing about a database server that a person should know. It holds names and settings, no row and no secret.
type Finding struct {
	Weight Weight
	What   string // continues "the database ..."
	Next   string
}

// Examine looks at a PostgreSQL server and at what the role may do there, over a connection of its own, and changes nothing. What the
// role cannot see is a Note. About SQLite, which is a file of ours, there is nothing to say.
func Examine(ctx context.Context, url string) ([]Finding, error) {
	if engineOf(url) == SQLite {
		return nil, nil
	}
	pool, err := postgresConfig(url)
	if err != nil {
		return nil, fmt.Errorf("examine the database: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, pool.ConnConfig)
	if err != nil {
		return nil, fmt.Errorf("examine the database: connect: %w", connectError(err))
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		conn.Close(ctx)
	}()
	s := &server{}
	if err := s.look(ctx, conn); err != nil {
		return nil, fmt.Errorf("examine the database: %w", connectError(err))
	}
	if s.here() && s.settings["data_directory"] != "" {
		s.diskSeen, s.diskEncrypted = diskOf(s.settings["data_directory"])
	}
	return s.findings(), nil
}

// server is what can be seen of a server and of the role.
type server struct {
	settings                map[string]string // as they hold in our own session; absent: not visible, or no such setting
	client, server          string            // addresses of the connection; empty over a Unix socket
	encrypted               bool
	role                    string
	super, bypass           bool
	owns                    int64    // tables that the role owns, or whose owner it may become
	unreadable              []string // tables of ours that it may not read
	mayChange               bool     // entries of the audit log, by its rights
	auditOfRole             bool     // pgaudit.log is set for this role, so what holds for others is not seen
	rules                   []rule
	rulesSeen               bool
	diskSeen, diskEncrypted bool
}

// rule is a line of pg_hba.conf.
type rule struct {
	line                 int
	kind, address, login string
}

const (
	seeSettings = `SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'password_encryption',
		'data_checksums', 'data_directory', 'session_replication_role', 'log_statement', 'log_min_duration_statement', 'log_min_duration_sample',
		'log_parameter_max_length', 'log_parameter_max_length_on_error', 'pgaudit.log', 'pgaudit.log_parameter')`

	seeSelf = `SELECT current_user::text, coalesce(host(inet_client_addr()), ''), coalesce(host(inet_server_addr()), ''), r.rolsuper, r.rolbypassrls,
		coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
		EXISTS (SELECT FROM pg_db_role_setting s, unnest(s.setconfig) c WHERE s.setrole = r.oid AND c LIKE 'pgaudit.log=%')
		FROM pg_roles r WHERE r.rolname = current_user`

	// Ours are the tables of whoever owns schema_migration.
	seeTables = `SELECT k.relname::text, pg_has_role(k.relowner, 'USAGE'), has_table_privilege(k.oid, 'SELECT'),
		k.relname = 'audit_log' AND (has_table_privilege(k.oid, 'UPDATE') OR has_table_privilege(k.oid, 'DELETE') OR has_table_privilege(k.oid, 'TRUNCATE'))
		FROM pg_class k JOIN pg_class m ON m.oid = to_regclass('schema_migration') AND m.relowner = k.relowner AND m.relnamespace = k.relnamespace
		WHERE k.relkind IN ('r', 'p') ORDER BY 1`

	seeRules = `SELECT line_number, type, coalesce(address, ''), auth_method FROM pg_hba_file_rules WHERE error IS NULL ORDER BY line_number`
)

func (s *server) look(ctx context.Context, conn *pgx.Conn) error {
	s.settings = map[string]string{}
	rows, _ := conn.Query(ctx, seeSettings)
	var name, setting string
	if _, err := pgx.ForEachRow(rows, []any{&name, &setting}, func() error { s.settings[name] = setting; return nil }); err != nil {
		return err
	}
	err := conn.QueryRow(ctx, seeSelf).Scan(&s.role, &s.client, &s.server, &s.super, &s.bypass, &s.encrypted, &s.auditOfRole)
	if err != nil {
		return err
	}
	rows, _ = conn.Query(ctx, seeTables)
	var owns, reads, changes bool
	if _, err := pgx.ForEachRow(rows, []any{&name, &owns, &reads, &changes}, func() error {
		if owns {
			s.owns++
		}
		if !reads {
			s.unreadable = append(s.unreadable, name)
		}
		s.mayChange = s.mayChange || changes
		return nil
	}); err != nil {
		return err
	}
	rows, _ = conn.Query(ctx, seeRules)
	var r rule
	_, err = pgx.ForEachRow(rows, []any{&r.line, &r.kind, &r.address, &r.login}, func() error { s.rules = append(s.rules, r); return nil })
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42501" { // not for this role
		return nil
	}
	s.rulesSeen = err == nil
	return err
}

// here says whether the connection stays on this machine.
func (s *server) here() bool { return s.client == "" || s.client == s.server || loopback(s.client) }

func loopback(address string) bool {
	if p, err := netip.ParseAddr(address); err == nil {
		return p.Unmap().IsLoopback()
	}
	return false
}

// findings judges. The order is that of weight and then of this list.
func (s *server) findings() (list []Finding) {
	for _, look := range []func(*server) []Finding{storage, rights, logins, logs, disk} {
		list = append(list, look(s)...)
	}
	slices.SortStableFunc(list, func(a, b Finding) int { return int(b.Weight) - int(a.Weight) })
	return list
}

// storage: what an acknowledgement rests on.
func storage(s *server) (list []Finding) {
	add := func(w Weight, what, next string) { list = append(list, Finding{w, what, next}) }
	if s.settings["fsync"] == "off" {
		add(Broken, "runs with fsync = off, so no acknowledgement would be true", "set fsync = on")
	}
	if s.settings["full_page_writes"] == "off" {
		add(Broken, "runs with full_page_writes = off: a page that was half written when the power went is lost with what was acknowledged", "set full_page_writes = on")
	}
	if sc := s.settings["synchronous_commit"]; sc != "on" && sc != "remote_apply" && sc != "" {
		add(Broken, "commits before its log is on disk (synchronous_commit = "+sc+") although the connection asks for on: a pooler in between drops what it asks for",
			"connect to PostgreSQL itself, or set synchronous_commit = on for the role")
	}
	if r := s.settings["session_replication_role"]; r != "origin" && r != "" {
		add(Broken, "runs our statements with session_replication_role = "+r+", which switches the triggers off that protect the audit log", "set it to origin for the role")
	}
	if s.settings["data_checksums"] == "off" {
		add(Warning, "keeps no checksums of its pages: damage by a disk is found late, or by Lazaret's seals alone", "stop the server and run pg_checksums --enable")
	}
	return list
}

// rights: what the service's role could do that the service never does.
func rights(s *server) (list []Finding) {
	const next = "set it up with a role of its own: docs/sql/roles.sql, grants.sql"
	switch {
	case s.super:
		list = append(list, Finding{Warning, "is used as the superuser " + s.role + ": no wall between organisations and no trigger of the audit log holds it", next})
	case s.owns > 0:
		list = append(list, Finding{Warning, "is used as " + s.role + ", which owns the tables or may become their owner: it can switch off the walls between organisations and the audit log's triggers", next})
	default:
		if s.bypass {
			list = append(list, Finding{Warning, "gives " + s.role + " BYPASSRLS: no wall between organisations holds it", "ALTER ROLE " + s.role + " NOBYPASSRLS"})
		}
		if s.mayChange {
			list = append(list, Finding{Warning, "lets " + s.role + " change entries of the audit log, but for the triggers that refuse it", "run docs/sql/grants.sql as the owner of the tables"})
		}
	}
	if len(s.unreadable) > 0 {
		list = append(list, Finding{Broken, "does not let " + s.role + " use " + strings.Join(s.unreadable, ", "), "run docs/sql/grants.sql as the owner of the tables"})
	}
	return list
}

// logins: who else may come in, and how.
func logins(s *server) (list []Finding) {
	add := func(w Weight, what, next string) { list = append(list, Finding{w, what, next}) }
	if !s.here() && !s.encrypted {
		add(Warning, "is on another machine, and the server sees no TLS on this connection: whoever is on the way reads and changes it", "set ssl = on there, and sslmode=verify-full here")
	}
	if p := s.settings["password_encryption"]; p != "scram-sha-256" && p != "" {
		add(Warning, "stores new passwords as "+p, "set password_encryption = 'scram-sha-256', then set the passwords anew")
	}
	if !s.rulesSeen {
		add(Note, "does not show "+s.role+" its pg_hba.conf: whether anybody may come in without a password or TLS was not looked at", "see docs/sql/database.sql, or run this check as a superuser")
		return list
	}
	var open, weak, plain []string
	for _, r := range s.rules {
		line := strconv.Itoa(r.line)
		switch r.login {
		case "trust":
			open = append(open, line)
		case "md5", "password", "ident":
			weak = append(weak, line)
		}
		if (r.kind == "host" || r.kind == "hostnossl") && r.login != "reject" && !loopback(r.address) && r.address != "localhost" {
			plain = append(plain, line)
		}
	}
	if open != nil {
		add(Warning, "lets people in without a password (trust, in pg_hba.conf line "+strings.Join(open, ", ")+")", "write scram-sha-256 there, or peer for local")
	}
	if weak != nil {
		add(Warning, "takes weak proof of who somebody is (md5, password or ident, in pg_hba.conf line "+strings.Join(weak, ", ")+")", "write scram-sha-256 or cert there")
	}
	if plain != nil {
		add(Warning, "takes connections from other machines without TLS (host, in pg_hba.conf line "+strings.Join(plain, ", ")+")", "write hostssl there")
	}
	return list
}

// logs: what the server writes down of our statements. Their values are sealed, but for times, types and peers; and a log outlives
// what retention disposes of.
func logs(s *server) (list []Finding) {
	add := func(w Weight, what, next string) { list = append(list, Finding{w, what, next}) }
	on := func(name string) bool { n, err := strconv.Atoi(s.settings[name]); return err == nil && n >= 0 }
	var why []string
	if l := s.settings["log_statement"]; l == "mod" || l == "all" {
		why = append(why, "log_statement = "+l)
	}
	for _, name := range []string{"log_min_duration_statement", "log_min_duration_sample"} {
		if on(name) {
			why = append(why, name+" = "+s.settings[name])
		}
	}
	if p := s.settings["log_parameter_max_length"]; why != nil && p != "0" && p != "" {
		add(Warning, "writes the values of our statements into its log ("+strings.Join(why, ", ")+"): sealed ones, and times, types and peers in the clear",
			"ALTER ROLE "+s.role+" SET log_parameter_max_length = 0")
	}
	if p := s.settings["log_parameter_max_length_on_error"]; p != "0" && p != "" {
		add(Warning, "writes the values of statements that fail into its log", "ALTER ROLE "+s.role+" SET log_parameter_max_length_on_error = 0")
	}
	const setUp = "set it up: docs/sql/pgaudit.sql"
	audits, loaded := s.settings["pgaudit.log"]
	audits = strings.ToLower(audits)
	switch {
	case !loaded:
		add(Warning, "does not have pgAudit loaded: what people do in it by other programs than Lazaret is on no record", setUp)
	case s.auditOfRole:
		add(Note, "has pgAudit loaded, with a setting of its own for "+s.role+": what it writes of other roles was not looked at", "")
	case audits == "none" || audits == "":
		add(Warning, "has pgAudit loaded, and it writes nothing", setUp)
	}
	if s.settings["pgaudit.log_parameter"] == "on" && (strings.Contains(audits, "all") || strings.Contains(audits, "read") || strings.Contains(audits, "write")) {
		add(Warning, "has pgAudit write the values of our statements: sealed ones, and times, types and peers in the clear", "ALTER ROLE "+s.role+" SET pgaudit.log = 'ddl, role'")
	}
	return list
}

func disk(s *server) []Finding {
	switch {
	case !s.diskSeen:
		return []Finding{{Note, "keeps its files where it is not visible from here whether the disk is encrypted", "look on its machine, or at what its provider says"}}
	case !s.diskEncrypted:
		return []Finding{{Warning, "keeps its files on a disk without dm-crypt (a disk or a provider that encrypts by itself is not seen from here)",
			"put its data folder on LUKS: names, times and types of messages are not sealed"}}
	}
	return nil
}
