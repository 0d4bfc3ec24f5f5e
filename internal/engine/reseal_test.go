package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// sealedUnder counts the sealed values of a table by their key.
func (h *house) sealedUnder(sql string) map[seal.KeyID]int {
	h.t.Helper()
	used := map[seal.KeyID]int{}
	err := h.db.Read(context.Background(), func(tx *db.Tx) error {
		rows, err := tx.Query(sql)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var sealed []byte
			if err := rows.Scan(&sealed); err != nil {
				return err
			}
			id, ok := seal.KeyOf(sealed)
			if !ok {
				return errors.New("a value is not sealed")
			}
			used[id]++
		}
		return rows.Err()
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return used
}

const (
	allContent  = `SELECT sealed FROM content`
	allAttempts = `SELECT sealed FROM attempt`
	allHeaders  = `SELECT header FROM message`
)

// Data keys are renewed; the walk is broken off after any of its batches, and the process with it; everything can be read at
// every moment, and in the end all of it lies under the fresh key.
func TestSealingAnewGoesOnAfterACrash(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		d, w := newDoor(), newWard()
		program := steps(t, "EVN-5", "invented")
		build := func() []engine.Channel {
			return channel(d, nil, destination("lab", w, func(d *engine.Destination) { d.Steps = program }))
		}
		h := start(t, address, keys, build())
		const n = 150 // three batches of each kind
		for i := range n {
			d.mustSend(t, adt(fmt.Sprint("C", i), fmt.Sprint("P", i)))
		}
		w.wait(t, n)
		h.settled(t)
		var before seal.KeyID
		for id := range h.sealedUnder(allContent) {
			before = id
		}
		if got := h.sealedUnder(allAttempts)[before]; got != n {
			t.Fatalf("%d attempts were kept, want %d", got, n)
		}
		h.stop()

		ring := openRing(t, keys)
		if _, err := ring.Renew(t.Context(), before.Org()); err != nil {
			t.Fatal(err)
		}
		ring.Close()

		h = start(t, address, keys, build())
		broken := 0
		for resume := false; ; resume = true {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := h.engine.Resealer().Reseal(ctx, resume, func(done, total int64) {
				if done > total {
					t.Errorf("%d of %d are done", done, total)
				}
				cancel() // one batch a life
			})
			asked := ctx.Err() != nil // for an end: how the database says so differs
			cancel()
			for i := 0; i < n; i += 37 {
				m := h.find(fmt.Sprint("C", i))
				detail, err := h.engine.Show(context.Background(), clerk(), m.ID)
				if err != nil || string(detail.Content) != adt(fmt.Sprint("C", i), fmt.Sprint("P", i)) || len(detail.Sent["lab"]) == 0 {
					t.Fatalf("after %d breaks, message %d: %v", broken, i, err)
				}
			}
			left, uerr := h.engine.Resealer().Unfinished(t.Context())
			if uerr != nil || left != (err != nil) {
				t.Fatalf("unfinished %v, %v, after %v", left, uerr, err)
			}
			if err == nil {
				break
			}
			if !asked {
				t.Fatal(err)
			}
			if broken++; broken == 4 {
				h.stop()
				h = start(t, address, keys, build())
			}
			if broken > 50 {
				t.Fatal("it does not come to an end")
			}
		}
		if broken < 6 {
			t.Errorf("it was broken off %d times only", broken)
		}
		for what, sql := range map[string]string{"content": allContent, "attempts": allAttempts, "headers": allHeaders} {
			used := h.sealedUnder(sql)
			if used[before] != 0 || len(used) != 1 {
				t.Errorf("%s lie under %v, and %d under the retired key", what, used, used[before])
			}
		}
		// Twice does nothing more.
		if changed, err := h.engine.Resealer().Reseal(t.Context(), false, nil); err != nil || changed != 0 {
			t.Errorf("once more: %d, %v", changed, err)
		}
		h.verify()
	})
}
