package db_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/faults"
)

// unsaid says that a commit's caller was told nothing that could be wrong.
func unsaid(err error) bool {
	return errors.Is(err, db.ErrOutcomeUnknown) || errors.Is(err, db.ErrStopped)
}

// mustBeTrue checks a commit's word against what a later process finds.
func mustBeTrue(t *testing.T, what string, said error, there bool) {
	t.Helper()
	switch {
	case said == nil && !there:
		t.Errorf("%s: told as kept, and it is not there", what)
	case said != nil && !unsaid(said) && there:
		t.Errorf("%s: told as not kept (%v), and it is there", what, said)
	}
}

// TestACommitsWordHoldsAfterACrash breaks each operation of a commit on SQLite in turn, with and without effect, then kills
// the process.
func TestACommitsWordHoldsAfterACrash(t *testing.T) {
	for _, op := range []faults.Op{faults.Write, faults.Sync} {
		for _, kept := range []bool{false, true} {
			for k, more := 0, true; more; k++ {
				times := 1 - k%2 // every other time the disk stays broken
				what := fmt.Sprintf("operation %d of kind %d, kept=%t, times=%d", k, op, kept, times)
				disk := faults.NewDisk(t)
				address := dbtest.SQLite(t)
				on := func(c *db.Config) { c.VFS = disk.Name() }
				d := open(t, address, on)
				if _, err := add(d, "before"); err != nil {
					t.Fatal(err)
				}
				disk.Break(faults.Break{Op: op, File: "-wal", After: k / 2, Times: times, Kept: kept})
				_, said := add(d, "x")
				if more = disk.Broke() > 0; more && said == nil {
					t.Errorf("%s: told as kept", what)
				}
				if stopped := errors.Is(said, db.ErrStopped); more && stopped != (op == faults.Sync) {
					t.Errorf("%s: %v; a failed sync ends the process, a failed write does not", what, said)
				}
				disk.Kill()
				d.Close()
				disk.Revive()
				d = open(t, address, on)
				list := numbers(t, d)
				mustBeTrue(t, what, said, slices.Contains(list, 2))
				mustBeWhole(t, list, len(list))
				if _, err := add(d, "after"); err != nil {
					t.Errorf("%s: the next process: %v", what, err)
				}
				d.Close()
			}
		}
	}
}

// TestAServersWordHoldsAfterACut cuts the connection to PostgreSQL at each statement of a commit.
func TestAServersWordHoldsAfterACut(t *testing.T) {
	if os.Getenv(dbtest.Variable) == "" {
		t.Skip("no " + dbtest.Variable + ": the suite \"postgres\" runs this")
	}
	for _, cut := range []faults.Cut{
		{SQL: "BEGIN"}, {SQL: "SELECT next"}, {SQL: "INSERT INTO thing"}, {SQL: "UPDATE line"}, {SQL: "COMMIT"}, {SQL: "COMMIT", Panic: true},
	} {
		for _, kept := range []bool{false, true} {
			what := fmt.Sprintf("%s, kept=%t, panic=%t", cut.SQL, kept, cut.Panic)
			t.Run(what, func(t *testing.T) {
				address := dbtest.PostgreSQL(t)
				wire := faults.NewWire(t, address)
				d := open(t, wire.URL())
				if _, err := add(d, "before"); err != nil {
					t.Fatal(err)
				}
				cut.Times, cut.Kept = 1, kept
				wire.Cut(cut)
				_, said := add(d, "x")
				if wire.Cuts() == 0 {
					t.Fatal("the connection was not cut")
				}
				if said == nil {
					t.Error("told as kept")
				}
				wire.Heal()
				if _, err := add(d, "after"); err != nil {
					t.Errorf("the next commit, over a new connection: %v", err)
				}
				d.Close()
				list := numbers(t, open(t, address))
				mustBeTrue(t, what, said, len(list) == 3)
				mustBeWhole(t, list, len(list))
			})
		}
	}
}

// TestAServerWithoutRoomIsNobodysFault: every caller is told the same after one attempt, and with room the next one is kept.
func TestAServerWithoutRoomIsNobodysFault(t *testing.T) {
	if os.Getenv(dbtest.Variable) == "" {
		t.Skip("no " + dbtest.Variable + ": the suite \"postgres\" runs this")
	}
	const refuse = `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM nextval('tries'); RAISE EXCEPTION 'no space' USING ERRCODE = '%s'; END $$`
	for _, c := range []struct {
		code string
		want error
	}{{"53100", db.ErrFull}, {"53200", db.ErrUnavailable}, {"58030", db.ErrUnavailable}, {"57P03", db.ErrUnavailable}, {"25006", db.ErrUnavailable}} {
		t.Run(c.code, func(t *testing.T) {
			d := open(t, dbtest.PostgreSQL(t))
			for _, sql := range []string{`CREATE SEQUENCE tries`, fmt.Sprintf(refuse, c.code),
				`CREATE TRIGGER refuse BEFORE INSERT ON thing EXECUTE FUNCTION refuse()`} {
				exec(t, d, sql)
			}
			gate := heldCommit(t, d)
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					if _, err := add(d, "x"); !errors.Is(err, c.want) {
						t.Errorf("got %v, want %v", err, c.want)
					}
				})
			}
			time.Sleep(50 * time.Millisecond) // they join one group
			close(gate)
			wg.Wait()
			var tries int64
			err := d.Read(context.Background(), func(tx *db.Tx) error { return tx.QueryRow(`SELECT last_value FROM tries`, nil, &tries) })
			if err != nil || tries > 2 {
				t.Errorf("%d attempts for one group, %v", tries, err)
			}
			exec(t, d, `DROP TRIGGER refuse ON thing`)
			if _, err := add(d, "y"); err != nil {
				t.Errorf("with room: %v", err)
			}
		})
	}
}

func exec(t *testing.T, d *db.DB, sql string) {
	t.Helper()
	err := d.Commit(context.Background(), 0, func(tx *db.Tx) error {
		_, err := tx.Exec(sql)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// heldCommit begins a group and holds it until the channel is closed: what comes meanwhile forms the next one.
func heldCommit(t *testing.T, d *db.DB) chan struct{} {
	gate, entered, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		done <- d.Commit(context.Background(), 0, func(*db.Tx) error {
			once.Do(func() { close(entered) })
			<-gate
			return nil
		})
	}()
	<-entered
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Errorf("the group before: %v", err)
		}
	})
	return gate
}

// failSync makes a database whose process ends with a failed fsync, after n rows.
func failSync(t *testing.T, disk *faults.Disk, address string, n int) {
	t.Helper()
	var reported error
	d := open(t, address, func(c *db.Config) {
		c.VFS = disk.Name()
		c.Stopped = func(err error) { reported = err }
	})
	for range n {
		if _, err := add(d, "x"); err != nil {
			t.Fatal(err)
		}
	}
	disk.Break(faults.Break{Op: faults.Sync, File: "-wal", Times: 1})
	if _, err := add(d, "lost"); !errors.Is(err, db.ErrStopped) {
		t.Errorf("the commit whose fsync failed: %v", err)
	}
	if reported == nil {
		t.Error("the failed fsync was not reported")
	}
	disk.Heal()
	if _, err := add(d, "after"); !errors.Is(err, db.ErrStopped) {
		t.Errorf("a commit after a failed fsync: %v, although the disk is well again", err)
	}
	d.Close()
}

func TestTheStartAfterAFailedFsyncCopies(t *testing.T) {
	for _, c := range []struct {
		name   string
		broken *faults.Break
		spoil  func(t *testing.T, path string)
		want   string // "": it starts
	}{
		{name: "what is legible is copied into new files"},
		{name: "a copy that cannot be written is refused", broken: &faults.Break{Op: faults.Write, File: ".new"}, want: "did not succeed"},
		{name: "a copy that cannot be synced is refused", broken: &faults.Break{Op: faults.Sync, File: ".new"}, want: "did not succeed"},
		{name: "files that are not legible are refused", spoil: spoil, want: "did not succeed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk, address := faults.NewDisk(t), dbtest.SQLite(t)
			path := strings.TrimPrefix(address, "sqlite:")
			failSync(t, disk, address, 20)
			if c.broken != nil {
				disk.Break(*c.broken)
			}
			if c.spoil != nil {
				c.spoil(t, path)
			}
			cfg := dbtest.Config(t, address)
			cfg.VFS = disk.Name()
			if c.want != "" {
				d, err := db.Open(context.Background(), cfg)
				if err == nil {
					d.Close()
					t.Fatal("it started on files that the disk may not hold")
				}
				if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "lazaret.db") {
					t.Errorf("refused with %q", err)
				}
				if _, err := os.Stat(path + ".fsync-failed"); err != nil {
					t.Errorf("the note is gone after a refusal: %v", err)
				}
				if c.spoil != nil {
					return
				}
				disk.Heal()
			}
			d := open(t, address, func(cfg *db.Config) { cfg.VFS = disk.Name() })
			list := numbers(t, d)
			mustBeWhole(t, list, len(list))
			if len(list) < 20 {
				t.Errorf("%d rows, and 20 were told as kept", len(list))
			}
		})
	}
}

// TestACopyThatWasCutShortGoesOn leaves the files as a crash at each step of the copying does.
func TestACopyThatWasCutShortGoesOn(t *testing.T) {
	rename := func(t *testing.T, from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		leave func(t *testing.T, path, copied string) // copied is a whole copy, under a name of no meaning
	}{
		{"half a copy is there", func(t *testing.T, path, copied string) {
			b, err := os.ReadFile(copied)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path+".new", b[:len(b)/2], 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"the copy is whole", func(t *testing.T, path, copied string) { rename(t, copied, path+".copied") }},
		{"the old file is aside, its log is not", func(t *testing.T, path, copied string) {
			rename(t, copied, path+".copied")
			rename(t, path, path+".suspect-1")
		}},
		{"the old files are aside", func(t *testing.T, path, copied string) {
			rename(t, copied, path+".copied")
			for _, end := range []string{"", "-wal", "-shm"} {
				rename(t, path+end, path+".suspect-1"+end)
			}
		}},
		{"all is done but for the note", func(t *testing.T, path, copied string) {
			for _, end := range []string{"", "-wal", "-shm"} {
				rename(t, path+end, path+".suspect-1"+end)
			}
			rename(t, copied, path)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			// A run of its own makes the whole copy; the note and the old files are then put back.
			disk, address := faults.NewDisk(t), dbtest.SQLite(t)
			path := strings.TrimPrefix(address, "sqlite:")
			failSync(t, disk, address, 20)
			old := t.TempDir()
			copyFiles(t, filepath.Dir(path), old)
			open(t, address).Close()
			copied := path + ".elsewhere"
			rename(t, path, copied)
			for _, f := range []string{"", "-wal", "-shm"} {
				os.Remove(path + f)
			}
			copyFiles(t, old, filepath.Dir(path))
			c.leave(t, path, copied)
			d := open(t, address)
			list := numbers(t, d)
			mustBeWhole(t, list, len(list))
			if len(list) < 20 {
				t.Errorf("%d rows, and 20 were told as kept", len(list))
			}
			d.Close()
			for _, f := range []string{".fsync-failed", ".new", ".copied"} {
				if _, err := os.Stat(path + f); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is still there", f)
				}
			}
		})
	}
}

func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, f.Name()), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// spoil overwrites the middle of the database and its log.
func spoil(t *testing.T, path string) {
	t.Helper()
	for _, name := range []string{path, path + "-wal"} {
		info, err := os.Stat(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, info.Size()), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAFailedFsyncAtTheEndIsNotForgotten: closing moves the log into the file, and a failed fsync then counts like any other.
func TestAFailedFsyncAtTheEndIsNotForgotten(t *testing.T) {
	disk, address := faults.NewDisk(t), dbtest.SQLite(t)
	path := strings.TrimPrefix(address, "sqlite:")
	on := func(c *db.Config) { c.VFS = disk.Name() }
	d := open(t, address, on)
	for range 20 {
		if _, err := add(d, "x"); err != nil {
			t.Fatal(err)
		}
	}
	disk.Break(faults.Break{Op: faults.Sync, File: ".db"})
	if err := d.Close(); err == nil {
		t.Error("it closed as if all was well")
	}
	if disk.Broke() == 0 {
		t.Fatal("the file was not synced at the end")
	}
	if _, err := os.Stat(path + ".fsync-failed"); err != nil {
		t.Errorf("no note was left: %v", err)
	}
	disk.Heal()
	d = open(t, address, on)
	mustBeWhole(t, numbers(t, d), 20)
	if old, _ := filepath.Glob(path + ".suspect-*"); len(old) == 0 {
		t.Error("the next start trusted the files")
	}
}
