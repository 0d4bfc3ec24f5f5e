package audit_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
)

// The guide prints this table and these indexes (section "Database Audit Logging"). A tool that reads the one reads ours.
func TestTheGuidesTable(t *testing.T) {
	guide := []string{
		"id uuid", "timestamp timestamp with time zone", "user_id uuid", "event_type character varying(50)",
		"resource_type character varying(50)", "resource_id character varying(255)", "action character varying(50)",
		"result character varying(20)", "ip_address inet", "user_agent text", "details jsonb",
	}
	dbtest.Each(t, func(t *testing.T, address string) {
		b := openBook(t, address)
		columns := `SELECT name || ' ' || lower(type) FROM pragma_table_info('audit_log')`
		indexes := `SELECT replace(sql, char(10), ' ') FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'audit_log'`
		if b.db.Engine() == db.PostgreSQL {
			columns = `SELECT column_name || ' ' || data_type || coalesce('(' || character_maximum_length || ')', '')
				FROM information_schema.columns WHERE table_name = 'audit_log' ORDER BY ordinal_position`
			indexes = `SELECT replace(replace(replace(indexdef, 'public.', ''), 'USING btree ', ''), '"', '') FROM pg_indexes WHERE tablename = 'audit_log'`
		}
		have := b.lines(columns)
		for _, want := range guide {
			if b.db.Engine() == db.SQLite { // the names; SQLite has types of its own
				name, _, _ := strings.Cut(want, " ")
				if !slices.ContainsFunc(have, func(s string) bool { return strings.HasPrefix(s, name+" ") }) {
					t.Errorf("column %s is missing: %q", name, have)
				}
			} else if !slices.Contains(have, want) {
				t.Errorf("column %q is missing: %q", want, have)
			}
		}
		if b.db.Engine() == db.PostgreSQL && !slices.Equal(have[:len(guide)], guide) {
			t.Errorf("the columns begin %q, want %q", have[:len(guide)], guide)
		}
		have = b.lines(indexes)
		for _, want := range []string{"idx_audit_log_timestamp ON audit_log(timestamp)", "idx_audit_log_user ON audit_log(user_id)",
			"idx_audit_log_resource ON audit_log(resource_type, resource_id)"} {
			if !slices.ContainsFunc(have, func(s string) bool { return strings.Contains(strings.ReplaceAll(s, "audit_log (", "audit_log("), want) }) {
				t.Errorf("index %s is missing: %q", want, have)
			}
		}
	})
}

// lines runs a query of one text column.
func (b *book) lines(sql string) (out []string) {
	b.Helper()
	b.read(func(tx *db.Tx) error {
		rows, err := tx.Query(sql)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				return err
			}
			out = append(out, s)
		}
		return rows.Err()
	})
	return out
}
