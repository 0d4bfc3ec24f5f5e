package db_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
)

// TestABackupIsOneStateWhileOthersWrite copies while writers run, and holds the copy against what look saw: not one row more
// or less.
func TestABackupIsOneStateWhileOthersWrite(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, address string) {
		ctx := context.Background()
		d := open(t, address)
		for range 200 {
			if _, err := add(d, strings.Repeat("before ", 100)); err != nil {
				t.Fatal(err)
			}
		}
		stop := make(chan struct{})
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := add(d, strings.Repeat("meanwhile ", 100)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for round := range 3 {
			var next, size int64
			var migrations []db.Migration
			var copied bytes.Buffer
			err := d.Backup(ctx, func(tx *db.Tx, n int64) error {
				line, err := tx.Line()
				if err != nil {
					return err
				}
				next, size = line.Next, n
				migrations, err = tx.Migrations()
				return err
			}, &slow{w: &copied})
			if err != nil {
				t.Fatal(err)
			}
			if d.Engine() == db.SQLite && int64(copied.Len()) != size {
				t.Errorf("%d bytes were announced and %d written", size, copied.Len())
			}
			if len(migrations) < 2 || migrations[len(migrations)-1].Room != "test" {
				t.Errorf("migrations: %v", migrations)
			}
			other, err := db.Scratch(address, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			aside, err := db.Restore(ctx, restoring(t, other, copied.Bytes(), nil))
			if err != nil || aside != "" {
				t.Fatal(aside, err)
			}
			back := open(t, other)
			list := numbers(t, back)
			mustBeWhole(t, list, len(list))
			if last := list[len(list)-1]; last != next-1 {
				t.Errorf("round %d: the copy ends with number %d, and look saw %d", round, last, next-1)
			}
			back.Close()
			if err := db.Drop(ctx, other); err != nil {
				t.Error(err)
			}
		}
		close(stop)
		writers.Wait()
		// The log moves again, and what came meanwhile is there.
		list := numbers(t, d)
		mustBeWhole(t, list, len(list))
	})
}

// slow gives the writers time.
type slow struct {
	w      io.Writer
	writes int
}

func (s *slow) Write(p []byte) (int, error) {
	if s.writes++; s.writes < 5 {
		time.Sleep(20 * time.Millisecond)
	}
	return s.w.Write(p)
}

func restoring(t *testing.T, url string, content []byte, check func(context.Context, string) error) db.Restoring {
	c := dbtest.Config(t, url)
	return db.Restoring{URL: url, Now: c.Now, Log: c.Log, Check: check, Fill: func(_ context.Context, w io.Writer) error {
		_, err := w.Write(content)
		return err
	}}
}

// TestARestoreIsWholeOrNotThere fails a restore at each place, with and without a database that stands there already.
func TestARestoreIsWholeOrNotThere(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, address string) {
		ctx := context.Background()
		d := open(t, address)
		for i := range 5 {
			if _, err := add(d, fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		var copied bytes.Buffer
		if err := d.Backup(ctx, func(*db.Tx, int64) error { return nil }, &copied); err != nil {
			t.Fatal(err)
		}
		broken := errors.New("broken")
		for _, c := range []struct {
			name    string
			there   bool
			replace bool
			fill    func(w io.Writer) error
			check   error
			want    error
		}{
			{name: "a source that ends early leaves nothing", fill: func(w io.Writer) error {
				w.Write(copied.Bytes()[:copied.Len()/2])
				return broken
			}, want: broken},
			{name: "a source that fails behind its last byte leaves nothing", fill: func(w io.Writer) error {
				w.Write(copied.Bytes()[:copied.Len()-1])
				return broken
			}, want: broken},
			{name: "a check that finds something leaves nothing", check: broken, want: broken},
			{name: "what stands there is not overwritten", there: true, want: db.ErrExists},
			{name: "what stands there stays when the source fails", there: true, replace: true, fill: func(io.Writer) error { return broken }, want: broken},
			{name: "what stands there stays when the check fails", there: true, replace: true, check: broken, want: broken},
			{name: "what stands there is put aside when it is asked for", there: true, replace: true},
		} {
			t.Run(c.name, func(t *testing.T) {
				dir := t.TempDir()
				url, err := db.Scratch(address, dir)
				if err != nil {
					t.Fatal(err)
				}
				defer db.Drop(ctx, url)
				if c.there {
					if _, err := db.Restore(ctx, restoring(t, url, copied.Bytes(), nil)); err != nil {
						t.Fatal(err)
					}
					old := open(t, url)
					if _, err := add(old, "only here"); err != nil {
						t.Fatal(err)
					}
					old.Close()
				}
				r := restoring(t, url, copied.Bytes(), func(context.Context, string) error { return c.check })
				r.Replace = c.replace
				if c.fill != nil {
					r.Fill = func(_ context.Context, w io.Writer) error { return c.fill(w) }
				}
				aside, err := db.Restore(ctx, r)
				if !errors.Is(err, c.want) {
					t.Fatalf("got %v, want %v", err, c.want)
				}
				if d.Engine() == db.SQLite {
					left, _ := filepath.Glob(filepath.Join(dir, "*.restoring*"))
					if len(left) > 0 {
						t.Errorf("left behind: %v", left)
					}
					if _, err := os.Stat(strings.TrimPrefix(url, "sqlite:")); !c.there && err == nil {
						t.Error("a database is there after an error")
					}
				}
				if !c.there {
					return
				}
				want := 6
				if err == nil {
					want = 5
					if aside == "" {
						t.Error("the old database is said to be nowhere")
					}
				}
				now := open(t, url)
				if list := numbers(t, now); len(list) != want {
					t.Errorf("%d rows are there, want %d", len(list), want)
				}
				now.Close()
				if aside != "" {
					other := "sqlite:" + aside
					if d.Engine() == db.PostgreSQL {
						other = url[:strings.LastIndex(url, "/")+1] + aside
						if at := strings.Index(url, "?"); at > 0 {
							other += url[at:]
						}
					}
					old := open(t, other)
					if list := numbers(t, old); len(list) != 6 {
						t.Errorf("the database that was put aside has %d rows", len(list))
					}
					old.Close()
					db.Drop(ctx, other)
				}
			})
		}
		t.Run("a database in use is not replaced", func(t *testing.T) {
			if d.Engine() != db.SQLite {
				return // PostgreSQL itself refuses to rename a database that has sessions
			}
			r := restoring(t, address, copied.Bytes(), nil)
			r.Replace = true
			if _, err := db.Restore(ctx, r); !errors.Is(err, db.ErrInUse) {
				t.Errorf("got %v", err)
			}
		})
	})
}
