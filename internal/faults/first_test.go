//go:build faults

package faults_test

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

// TestKillOfTheFirstStart kills services that are making their keys and tables. The next start must find its way, and not lock
// itself out with half a key.
func TestKillOfTheFirstStart(t *testing.T) {
	program := build(t)
	receiver, at := listen(t, 5)
	lot := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for range 25 {
		database := "sqlite:" + filepath.Join(t.TempDir(), "lazaret.db")
		s := newService(t, program, database, at, at)
		for range 2 {
			s.start()
			time.Sleep(time.Duration(2000+lot.IntN(25000)) * time.Microsecond)
			s.kill()
		}
		s.start()
		l := startLoad(s.address)
		l.wait(t, 3)
		l.stop()
		s.end()
		if t.Failed() {
			return
		}
	}
	if len(receiver.Ledger()) == 0 {
		t.Error("nothing arrived")
	}
}
