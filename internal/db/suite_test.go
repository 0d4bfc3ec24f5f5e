package db_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var things = db.NewTable("thing",
	db.Column{Name: "number", Kind: db.Int}, db.Column{Name: "id", Kind: db.UUID}, db.Column{Name: "name", Kind: db.Text},
	db.Column{Name: "body", Kind: db.Bytes}, db.Column{Name: "at", Kind: db.Time}, db.Column{Name: "addr", Kind: db.Inet})

var thingSchema = fstest.MapFS{
	"schema/0001_thing.sqlite.sql": {Data: []byte(`CREATE TABLE thing (number INTEGER PRIMARY KEY, id BLOB, name TEXT,
		body BLOB, at INTEGER, addr TEXT);`)},
	"schema/0001_thing.postgres.sql": {Data: []byte(`CREATE TABLE thing (number BIGINT PRIMARY KEY, id UUID, name TEXT,
		body BYTEA, at TIMESTAMPTZ, addr INET);`)},
}

func open(t *testing.T, address string, change ...func(*db.Config)) *db.DB {
	t.Helper()
	c := dbtest.Config(t, address)
	for _, f := range change {
		f(&c)
	}
	d := dbtest.Open(t, c)
	if err := d.Migrate(context.Background(), "test", thingSchema); err != nil {
		t.Fatal(err)
	}
	return d
}

// add puts a row under the next number.
func add(d *db.DB, name string) (number int64, err error) {
	err = d.Commit(context.Background(), len(name), func(tx *db.Tx) error {
		line, err := tx.Line()
		if err != nil {
			return err
		}
		number = line.Take(1)
		return tx.Insert(things, number, d.NewID(), name, []byte(name), tx.Now(), "10.1.2.3")
	})
	return number, err
}

func numbers(t *testing.T, d *db.DB) (list []int64) {
	t.Helper()
	err := d.Read(context.Background(), func(tx *db.Tx) error {
		rows, err := tx.Query("SELECT number FROM thing ORDER BY number")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var n int64
			if err := rows.Scan(&n); err != nil {
				return err
			}
			list = append(list, n)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func mustBeWhole(t *testing.T, list []int64, want int) {
	t.Helper()
	if len(list) != want {
		t.Fatalf("%d rows, want %d", len(list), want)
	}
	for i, n := range list {
		if n != int64(i+1) {
			t.Fatalf("row %d has number %d: the line has a gap", i+1, n)
		}
	}
}

func TestValuesComeBackUnchanged(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, address string) {
		d := open(t, address)
		id, at := d.NewID(), time.Date(2026, 3, 1, 12, 30, 15, 123456789, time.FixedZone("", 3600)).Truncate(time.Microsecond)
		err := d.Commit(context.Background(), 0, func(tx *db.Tx) error {
			if err := tx.Insert(things, int64(1), id, "Grüße", []byte{0, 1, 0xff}, at, "2001:db8::1"); err != nil {
				return err
			}
			return tx.Insert(things, int64(2), nil, nil, nil, nil, nil)
		})
		if err != nil {
			t.Fatal(err)
		}
		type row struct {
			n    int64
			id   db.ID
			name string
			body []byte
			at   time.Time
		}
		read := func(n int64) (r row) {
			err := d.Read(context.Background(), func(tx *db.Tx) error {
				return tx.QueryRow("SELECT number, id, name, body, at FROM thing WHERE number = $1", []any{n},
					&r.n, &r.id, &r.name, &r.body, &r.at)
			})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		r := read(1)
		if r.id != id || r.name != "Grüße" || string(r.body) != "\x00\x01\xff" || !r.at.Equal(at) || r.at.Location() != time.UTC {
			t.Errorf("read back %+v", r)
		}
		if r := read(2); !r.id.IsZero() || r.name != "" || r.body != nil || !r.at.IsZero() {
			t.Errorf("NULL became %+v", r)
		}
	})
}

func TestNumbersHaveNoGapsUnderConcurrency(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, address string) {
		d := open(t, address)
		const senders, each = 16, 40
		var wg sync.WaitGroup
		var failed atomic.Int64
		for s := range senders {
			wg.Go(func() {
				for i := range each {
					if _, err := add(d, fmt.Sprintf("s%d-%d", s, i)); err != nil {
						failed.Add(1)
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		mustBeWhole(t, numbers(t, d), senders*each)
	})
}

func TestNumbersBecomeVisibleInOrderOverReplicas(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, address string) {
		a := open(t, address)
		b := a
		if a.Engine() == db.PostgreSQL {
			b = open(t, address) // a second replica; SQLite has one process
		}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for _, d := range []*db.DB{a, b} {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						if _, err := add(d, "x"); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		// A reader that only ever asks for what is greater than its last must see every number.
		last := int64(0)
		for range 60 {
			list := numbers(t, a)
			for _, n := range list {
				if n > last {
					if n != last+1 {
						t.Errorf("number %d appeared after %d", n, last)
					}
					last = n
				}
			}
		}
		close(stop)
		wg.Wait()
	})
}

func TestAPoisonedChangeFailsAlone(t *testing.T) {
	own := errors.New("not this one")
	poisons := []struct {
		name  string
		apply func(tx *db.Tx) error
		want  error
	}{
		{"its own error", func(*db.Tx) error { return own }, own},
		{"text that PostgreSQL refuses", func(tx *db.Tx) error {
			return tx.Insert(things, int64(900000), nil, "a\x00b", nil, nil, nil)
		}, nil},
		{"a number that is taken", func(tx *db.Tx) error { return tx.Insert(things, int64(1), nil, "twice", nil, nil, nil) }, nil},
		{"a guarded change that touched nothing", func(tx *db.Tx) error {
			return tx.ExecLater(1, own, "UPDATE thing SET name = 'x' WHERE number = $1", int64(-5))
		}, own},
	}
	dbtest.Each(t, func(t *testing.T, address string) {
		d := open(t, address)
		if _, err := add(d, "first"); err != nil {
			t.Fatal(err)
		}
		count := 1
		for _, p := range poisons {
			var wg sync.WaitGroup
			for i := range 24 {
				wg.Go(func() {
					if i != 7 {
						if _, err := add(d, "well"); err != nil {
							t.Errorf("beside %s: %v", p.name, err)
						}
						return
					}
					err := d.Commit(context.Background(), 0, p.apply)
					if err == nil || p.want != nil && !errors.Is(err, p.want) {
						t.Errorf("%s: %v", p.name, err)
					}
				})
			}
			wg.Wait()
			count += 23
		}
		mustBeWhole(t, numbers(t, d), count)
	})
}

func TestAFailedCommitTellsTheTruth(t *testing.T) {
	broken := errors.New("broken by the test")
	for _, c := range []struct {
		name  string
		stage db.Stage
		want  error
		kept  int
	}{
		{"before COMMIT nothing is kept, and the caller is told so", db.BeforeCommit, broken, 0},
		{"after COMMIT the row is kept, and the caller is told that it is not known", db.AfterCommit, db.ErrOutcomeUnknown, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, address string) {
				var armed atomic.Bool
				d := open(t, address, func(cfg *db.Config) {
					cfg.Fault = func(s db.Stage) error {
						if armed.Load() && s == c.stage {
							return broken
						}
						return nil
					}
				})
				armed.Store(true)
				if _, err := add(d, "x"); !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				armed.Store(false)
				if got := len(numbers(t, d)); got != c.kept {
					t.Errorf("%d rows were kept, want %d", got, c.kept)
				}
				if _, err := add(d, "after"); err != nil {
					t.Errorf("the next change: %v", err)
				}
				mustBeWhole(t, numbers(t, d), c.kept+1)
			})
		})
	}
}

func TestAReadSeesOneMoment(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, address string) {
		d := open(t, address)
		add(d, "one")
		err := d.Read(context.Background(), func(tx *db.Tx) error {
			var before, after int64
			if err := tx.QueryRow("SELECT count(*) FROM thing", nil, &before); err != nil {
				return err
			}
			if _, err := add(d, "two"); err != nil {
				return err
			}
			if err := tx.QueryRow("SELECT count(*) FROM thing", nil, &after); err != nil {
				return err
			}
			if before != 1 || after != 1 {
				t.Errorf("counted %d, then %d", before, after)
			}
			if _, err := tx.Exec("DELETE FROM thing"); err == nil {
				t.Error("a read-only snapshot wrote")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestACallerThatGivesUpWritesNothingLater(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, address string) {
		d := open(t, address)
		gate, entered := make(chan struct{}), make(chan struct{})
		leader := make(chan error, 1)
		go func() {
			leader <- d.Commit(context.Background(), 0, func(*db.Tx) error {
				close(entered)
				<-gate
				return nil
			})
		}()
		<-entered
		ctx, cancel := context.WithCancel(context.Background())
		waiting := make(chan error, 1)
		go func() {
			waiting <- d.Commit(ctx, 0, func(tx *db.Tx) error { return tx.Insert(things, int64(5), nil, "late", nil, nil, nil) })
		}()
		time.Sleep(20 * time.Millisecond)
		cancel()
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Errorf("the one who gave up: %v", err)
		}
		close(gate)
		if err := <-leader; err != nil {
			t.Error(err)
		}
		if n := len(numbers(t, d)); n != 0 {
			t.Errorf("%d rows were written for a caller that had gone", n)
		}
	})
}

func TestMigrationsRunOnceAndRefuseAnotherBuild(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, address string) {
		d := open(t, address)
		ctx := context.Background()
		if err := d.Migrate(ctx, "test", thingSchema); err != nil {
			t.Errorf("again: %v", err)
		}
		changed := fstest.MapFS{}
		for n, f := range thingSchema {
			changed[n] = &fstest.MapFile{Data: append([]byte("-- other\n"), f.Data...)}
		}
		if err := d.Migrate(ctx, "test", changed); err == nil {
			t.Error("a changed file was taken")
		}
		bad := fstest.MapFS{"schema/0001_bad.sql": {Data: []byte("CREATE TABLE half (a BIGINT); CREATE TABEL broken (a BIGINT);")}}
		if err := d.Migrate(ctx, "bad", bad); err == nil {
			t.Error("a broken file was taken")
		}
		err := d.Read(ctx, func(tx *db.Tx) error {
			var n int64
			return tx.QueryRow("SELECT count(*) FROM half", nil, &n)
		})
		if err == nil {
			t.Error("half of a broken migration stayed")
		}
	})
}

func TestNothingIsWrittenAfterClose(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, address string) {
		d := open(t, address)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := add(d, "x"); !errors.Is(err, db.ErrStopped) {
			t.Errorf("got %v", err)
		}
	})
}

func BenchmarkCommit(b *testing.B) {
	for _, senders := range []int{1, 64} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			d := dbtest.Open(b, dbtest.Config(b, dbtest.SQLite(b)))
			if err := d.Migrate(context.Background(), "test", thingSchema); err != nil {
				b.Fatal(err)
			}
			var wg sync.WaitGroup
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			for range senders {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := add(d, "x"); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

func TestWhatAGroupGathersIsWrittenOnceAndToldOnlyWhenKept(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, address string) {
		var failing atomic.Bool
		d := open(t, address, func(c *db.Config) {
			c.Fault = func(s db.Stage) error {
				if failing.Load() && s == db.BeforeCommit {
					return errors.New("broken by the test")
				}
				return nil
			}
		})
		var told atomic.Int64
		key := new(int)
		one := func() error {
			return d.Commit(context.Background(), 0, func(tx *db.Tx) error {
				names := tx.Shared(key, func() any {
					names := new([]string)
					tx.AtEnd(func(tx *db.Tx) error {
						line, err := tx.Line()
						if err != nil {
							return err
						}
						return tx.Insert(things, line.Take(1), nil, fmt.Sprint(len(*names)), nil, nil, nil)
					})
					tx.OnCommit(func() { told.Add(int64(len(*names))) })
					return names
				}).(*[]string)
				*names = append(*names, "x")
				return nil
			})
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := one(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if told.Load() != 20 {
			t.Errorf("told of %d", told.Load())
		}
		failing.Store(true)
		if err := one(); err == nil {
			t.Error("a failed commit was told as kept")
		}
		if told.Load() != 20 {
			t.Error("a failed commit was told")
		}
	})
}
