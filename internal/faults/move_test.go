//go:build faults

package faults_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lazaret-health/lazaret/internal/faults"
)

// TestPowerLossWhileTheLogIsMoved takes so much that the write-ahead log is moved into the file and used again from its
// beginning, and cuts the power around each sync of the file. A log that is overwritten before the file is synced loses here.
func TestPowerLossWhileTheLogIsMoved(t *testing.T) {
	const n = 70
	r := record(t, 1, n, 700<<10)
	acks := r.acks
	lot := rand.New(rand.NewPCG(5, 6))
	var cuts []faults.Moment
	first, busy := 0, 0 // moments of syncs before the first acknowledgement, and while messages came
	for _, at := range r.disk.Of(faults.Sync, "l.db") {
		if at <= acks[0] {
			first++
			continue
		}
		if at < acks[n-1] {
			busy++
		}
		for _, away := range []faults.Moment{-3, 0, 1, 3, 40} {
			cuts = append(cuts, max(acks[0], min(at+away, r.disk.End())))
		}
	}
	if busy == 0 {
		t.Fatal("the log was not moved while messages came")
	}
	for range 8 {
		cuts = append(cuts, acks[0]+faults.Moment(lot.IntN(int(r.disk.End()-acks[0]))))
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	for _, at := range cuts {
		for _, u := range []faults.Unsynced{faults.Lost, faults.Torn} {
			if err := r.lose(t, at, u, lot, nil); err != nil {
				t.Errorf("the power went at moment %d, unsynced writes were %s: %v", at, u, err)
			}
		}
	}
	t.Logf("the power went %d times, around %d syncs of the file", 2*len(cuts), busy/2)
	// With a file that is not synced any more once messages come, something must be missing: else the moments are badly chosen.
	for _, at := range cuts {
		seen := 0
		ignore := func(file string) bool {
			if file != "l.db" {
				return false
			}
			seen++
			return seen > first/2
		}
		if r.lose(t, at, faults.Lost, lot, ignore) != nil {
			return
		}
	}
	t.Error("nobody noticed that the file was not synced before its log was used again")
}
