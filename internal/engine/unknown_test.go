package engine_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// TestAnUnknownOutcomeIsLookedUp: where the database does not say whether it kept a commit, the message is looked up before it is
// answered, be it new, a duplicate or rejected.
func TestAnUnknownOutcomeIsLookedUp(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		d := newDoor()
		var stage atomic.Uint32 // at which the next commit breaks; 0: none does
		breakAt := func(s db.Stage) { stage.Store(uint32(s)) }
		off := func(d *engine.Destination) { d.Enabled = false } // no commits but those of the door
		h := start(t, address, keys, channel(d, func(c *engine.Channel) {
			c.Admit.Duplicates, c.Admit.Types = time.Hour, []string{"ADT"}
		}, destination("lab", newWard(), off)), func(c *db.Config) {
			c.Fault = func(at db.Stage) error {
				if stage.CompareAndSwap(uint32(at), 0) {
					return errors.Join(db.ErrOutcomeUnknown, errors.New("the connection broke"))
				}
				return nil
			}
		})
		for _, tc := range []struct {
			name  string
			in    string
			stage db.Stage
			want  string
			kept  int // messages in all, after it
		}{
			{"a new message that was not kept is to be sent again", adt("C1", "P1"), db.BeforeCommit, "AR", 0},
			{"a new message that was kept is accepted", adt("C1", "P1"), db.AfterCommit, "AA", 1},
			{"a duplicate is answered as the first was, kept or not", adt("C1", "P1"), db.BeforeCommit, "AA", 1},
			{"a duplicate whose entry was kept too", adt("C1", "P1"), db.AfterCommit, "AA", 1},
			{"a rejected message that was kept is answered as rejected", message("ORU^R01", "C2", "P", "2.5.1"), db.AfterCommit, "AR", 2},
			{"one that is not legible and was not kept is to be sent again", "garbage", db.BeforeCommit, "AR", 2},
			{"one that is not legible and was kept is answered as such", "garbage", db.AfterCommit, "AE", 3},
		} {
			breakAt(tc.stage)
			answer, err := d.send(tc.in)
			a := mustAnswer(t, answer, err, tc.want)
			if stage.Load() != 0 {
				t.Fatalf("%s: nothing broke", tc.name)
			}
			if got := len(h.list(engine.Query{})); got != tc.kept {
				t.Errorf("%s: %d messages are kept, want %d; answered %+v", tc.name, got, tc.kept, a)
			}
		}
		if _, err := h.engine.Show(context.Background(), clerk(), h.find("C1").ID); err != nil {
			t.Error(err)
		}
		h.verify()
	})
}
