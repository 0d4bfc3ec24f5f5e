package audit_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"golang.org/x/mod/sumdb/tlog"
)

// A tile of level 1 takes 65,536 entries; its 256 parts come from this transaction, from rows and from other processes' tiles.
func TestTilesOfTilesAndTheRateOfChecking(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, address string) {
		b := openBook(t, address)
		size, top := 65536+300, 1
		if testing.Short() { // the race detector takes minutes for that
			size, top = 1500, 0
		}
		entries := make([]audit.Entry, 700)
		for i := range entries {
			entries[i] = accepted(i)
		}
		start := time.Now()
		for n := 0; n < size; n += len(entries) {
			b.append(entries[:min(len(entries), size-n)]...)
		}
		wrote := time.Since(start)
		start = time.Now()
		v := b.mustVerify(int64(size))
		t.Logf("%s: %d entries written at %.0f a second, 700 a transaction, and checked at %.0f a second", b.db.Engine(), size,
			float64(size)/wrote.Seconds(), float64(size)/time.Since(start).Seconds())
		var leaves []tlog.Hash
		b.read(func(tx *db.Tx) (err error) {
			leaves, err = b.log.Leaves(tx)
			return err
		})
		if want := mustTreeHash(t, leaves); v.Root != want {
			t.Errorf("the root is %s, want %s", v.Root, want)
		}
		for name, sql := range map[string]string{
			"its tile is removed":       "DELETE FROM audit_tile WHERE level = %d AND number = 0",
			"its tile's root is gone":   "UPDATE audit_tile SET root = salt FROM audit_log WHERE level = %d AND number = 0 AND seq = 5",
			"its tile's hashes are cut": "UPDATE audit_tile SET hashes = root WHERE level = %d AND number = 0",
		} {
			t.Run(name, func(t *testing.T) { mustDiffer(t, b.attack(t, statements(fmt.Sprintf(sql, top))), 0) })
		}
		// What search costs must not grow with the log: each way in has its index.
		start = time.Now()
		p := b.search(audit.Query{Org: 7, ResourceType: "message", ResourceID: accepted(699).ResourceID})
		if len(p.Records) != size/len(entries) {
			t.Errorf("found %d entries of one message, want %d", len(p.Records), size/len(entries))
		}
		t.Logf("%d entries of one message found in %s", len(p.Records), time.Since(start))
	})
}

func TestSearchUsesItsIndexes(t *testing.T) {
	b := openBook(t, dbtest.SQLite(t))
	for by, want := range map[string]string{
		"seq":           "USING INTEGER PRIMARY KEY (rowid>?)",
		"time":          "idx_audit_log_timestamp",
		"user":          "idx_audit_log_user",
		"resource type": "idx_audit_log_resource (resource_type=?",
		"resource":      "idx_audit_log_resource (resource_type=? AND resource_id=?",
	} {
		b.read(func(tx *db.Tx) error {
			plan, err := b.log.Plan(tx, by)
			if err != nil || !contains(plan, want) {
				t.Errorf("search by %s: %q, %v; want %q", by, plan, err, want)
			}
			return nil
		})
	}
}

// BenchmarkAppend measures an entry's whole cost on SQLite, 256 in a transaction: row, indexes, tiles, and their part of one fsync.
func BenchmarkAppend(b *testing.B) {
	bk := openBook(b, dbtest.SQLite(b))
	e := accepted(1)
	b.ReportAllocs()
	for b.Loop() {
		err := bk.db.Commit(context.Background(), 1, func(tx *db.Tx) error {
			for range 256 {
				if _, err := bk.log.Append(tx, e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/entry")
}

// BenchmarkLeaf measures what the log itself adds to the insert: check, encoding, hash and edge.
func BenchmarkLeaf(b *testing.B) {
	r := audit.NewRecord(accepted(1))
	b.ReportAllocs()
	for b.Loop() {
		r.Grow()
	}
}

// BenchmarkRecompute measures the check of a log of 20,000 entries.
func BenchmarkRecompute(b *testing.B) {
	bk := openBook(b, dbtest.SQLite(b))
	bk.fill(20000)
	b.ReportAllocs()
	for b.Loop() {
		bk.mustVerify(20000)
	}
	b.ReportMetric(20000*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}
