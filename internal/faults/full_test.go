//go:build faults && linux

package faults_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/faults"
)

// TestARealFullDisk fills a small file system of its own and then makes it larger. It needs the right to mount.
func TestARealFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=6m,mode=0700"); err != nil {
		t.Fatalf("mount a small file system: %v; run this suite as root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	d, w := newDoor(), faults.NewReceiver()
	s, err := openSite(t, "sqlite:"+filepath.Join(dir, "l.db"), t.TempDir(), channel(d, destination("lab", w)), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := <-d.handler
	n := 0
	send := func() string {
		t.Helper()
		answer, err := h.Accept(t.Context(), ward, []byte(adt(fmt.Sprintf("C%d", n), "P1", 20<<10)))
		if err != nil {
			t.Fatalf("message %d: the connection was closed: %v", n, err)
		}
		code := string(answer[strings.Index(string(answer), "\rMSA|")+5:][:2])
		if code == "AA" {
			n++
		}
		return code
	}
	for send() == "AA" {
		if n > 1000 {
			t.Fatal("the disk does not become full")
		}
	}
	t.Logf("full after %d messages", n)
	for range 50 {
		// The last bytes may still do for a message now and then; nothing but AA and AR is said.
		if code := send(); code != "AR" && code != "AA" {
			t.Fatalf("answered %s on a full disk", code)
		}
	}
	time.Sleep(1500 * time.Millisecond)
	if err := s.db.Err(); err != nil {
		t.Fatalf("the database has stopped: %v", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	before := n
	for range 50 {
		if code := send(); code != "AA" {
			t.Fatalf("answered %s with room on the disk", code)
		}
	}
	if n != before+50 {
		t.Fatalf("%d messages were taken with room", n-before)
	}
	w.Wait(t, n)
	s.settled(t)
	if err := s.holds(upTo(n)); err != nil {
		t.Error(err)
	}
	w.MustBeOnceInOrder(t, s.marked(t, "lab"))
}

// upTo lists the messages 0 to n-1 as acknowledged.
func upTo(n int) (notes []int) {
	for k := range n {
		notes = append(notes, k)
	}
	return notes
}
