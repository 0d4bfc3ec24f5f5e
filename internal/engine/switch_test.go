package engine_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// isOpen says whether the door takes messages.
func (d *door) isOpen() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	d.mu.Lock()
	open := d.open
	d.mu.Unlock()
	select {
	case <-open:
		return true
	case <-ctx.Done():
		return false
	}
}

// TestPauseAndResume: a paused destination keeps its messages over a restart and delivers them in order once it is resumed; the
// other destinations go on.
func TestPauseAndResume(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		ctx := context.Background()
		d, lab, archive := newDoor(), newWard(), newWard()
		channels := channel(d, nil, destination("lab", lab), destination("archive", archive))
		h := start(t, address, keys, channels)
		d.mustSend(t, adt("C1", "P1"))
		lab.wait(t, 1)
		h.settled(t)
		if err := h.engine.PauseDestination(ctx, clerk(), "adt", "lab"); err != nil {
			t.Fatal(err)
		}
		d.mustSend(t, adt("C2", "P1"), adt("C3", "P1"))
		archive.wait(t, 3)
		if s := h.state("adt", "lab"); s.Waiting != 2 || s.Oldest.IsZero() {
			t.Errorf("paused: %+v, want two waiting", s)
		}
		eventually(t, "the state says paused", func() bool { return h.state("adt", "lab").State == "paused" })
		h.stop()
		h = start(t, address, keys, channels)
		d.mustSend(t, adt("C4", "P1"))
		archive.wait(t, 4)
		if got := controls(t, lab.got()); got != "C1" {
			t.Errorf("a paused destination got %s", got)
		}
		if s := h.state("adt", "lab"); s.Waiting != 3 {
			t.Errorf("after a restart %d wait, want 3", s.Waiting)
		}
		if err := h.engine.ResumeDestination(ctx, clerk(), "adt", "lab"); err != nil {
			t.Fatal(err)
		}
		h.settled(t)
		if got := controls(t, lab.got()); got != "C1 C2 C3 C4" {
			t.Errorf("resumed: %s", got)
		}
		mustBeOnRecordOnce(t, h, audit.DestinationPaused, "adt/lab")
		mustBeOnRecordOnce(t, h, audit.DestinationResumed, "adt/lab")
		h.verify()
	})
}

// mustBeOnRecordOnce wants one entry of a kind, by the clerk, about the resource.
func mustBeOnRecordOnce(t *testing.T, h *house, e audit.Event, resource string) {
	t.Helper()
	list := h.recorded(e)
	if len(list) != 1 || list[0].OSUser != clerk().OSUser || list[0].Program != clerk().Program || list[0].ResourceID != resource {
		t.Errorf("on record as %s: %+v, want one entry by kim about %s", e, list, resource)
	}
}

// TestStopAndStart: a stopped channel neither listens nor delivers, over a restart too, until it is started.
func TestStopAndStart(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		ctx := context.Background()
		d, w, g := newDoor(), newWard(), &gate{}
		w.do = refusing("C2", g.closed)
		other, busy := newDoor(), newWard()
		channels := channel(d, nil, destination("lab", w, ordered(engine.OrderStrict, 8, engine.Retry)))
		channels = append(channels, channel(other, func(c *engine.Channel) { c.Name = "oru" }, destination("lab", busy))...)
		h := start(t, address, keys, channels)
		d.mustSend(t, adt("C1", "P1"), adt("C2", "P1"), adt("C3", "P1"))
		w.wait(t, 1)
		for range 2 { // the second changes nothing
			if err := h.engine.StopChannel(ctx, clerk(), "adt"); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the door is shut", func() bool { return !d.isOpen() })
		eventually(t, "the queue stands", func() bool { return h.state("adt", "lab").State == "stopped" })
		g.release()
		other.mustSend(t, adt("O1", "P1"))
		busy.wait(t, 1)
		h.stop()
		h = start(t, address, keys, channels)
		other.mustSend(t, adt("O2", "P1"))
		busy.wait(t, 2)
		if d.isOpen() {
			t.Error("a restart opened a stopped channel")
		}
		if got := controls(t, w.got()); got != "C1" {
			t.Errorf("a stopped channel delivered %s", got)
		}
		if err := h.engine.StartChannel(ctx, clerk(), "adt"); err != nil {
			t.Fatal(err)
		}
		d.mustSend(t, adt("C4", "P1"))
		w.wait(t, 4)
		h.settled(t)
		if got := controls(t, w.got()); got != "C1 C2 C3 C4" {
			t.Errorf("started: %s", got)
		}
		mustBeOnRecordOnce(t, h, audit.ChannelStarted, "adt")
		h.verify()
	})
}

// TestSwitchesThatDoNotFit: what is not there is not found, and what the configuration has switched off is a conflict.
func TestSwitchesThatDoNotFit(t *testing.T) {
	ctx := context.Background()
	d := newDoor()
	channels := channel(d, nil, destination("lab", newWard()), destination("off", newWard(), func(d *engine.Destination) { d.Enabled = false }))
	channels = append(channels, channel(newDoor(), func(c *engine.Channel) { c.Name, c.Enabled = "off", false }, destination("lab", newWard()))...)
	h := start(t, "sqlite:"+t.TempDir()+"/l.db", t.TempDir(), channels)
	for _, tc := range []struct {
		name string
		do   func() error
		is   func(error) bool
	}{
		{"stopping an unknown channel", func() error { return h.engine.StopChannel(ctx, clerk(), "nowhere") }, isNotFound},
		{"starting a channel that is not enabled", func() error { return h.engine.StartChannel(ctx, clerk(), "off") }, isConflict},
		{"pausing an unknown destination", func() error { return h.engine.PauseDestination(ctx, clerk(), "adt", "nowhere") }, isNotFound},
		{"pausing a destination of an unknown channel", func() error { return h.engine.PauseDestination(ctx, clerk(), "nowhere", "lab") }, isNotFound},
		{"pausing a destination that is not enabled", func() error { return h.engine.PauseDestination(ctx, clerk(), "adt", "off") }, isNotFound},
	} {
		if err := tc.do(); !tc.is(err) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	d.mustSend(t, adt("C1", "P1"))
	if got := h.find("C1").Deliveries; len(got) != 1 {
		t.Errorf("queued for %+v, want the enabled destination alone", got)
	}
}

// TestABacklogIsReadInParts: of a queue that stands, no more is in memory than the look-ahead, and whatever else waits is still
// delivered, in order.
func TestABacklogIsReadInParts(t *testing.T) {
	address, keys := "sqlite:"+t.TempDir()+"/l.db", t.TempDir()
	const n = 6000 // more than a look-ahead of 4,096
	d, w, g := newDoor(), newWard(), &gate{}
	w.do = refusing("C0", g.closed)
	channels := channel(d, nil, destination("lab", w, ordered(engine.OrderPatient, 64, engine.Retry)))
	h := start(t, address, keys, channels)
	fill(t, d, n, func(i int) string { return adt(fmt.Sprintf("C%d", i), "A") })
	eventually(t, "the look-ahead is full", func() bool { return h.metric("lazaret_queue_in_memory") >= 4096 })
	time.Sleep(100 * time.Millisecond)
	if got := h.metric("lazaret_queue_in_memory"); got > 4096+256 {
		t.Errorf("%d deliveries are in memory, of %d that wait", got, n)
	}
	if s := h.state("adt", "lab"); s.Waiting != n {
		t.Errorf("%d wait, want %d", s.Waiting, n)
	}
	g.release()
	w.wait(t, n)
	h.settled(t)
	var accepted []string
	for q := (engine.Query{Limit: 1000}); ; {
		page, err := h.engine.List(context.Background(), clerk(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Messages {
			accepted = append(accepted, m.ControlID)
		}
		if q.Before = page.Next; q.Before == 0 {
			break
		}
	}
	slices.Reverse(accepted)
	if !slices.Equal(accepted, strings.Fields(controls(t, w.got()))) {
		t.Error("the backlog was not delivered in the order of acceptance")
	}
}
