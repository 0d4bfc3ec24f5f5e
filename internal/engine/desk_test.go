package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// clerk is who asks the engine for things in these tests.
func clerk() engine.Actor {
	return engine.Actor{OSUser: "kim", Program: "lazaret test", Purpose: "HOPERAT"}
}

// A clock runs like the real one, some time before or after it.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// clockAt is a clock that says at now.
func clockAt(at time.Time) *clock {
	c := &clock{}
	c.advance(time.Until(at))
	return c
}

func (c *clock) everywhere(d *db.Config, e *engine.Config) { d.Now, e.Now = c.now, c.now }

func named(name string) engine.Peer {
	return engine.Peer{Name: name, Addr: netip.MustParseAddrPort("127.0.0.1:40000")}
}

// sendAs is send by another peer.
func (d *door) sendAs(p engine.Peer, block string) (answer string, err error) {
	a, err := d.inside().Accept(context.Background(), p, []byte(block))
	return string(a), err
}

// inside waits until the door is open.
func (d *door) inside() engine.Handler {
	d.mu.Lock()
	open := d.open
	d.mu.Unlock()
	<-open
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.handler
}

// mustSend sends and wants AA.
func (d *door) mustSend(t *testing.T, blocks ...string) {
	t.Helper()
	for _, b := range blocks {
		answer, err := d.send(b)
		mustAnswer(t, answer, err, "AA")
	}
}

// list lists, and fails where it cannot.
func (h *house) list(q engine.Query) []engine.Summary {
	h.t.Helper()
	page, err := h.engine.List(context.Background(), clerk(), q)
	if err != nil {
		h.t.Fatalf("list %+v: %v", q, err)
	}
	return page.Messages
}

// find is the one message with a control ID.
func (h *house) find(control string) engine.Summary {
	h.t.Helper()
	list := h.list(engine.Query{ControlID: control})
	if len(list) != 1 {
		h.t.Fatalf("%d messages with control ID %s, want one", len(list), control)
	}
	return list[0]
}

// events are the entries about a message, in their order.
func (h *house) events(id db.ID) string {
	h.t.Helper()
	trace, err := h.engine.Trace(context.Background(), clerk(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	var list []string
	for _, e := range trace.Entries {
		list = append(list, e.Event)
	}
	return strings.Join(list, " ")
}

// recorded are all entries of one kind in the audit log.
func (h *house) recorded(e audit.Event) (list []audit.Record) {
	h.t.Helper()
	err := h.db.Read(context.Background(), func(tx *db.Tx) error {
		page, err := h.log.Search(tx, audit.Query{AllOrgs: true, Event: e, Limit: 1000})
		for _, r := range page.Records {
			list = append(list, r.Record)
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

// metric is the value of a metric whose name and labels begin so.
func (h *house) metric(begin string) (sum int) {
	var b bytes.Buffer
	h.metrics.WritePrometheus(&b)
	for _, m := range regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(begin)+`.* (\d+)$`).FindAllStringSubmatch(b.String(), -1) {
		n, _ := strconv.Atoi(m[1])
		sum += n
	}
	return sum
}

// state is what the status says of a destination.
func (h *house) state(channel, destination string) engine.DestinationStatus {
	h.t.Helper()
	list, err := h.engine.Channels(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range list {
		for _, d := range c.Destinations {
			if c.Name == channel && d.Name == destination {
				return d
			}
		}
	}
	h.t.Fatalf("no destination %s/%s", channel, destination)
	return engine.DestinationStatus{}
}

// eventually waits for what another goroutine brings about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// controls are the control IDs of a ledger.
func controls(t *testing.T, ledger []string) string {
	t.Helper()
	var list []string
	for _, b := range ledger {
		m, err := hl7.Parse([]byte(b))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m.ControlID())
	}
	return strings.Join(list, " ")
}

// message is an invented message with a header of one's own and any segments behind it.
func message(typ, control, processing, version string, segments ...string) string {
	head := fmt.Sprintf("MSH|^~\\&|WARD|NORTH|LAZARET|HUB|20260301120000||%s|%s|%s|%s", typ, control, processing, version)
	return strings.Join(append([]string{head}, segments...), "\r") + "\r"
}

func isConflict(err error) bool { return errors.Is(err, engine.ErrConflict) }

func isNotFound(err error) bool { return errors.Is(err, engine.ErrNotFound) }

// fill sends n messages from 16 senders, the first before all others.
func fill(t *testing.T, d *door, n int, block func(i int) string) {
	t.Helper()
	d.mustSend(t, block(0))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := int(next.Add(1)); i < n; i = int(next.Add(1)) {
				if answer, err := d.send(block(i)); err != nil || !strings.Contains(answer, "MSA|AA|") {
					t.Errorf("answered %q, %v", answer, err)
				}
			}
		})
	}
	wg.Wait()
}
