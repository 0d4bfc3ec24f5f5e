package engine_test

import (
	"os"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/faults"
)

// TestAServerThatGoesAndComes takes PostgreSQL away from a living engine: connections break, the server is out of reach, and
// statements are cut one after another. The engine goes on without a restart, and every promise holds.
func TestAServerThatGoesAndComes(t *testing.T) {
	if os.Getenv(dbtest.Variable) == "" {
		t.Skip("no " + dbtest.Variable + `: the suite "postgres" runs this`)
	}
	tr := newTrial(t, dbtest.PostgreSQL(t))
	tr.open()
	away := make(chan struct{})
	go func() {
		defer close(away)
		pause := func() { time.Sleep(40 * time.Millisecond) }
		for range 5 {
			pause()
			tr.wire.Drop()
		}
		pause()
		tr.wire.Kill()
		time.Sleep(300 * time.Millisecond)
		tr.wire.Revive()
		for i, sql := range []string{"COMMIT", "UPDATE line", "INSERT INTO delivery", "BEGIN", "COMMIT", "UPDATE queue"} {
			pause()
			tr.wire.Cut(faults.Cut{SQL: sql, Times: 2, Kept: i%2 == 0})
		}
		pause()
		tr.wire.Heal()
	}()
	tr.sendAll(faultSenders * faultEach)
	<-away
	tr.sendAll(faultSenders * faultEach)
	tr.mustHold()
}

// TestADiskThatFailsAndHeals makes writes of the log fail for a while, with and without effect, and lets the engine go on.
func TestADiskThatFailsAndHeals(t *testing.T) {
	tr := newTrial(t, dbtest.SQLite(t))
	tr.open()
	const times = 6
	for i := range times {
		tr.disk.Break(faults.Break{Op: faults.Write, File: "-wal", Kept: i%2 == 0})
		heal := time.AfterFunc(40*time.Millisecond, tr.disk.Heal)
		tr.sendAll(faultSenders * faultEach * (i + 1) / times)
		heal.Stop()
		tr.mustBreak()
	}
	tr.disk.Heal()
	tr.mustHold()
}
