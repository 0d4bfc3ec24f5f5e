package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/faults"
)

// TestAFullDiskIsTheReceiversFault: what cannot be kept is answered AR (CE in enhanced mode), for the message is not at fault;
// nothing that was taken is lost or comes again and again; and with room the same engine goes on.
func TestAFullDiskIsTheReceiversFault(t *testing.T) {
	disk, d, w := faults.NewDisk(t), newDoor(), newWard()
	h := start(t, dbtest.SQLite(t), t.TempDir(), channel(d, func(c *engine.Channel) { c.Admit.Duplicates = time.Hour }, destination("strict", w)),
		func(c *db.Config) { c.VFS = disk.Name() })
	n := 0
	send := func(code string) string {
		t.Helper()
		answer, err := d.send(adt(fmt.Sprintf("S0-%d", n), "P1"))
		if err != nil {
			t.Fatalf("message %d: the connection was closed: %v", n, err)
		}
		got, _, _ := strings.Cut(answer[strings.Index(answer, "\rMSA|")+5:], "|")
		if code != "" && got != code {
			t.Fatalf("message %d was answered %s, want %s", n, got, code)
		}
		if got == "AA" {
			n++
		} else if !strings.Contains(answer, "207") {
			t.Errorf("the refusal does not name error 207: %q", answer)
		}
		return got
	}
	for range 20 {
		send("AA")
	}
	disk.Fill(100 << 10)
	taken := 0
	for send("") == "AA" {
		if taken++; taken > 1000 {
			t.Fatal("the disk does not become full")
		}
	}
	for range 20 {
		send("AR")
	}
	enhanced := strings.Replace(adt("E1", "P1"), "|P|2.5.1\r", "|P|2.5.1|||AL|NE\r", 1)
	if answer, err := d.send(enhanced); err != nil || !strings.Contains(answer, "\rMSA|CE|E1") {
		t.Errorf("in enhanced mode it is answered %q, %v", answer, err)
	}
	time.Sleep(2500 * time.Millisecond) // the queue tries to store its results meanwhile
	times := map[string]int{}
	for _, b := range w.got() {
		times[b]++
	}
	for b, n := range times {
		if n > 2 {
			t.Errorf("the receiver got a message %d times while the disk was full: %q", n, b[:60])
		}
	}
	if h.db.Err() != nil {
		t.Fatalf("the database has stopped: %v", h.db.Err())
	}
	disk.Heal()
	for range 20 {
		send("AA")
	}
	h.settled(t)
	h.verify()
	mustHold(t, h, map[string][]string{"strict": w.got()}, func(yield func(string) bool) {
		for i := range n {
			if !yield(fmt.Sprintf("S0-%d", i)) {
				return
			}
		}
	})
}
