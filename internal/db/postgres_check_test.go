package db

import (
	"fmt"
	"strings"
	"testing"
)

// sound is a server as docs/postgresql.md sets it up, seen by the service's role.
func sound(change func(*server)) *server {
	s := &server{
		settings: map[string]string{
			"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "password_encryption": "scram-sha-256", "data_checksums": "on",
			"session_replication_role": "origin", "log_statement": "none", "log_min_duration_statement": "-1", "log_min_duration_sample": "-1",
			"log_parameter_max_length": "0", "log_parameter_max_length_on_error": "0", "pgaudit.log": "ddl, role", "pgaudit.log_parameter": "on",
		},
		client: "192.0.2.7", server: "192.0.2.8", encrypted: true, role: "lazaret_app", auditOfRole: true,
		rules:     []rule{{90, "local", "", "peer"}, {91, "hostssl", "192.0.2.0", "scram-sha-256"}, {92, "host", "127.0.0.1", "scram-sha-256"}},
		rulesSeen: true, diskSeen: true, diskEncrypted: true,
	}
	change(s)
	return s
}

// TestFindings: each way in which a server can be less than sound is said once, with what breaks a promise first.
func TestFindings(t *testing.T) {
	set := func(name, value string) func(*server) { return func(s *server) { s.settings[name] = value } }
	const audited = "note has pgAudit loaded, with a setting of its own"
	for _, c := range []struct {
		name   string
		change func(*server)
		want   []string // how each finding begins; that about pgAudit's other roles is always there
	}{
		{"as it should be", func(*server) {}, nil},
		{"no fsync", set("fsync", "off"), []string{"broken runs with fsync = off"}},
		{"no full pages", set("full_page_writes", "off"), []string{"broken runs with full_page_writes = off"}},
		{"a pooler that drops what the connection asks for", set("synchronous_commit", "local"), []string{"broken commits before its log is on disk (synchronous_commit = local)"}},
		{"a standby that has applied it is as good", set("synchronous_commit", "remote_apply"), nil},
		{"triggers off", set("session_replication_role", "replica"), []string{"broken runs our statements with session_replication_role"}},
		{"no checksums", set("data_checksums", "off"), []string{"warning keeps no checksums"}},
		{"a superuser", func(s *server) { s.super, s.owns, s.role = true, 20, "postgres" }, []string{"warning is used as the superuser postgres"}},
		{"the owner of the tables", func(s *server) { s.owns = 20 }, []string{"warning is used as lazaret_app, which owns the tables"}},
		{"a role that no policy holds", func(s *server) { s.bypass = true }, []string{"warning gives lazaret_app BYPASSRLS"}},
		{"a role that may change the record", func(s *server) { s.mayChange = true }, []string{"warning lets lazaret_app change entries"}},
		{"a release whose grants have not run", func(s *server) { s.unreadable = []string{"new", "newer"} }, []string{"broken does not let lazaret_app use new, newer"}},
		{"another machine without TLS", func(s *server) { s.encrypted = false }, []string{"warning is on another machine, and the server sees no TLS"}},
		{"this machine without TLS", func(s *server) { s.encrypted, s.client, s.server = false, "127.0.0.1", "127.0.0.1" }, nil},
		{"this machine by its own address", func(s *server) { s.encrypted, s.client, s.server = false, "192.0.2.7", "192.0.2.7" }, nil},
		{"a Unix socket", func(s *server) { s.encrypted, s.client, s.server = false, "", "" }, nil},
		{"passwords as MD5", set("password_encryption", "md5"), []string{"warning stores new passwords as md5"}},
		{"rules that are not for this role", func(s *server) { s.rules, s.rulesSeen = nil, false }, []string{"note does not show lazaret_app its pg_hba.conf"}},
		{"anybody without a password", func(s *server) {
			s.rules = append(s.rules, rule{95, "local", "", "trust"}, rule{96, "hostssl", "", "trust"})
		},
			[]string{"warning lets people in without a password (trust, in pg_hba.conf line 95, 96)"}},
		{"MD5 and passwords in the clear", func(s *server) {
			s.rules = append(s.rules, rule{95, "hostssl", "::", "md5"}, rule{96, "hostssl", "", "password"})
		},
			[]string{"warning takes weak proof of who somebody is (md5, password or ident, in pg_hba.conf line 95, 96)"}},
		{"others without TLS", func(s *server) { s.rules = append(s.rules, rule{95, "host", "0.0.0.0", "scram-sha-256"}) },
			[]string{"warning takes connections from other machines without TLS (host, in pg_hba.conf line 95)"}},
		{"others refused", func(s *server) { s.rules = append(s.rules, rule{95, "host", "0.0.0.0", "reject"}) }, nil},
		{"statements in the log, without values", func(s *server) { s.settings["log_statement"] = "all" }, nil},
		{"statements in the log, with values", func(s *server) { s.settings["log_statement"], s.settings["log_parameter_max_length"] = "mod", "-1" },
			[]string{"warning writes the values of our statements into its log (log_statement = mod)"}},
		{"slow statements in the log, with values", func(s *server) {
			s.settings["log_min_duration_statement"], s.settings["log_min_duration_sample"], s.settings["log_parameter_max_length"] = "0", "100", "64"
		}, []string{"warning writes the values of our statements into its log (log_min_duration_statement = 0, log_min_duration_sample = 100)"}},
		{"values, were there statements", set("log_parameter_max_length", "-1"), nil},
		{"values of what fails", set("log_parameter_max_length_on_error", "-1"), []string{"warning writes the values of statements that fail"}},
		{"pgAudit with values", set("pgaudit.log", "READ, WRITE"), []string{"warning has pgAudit write the values of our statements"}},
		{"pgAudit with statements alone", func(s *server) { s.settings["pgaudit.log"], s.settings["pgaudit.log_parameter"] = "all", "off" }, nil},
		{"a disk in the clear", func(s *server) { s.diskEncrypted = false }, []string{"warning keeps its files on a disk without dm-crypt"}},
		{"a disk that is elsewhere", func(s *server) { s.diskSeen = false }, []string{"note keeps its files where it is not visible"}},
		{"much at once", func(s *server) {
			s.diskSeen, s.bypass, s.settings["fsync"] = false, true, "off"
		}, []string{"broken runs with fsync", "warning gives lazaret_app BYPASSRLS", "note keeps its files"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, f := range sound(c.change).findings() {
				line := fmt.Sprintf("%s %s", map[Weight]string{Note: "note", Warning: "warning", Broken: "broken"}[f.Weight], f.What)
				if !strings.HasPrefix(line, audited) {
					if f.Next == "" {
						t.Errorf("%s: no next step", line)
					}
					got = append(got, line)
				}
			}
			if len(got) != len(c.want) {
				t.Fatalf("found %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("found %q, want %q", got[i], want)
				}
			}
		})
	}
	for name, change := range map[string]func(*server){
		"does not have pgAudit loaded":              func(s *server) { delete(s.settings, "pgaudit.log"); s.auditOfRole = false },
		"has pgAudit loaded, and it writes nothing": func(s *server) { s.settings["pgaudit.log"], s.auditOfRole = "none", false },
	} {
		list := sound(change).findings()
		if len(list) != 1 || list[0].Weight != Warning || !strings.HasPrefix(list[0].What, name) {
			t.Errorf("%s: found %+v", name, list)
		}
	}
}
