package audit_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"golang.org/x/mod/sumdb/tlog"
)

// The attacker of these tests owns the database: triggers and keys are no hindrance. What each does is rolled back after the look
// at it, so that all meet the same log.

var errRolledBack = errors.New("rolled back")

// disarm drops what refuses changes.
func disarm(tx *db.Tx) error {
	statements := []string{"DROP TRIGGER audit_log_no_update", "DROP TRIGGER audit_log_no_delete", "DROP TRIGGER audit_tile_no_update",
		"DROP TRIGGER audit_tile_no_delete", "DROP TRIGGER audit_detail_no_update"}
	if tx.Engine() == db.PostgreSQL {
		statements = []string{"DROP FUNCTION audit_is_append_only() CASCADE"}
	}
	for _, sql := range statements {
		if _, err := tx.Exec(sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// attack changes the database and returns what Recompute says of it.
func (b *book) attack(t *testing.T, change func(*db.Tx) error) (found error) {
	t.Helper()
	err := b.db.Commit(t.Context(), 1, func(tx *db.Tx) error {
		if err := disarm(tx); err != nil {
			return err
		}
		if err := change(tx); err != nil {
			return err
		}
		_, found = b.log.Recompute(tx, nil)
		return errRolledBack
	})
	if !errors.Is(err, errRolledBack) {
		t.Fatalf("the attack failed: %v", err)
	}
	return found
}

// statements runs each, which must touch at least one row.
func statements(sqls ...string) func(*db.Tx) error {
	return func(tx *db.Tx) error {
		for _, sql := range sqls {
			n, err := tx.Exec(sql)
			if err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
			if n == 0 {
				return fmt.Errorf("%s: touched nothing", sql)
			}
		}
		return nil
	}
}

// full is an entry with nothing left empty, so that every column can be changed.
func full(b *book) audit.Entry {
	b.Helper()
	e := accepted(1)
	e.User, e.Request, e.Purpose, e.OSUser, e.Agent = db.ID{9}, db.ID{8}, "TREAT", "operator", "invented/1.0"
	var err error
	if e.Private, err = b.log.Seal(b.Context(), e.Org, time.Now(), []byte("invented")); err != nil {
		b.Fatal(err)
	}
	return e
}

const (
	inTile = 300 // a full entry, its tile complete
	inTail = 590 // a full entry behind the last complete tile, which ends at 511
	logEnd = 600
)

func TestTampering(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, address string) {
		b := openBook(t, address)
		b.fill(inTile)
		b.append(full(b))
		b.fill(inTail - inTile - 1)
		b.append(full(b))
		b.fill(logEnd - inTail - 1)
		b.mustVerify(logEnd)
		if err := b.attack(t, func(*db.Tx) error { return nil }); err != nil {
			t.Fatalf("nothing was done, and it found %v", err)
		}

		// One byte, or one bit of meaning, in each column.
		for _, c := range []struct{ column, sqlite, postgres string }{ // "" for an engine: it cannot be done there
			{"id", "CAST(substr(id, 1, 15) || X'00' AS BLOB)", "(substr(id::text, 1, 34) || CASE substr(id::text, 35, 2) WHEN '00' THEN '01' ELSE '00' END)::uuid"},
			{"id", "CAST(X'000000000000' || substr(id, 7) AS BLOB)", "('00000000-0000' || substr(id::text, 14))::uuid"},
			{"timestamp", "timestamp + 1", "timestamp + interval '1 microsecond'"},
			{"timestamp", "", "'infinity'"},
			{"user_id", "X'09000000000000000000000000000001'", "'09000000-0000-0000-0000-000000000001'"},
			{"user_id", "X'0900'", ""},
			{"event_type", "'message-filtered'", "'message-filtered'"},
			{"resource_type", "'delivery'", "'delivery'"},
			{"resource_id", "resource_id || '0'", "resource_id || '0'"},
			{"action", "'read'", "'read'"},
			{"result", "'minor-failure'", "'minor-failure'"},
			{"ip_address", "'192.0.2.18'", "'192.0.2.18'"},
			{"ip_address", "'192.0.2.017'", "'192.0.2.17/24'"},
			{"ip_address", "'::ffff:192.0.2.17'", "'::ffff:192.0.2.17'"},
			{"user_agent", "'invented/1.1'", "'invented/1.1'"},
			{"details", "replace(details, '1250', '1251')", "jsonb_set(details, '{bytes}', '1251')"},
			{"details", "replace(details, ':1250', ': 1250')", "jsonb_set(details, '{bytes}', '1250.0')"},
			{"details", "replace(details, '1250', '\"1250\"')", "jsonb_set(details, '{bytes}', '\"1250\"')"},
			{"details", "'{\"a\":1,\"a\":1}'", "jsonb_set(details, '{more}', 'null')"},
			{"details", "'{}'", "'{}'"},
			{"organisation", "organisation + 1", "organisation + 1"},
			{"organisation", "organisation + 4294967296", "organisation + 4294967296"},
			{"purpose", "'TREAS'", "'TREAS'"},
			{"session_id", "X'09000000000000000000000000000001'", "'09000000-0000-0000-0000-000000000001'"},
			{"request_id", "X'09000000000000000000000000000001'", "'09000000-0000-0000-0000-000000000001'"},
			{"program", "'adt-in '", "'adt-in '"},
			{"os_user", "'operatos'", "'operatos'"},
			{"private_hash", "CAST(X'00' || substr(private_hash, 2) AS BLOB)", "set_byte(private_hash, 0, 255 - get_byte(private_hash, 0))"},
			{"salt", "CAST(X'00' || substr(salt, 2) AS BLOB)", "set_byte(salt, 0, 255 - get_byte(salt, 0))"},
			{"salt", "CAST(salt || X'00' AS BLOB)", "salt || '\\x00'::bytea"},
		} {
			value := c.sqlite
			if b.db.Engine() == db.PostgreSQL {
				value = c.postgres
			}
			if value == "" {
				continue
			}
			for _, at := range []struct{ seq, found int64 }{{inTile, inTile}, {inTail, 512}} {
				t.Run(fmt.Sprintf("%s of entry %d becomes %s", c.column, at.seq, value), func(t *testing.T) {
					err := b.attack(t, statements(fmt.Sprintf("UPDATE audit_log SET %s = %s WHERE seq = %d", c.column, value, at.seq)))
					found := []int64{at.found, at.seq}
					if c.column == "id" && b.db.Engine() == db.PostgreSQL {
						found = append(found, 0, 1) // by its id it now stands before one of these
					}
					mustDiffer(t, err, found...)
				})
			}
		}
		// Something where nothing was, nothing where something was, and empty for nothing.
		text := []string{"resource_type", "resource_id", "user_agent", "purpose", "program", "os_user"}
		for _, column := range append([]string{"user_id", "session_id", "request_id", "ip_address", "details", "private_hash"}, text...) {
			t.Run(column+" is emptied", func(t *testing.T) {
				mustDiffer(t, b.attack(t, statements(fmt.Sprintf("UPDATE audit_log SET %s = NULL WHERE seq = %d", column, inTile))), inTile, inTile)
			})
		}
		for _, column := range []string{"user_agent", "purpose", "os_user"} {
			t.Run(column+" becomes an empty text where there was none", func(t *testing.T) {
				mustDiffer(t, b.attack(t, statements(fmt.Sprintf("UPDATE audit_log SET %s = '' WHERE seq = 5", column))), 5, 5)
			})
		}

		insert := `INSERT INTO audit_log (seq, id, timestamp, event_type, action, result, organisation, salt)
			SELECT %s, %s, timestamp, event_type, action, result, organisation, salt FROM audit_log WHERE seq = 10`
		idOf := func(seq int) string { return fmt.Sprintf("X'%012x80008000000000000000'", seq) }
		swap := []string{"UPDATE audit_log SET seq = -1 WHERE seq = 20", "UPDATE audit_log SET seq = 20 WHERE seq = 21", "UPDATE audit_log SET seq = 21 WHERE seq = -1"}
		if b.db.Engine() == db.PostgreSQL {
			idOf = func(seq int) string { return fmt.Sprintf("'%08x-%04x-8000-8000-000000000000'", seq>>16, seq&0xffff) }
			swap = append(swap,
				"UPDATE audit_log SET id = '00000000-0014-8000-8000-000000000000' WHERE seq = 20",
				"UPDATE audit_log SET id = '00000000-0015-8000-8000-000000000000' WHERE seq = 21")
		} else {
			swap = append(swap,
				"UPDATE audit_log SET id = CAST(X'000000000014' || substr(id, 7) AS BLOB) WHERE seq = 20",
				"UPDATE audit_log SET id = CAST(X'000000000015' || substr(id, 7) AS BLOB) WHERE seq = 21")
		}
		flip := func(column string) string { // changes byte 32 * 44, in leaf 44 of its tile
			if b.db.Engine() == db.PostgreSQL {
				return fmt.Sprintf("set_byte(%s, 1408, 255 - get_byte(%s, 1408))", column, column)
			}
			return fmt.Sprintf("CAST(substr(%s, 1, 1408) || CASE substr(%s, 1409, 1) WHEN X'00' THEN X'01' ELSE X'00' END || substr(%s, 1410) AS BLOB)", column, column, column)
		}
		for _, c := range []struct {
			name   string
			change func(*db.Tx) error
			found  int64
		}{
			{"an entry is removed", statements("DELETE FROM audit_log WHERE seq = 20"), 20},
			{"the first entry is removed", statements("DELETE FROM audit_log WHERE seq = 0"), 0},
			{"the last entry is removed", statements("DELETE FROM audit_log WHERE seq = 599"), 599},
			{"all entries are removed", statements("DELETE FROM audit_log"), 0},
			{"all entries from the middle of a tile on are removed", statements("DELETE FROM audit_log WHERE seq >= 100"), 100},
			{"an entry is removed and the later ones move up", statements("DELETE FROM audit_log WHERE seq = 599",
				fmt.Sprintf("UPDATE audit_log SET seq = 599, id = %s WHERE seq = 598", idOf(599))), 598},
			{"two entries change places", statements(swap...), 20},
			{"an entry is replaced", statements("DELETE FROM audit_log WHERE seq = 30", fmt.Sprintf(insert, "30", idOf(30))), 30},
			{"an entry is put behind the end", statements(fmt.Sprintf(insert, "600", idOf(600))), 600},
			{"an entry is put far behind the end", statements(fmt.Sprintf(insert, "70000", idOf(70000))), 600},
			{"a leaf in a tile is changed", statements("UPDATE audit_tile SET hashes = " + flip("hashes") + " WHERE number = 1"), 300},
			{"a tile is cut", statements("UPDATE audit_tile SET hashes = substr(hashes, 1, 8160) WHERE number = 1"), 256},
			{"a tile's root is changed", statements("UPDATE audit_tile SET root = salt FROM audit_log WHERE number = 1 AND audit_log.seq = 3"), 256},
			{"a tile is removed", statements("DELETE FROM audit_tile WHERE number = 0"), 0},
			{"two tiles change places", statements("UPDATE audit_tile SET number = 9 WHERE number = 0", "UPDATE audit_tile SET number = 0 WHERE number = 1",
				"UPDATE audit_tile SET number = 1 WHERE number = 9"), 0},
			{"a tile is put behind the end", statements("INSERT INTO audit_tile (level, number, hashes, root) SELECT 0, 2, hashes, root FROM audit_tile WHERE number = 1"), 600},
			{"a tile is put above", statements("INSERT INTO audit_tile (level, number, hashes, root) SELECT 1, 0, hashes, root FROM audit_tile WHERE number = 1"), 600},
			{"a tile is put far above", statements("INSERT INTO audit_tile (level, number, hashes, root) SELECT 9, 0, hashes, root FROM audit_tile WHERE number = 1"), 600},
			{"a sealed part is changed", statements("UPDATE audit_detail SET sealed = salt FROM audit_log WHERE audit_log.seq = audit_detail.seq AND audit_detail.seq = 300"), 300},
			{"a sealed part gets another id", statements("UPDATE audit_detail SET id = audit_log.id FROM audit_log WHERE audit_log.seq = audit_detail.seq AND audit_detail.seq = 590"), 590},
			{"a sealed part goes to another organisation", statements("UPDATE audit_detail SET organisation = 8 WHERE seq = 300"), 300},
			{"a sealed part goes to another entry", statements("UPDATE audit_detail SET seq = 301 WHERE seq = 300"), 301},
			{"a sealed part is put behind the end", statements("UPDATE audit_detail SET seq = 700 WHERE seq = 300"), 600},
			{"the edge is changed", edge(func(l *db.Line) { l.Tree[len(l.Tree)-1] ^= 1 }), 512},
			{"the edge is cut", edge(func(l *db.Line) { l.Tree = l.Tree[:len(l.Tree)-tlog.HashSize] }), 0},
			{"the edge is emptied", edge(func(l *db.Line) { l.Tree = nil }), 0},
			{"the size is lowered", edge(func(l *db.Line) { l.TreeSize-- }), 0},
			{"the size is raised", edge(func(l *db.Line) { l.TreeSize += 2 }), 0},
			{"the size is negative", edge(func(l *db.Line) { l.TreeSize = -1 }), 0},
			{"size and edge are of an earlier day, the rows are not", edge(func(l *db.Line) { l.TreeSize, l.Tree = 512, append([]byte(nil), l.Tree[:1+tlog.HashSize]...) }), 512},
		} {
			t.Run(c.name, func(t *testing.T) {
				mustDiffer(t, b.attack(t, c.change), c.found)
			})
		}
		b.mustVerify(logEnd) // no attack left a trace
	})
}

func edge(change func(*db.Line)) func(*db.Tx) error {
	return func(tx *db.Tx) error {
		l, err := tx.Line()
		if err == nil {
			change(l)
		}
		return err
	}
}

// mustDiffer wants a difference at the one place or the other.
func mustDiffer(t *testing.T, err error, at ...int64) {
	t.Helper()
	var d *audit.Difference
	if !errors.As(err, &d) {
		t.Errorf("found %v, want a difference at entry %d", err, at[0])
		return
	}
	for _, seq := range at {
		if d.Seq == seq {
			return
		}
	}
	t.Errorf("found %v, want a difference at entry %v", err, at)
}

// Rows under a tile that is under way are changed while no process remembers them. The acts go on, the tile does not lie, the
// alarm is on record, and the check tells where.
func TestRowsChangedBeforeTheirTile(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, address string) {
		b := openBook(t, address)
		b.fill(250)
		err := b.db.Commit(t.Context(), 1, func(tx *db.Tx) error {
			if err := disarm(tx); err != nil {
				return err
			}
			return statements("UPDATE audit_log SET result = 'minor-failure' WHERE seq = 200")(tx)
		})
		if err != nil {
			t.Fatal(err)
		}
		b.log = openLog(t, b.db)
		b.fill(10)
		alarms := b.search(audit.Query{AllOrgs: true, Event: audit.AuditFailed}).Records
		if len(alarms) != 1 || alarms[0].Seq != 256 || alarms[0].Result != audit.SeriousFailure {
			t.Errorf("alarms: %+v, want one at entry 256", alarms)
		}
		b.read(func(tx *db.Tx) error {
			size, _, err := b.log.Root(tx)
			if err != nil || size != 261 {
				t.Errorf("the log has %d entries, %v; want 250, 10 and the alarm", size, err)
			}
			return nil
		})
		_, err = b.recompute()
		mustDiffer(t, err, 0) // its tile, which could not be written
	})
}

// An edge that does not fit stops the record, and with it every act.
func TestNoActWithoutASoundEdge(t *testing.T) {
	b := openBook(t, dbtest.SQLite(t))
	b.fill(5)
	err := b.db.Commit(t.Context(), 1, func(tx *db.Tx) error {
		if err := edge(func(l *db.Line) { l.Tree = l.Tree[:33] })(tx); err != nil {
			return err
		}
		_, err := b.log.Append(tx, accepted(1))
		return err
	})
	if !errors.Is(err, audit.ErrTree) {
		t.Errorf("got %v, want ErrTree", err)
	}
	b.mustVerify(5)
}
