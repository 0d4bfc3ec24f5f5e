//go:build faults

package faults_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
)

var rounds = flag.Int("rounds", 30, "how often the service is killed on SQLite; on PostgreSQL a third of it")

// TestKill kills the service at random moments under load, again and again, and compares what it acknowledged with its database
// and with the ledgers of its receivers.
func TestKill(t *testing.T) {
	program := build(t)
	t.Run("SQLite", func(t *testing.T) {
		kill(t, program, "sqlite:"+filepath.Join(t.TempDir(), "lazaret.db"), *rounds, func() {})
	})
	if os.Getenv(dbtest.Variable) != "" {
		t.Run("PostgreSQL", func(t *testing.T) {
			database := dbtest.PostgreSQL(t)
			// The successor would wait a minute for the dead process to have sent its last; the test knows that it has.
			kill(t, program, database, (*rounds+2)/3, func() { passLeases(t, database) })
		})
	}
}

func kill(t *testing.T, program, database string, rounds int, died func()) {
	strict, at := listen(t, 1)
	patient, other := listen(t, 2)
	s := newService(t, program, database, at, other)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	lot := rand.New(rand.NewPCG(seed, 0))
	s.start()
	l := startLoad(s.address)
	defer l.stop()
	for round := range rounds {
		if round%6 == 5 {
			time.Sleep(time.Duration(lot.IntN(60)) * time.Millisecond) // while it starts
		} else {
			l.wait(t, 1+lot.IntN(150))
			time.Sleep(time.Duration(lot.IntN(3000)) * time.Microsecond)
		}
		s.kill()
		died()
		s.configure(round + 1) // what was under way is repeated as it was, not as the new settings would have it
		s.start()
	}
	l.wait(t, 50)
	l.stop()
	l.arrived(t, strict, patient)
	s.end()
	repeats := s.mustHold(database, l, strict, patient)
	t.Logf("killed %d times: %d messages taken, %d tries were not, %d deliveries repeated and marked", rounds, l.total(), l.again.Load(), repeats)
}

func passLeases(t *testing.T, database string) {
	t.Helper()
	d, err := db.Open(context.Background(), dbtest.Config(t, database))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	err = d.Commit(context.Background(), 0, func(tx *db.Tx) error {
		var n int64 // the first process may have died before it made its tables
		if err := tx.QueryRow(`SELECT count(*) FROM pg_class WHERE relname = 'queue' AND relkind = 'r'`, nil, &n); err != nil || n == 0 {
			return err
		}
		_, err := tx.Exec(`UPDATE queue SET lease_until = 0`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestStop asks the service to stop, again and again: then nothing is repeated either.
func TestStop(t *testing.T) {
	strict, at := listen(t, 3)
	patient, other := listen(t, 4)
	database := "sqlite:" + filepath.Join(t.TempDir(), "lazaret.db")
	s := newService(t, build(t), database, at, other)
	s.start()
	l := startLoad(s.address)
	defer l.stop()
	lot := rand.New(rand.NewPCG(8, 8))
	for range 6 {
		l.wait(t, 1+lot.IntN(150))
		s.end()
		s.start()
	}
	l.wait(t, 50)
	l.stop()
	l.arrived(t, strict, patient)
	s.end()
	if n := s.mustHold(database, l, strict, patient); n != 0 {
		t.Errorf("%d deliveries were repeated, and nobody was killed", n)
	}
}
