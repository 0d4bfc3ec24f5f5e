package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/transform"
)

func retrying(first, longest time.Duration, jitter float64) func(*engine.Destination) {
	return func(d *engine.Destination) {
		d.OnReject, d.Retry = engine.Retry, engine.Backoff{First: first, Max: longest, Jitter: jitter}
	}
}

// refusesFirst refuses so many attempts and notes when each came.
type refusesFirst struct {
	mu    sync.Mutex
	n     int
	err   error // instead of a refusal
	times []time.Time
	got   []string
}

func (r *refusesFirst) Close() error { return nil }

func (r *refusesFirst) Send(_ context.Context, block []byte) (engine.Reply, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.times = append(r.times, time.Now())
	r.got = append(r.got, string(block))
	if len(r.times) <= r.n {
		return engine.Reply{Code: "AE"}, r.err
	}
	return engine.Reply{Taken: true, Code: "AA"}, nil
}

func (r *refusesFirst) seen() ([]time.Time, []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]time.Time(nil), r.times...), append([]string(nil), r.got...)
}

// TestBackoff: waits double from the first to the longest, are shortened by at most the jitter, and hold for refusals as for outages.
func TestBackoff(t *testing.T) {
	const first, longest, jitter = 20 * time.Millisecond, 80 * time.Millisecond, 0.25
	for name, err := range map[string]error{"refusals": nil, "outages": errors.New("no answer"), "no route": &engine.NotSent{Err: errors.New("no route")}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, r := newDoor(), &refusesFirst{n: 5, err: err}
			h := start(t, "sqlite:"+t.TempDir()+"/l.db", t.TempDir(), channel(d, nil, destination("lab", r, retrying(first, longest, jitter))))
			d.mustSend(t, adt("C1", "P1"))
			h.settled(t)
			times, _ := r.seen()
			for i, want := range []time.Duration{first, 2 * first, 4 * first, longest, longest} {
				got := times[i+1].Sub(times[i])
				if least := time.Duration(float64(want) * (1 - jitter)); got < least-2*time.Millisecond || got > want+500*time.Millisecond {
					t.Errorf("wait %d was %v, want %v to %v", i+1, got, least, want)
				}
			}
		})
	}
}

// TestGivingUp: a limit of attempts or of time turns a refusal into an error. An outage never does, nor does it use the limit up.
func TestGivingUp(t *testing.T) {
	limit := func(attempts int, after time.Duration) func(*engine.Destination) {
		return func(d *engine.Destination) {
			d.OnReject, d.Retry = engine.Retry, engine.Backoff{First: time.Millisecond, Max: 5 * time.Millisecond, GiveUpAttempts: attempts, GiveUpAfter: after}
		}
	}
	away := &engine.NotSent{Err: errors.New("no route")}
	no := engine.Reply{Code: "AE"}
	for _, tc := range []struct {
		name     string
		limit    func(*engine.Destination)
		do       func(n int) (engine.Reply, error)
		state    string
		attempts int // 0: any number
	}{
		{"after three refusals", limit(3, 0), func(int) (engine.Reply, error) { return no, nil }, "error", 3},
		{"after a time", limit(0, 60*time.Millisecond), func(int) (engine.Reply, error) { return no, nil }, "error", 0},
		{"not before the last attempt", limit(4, 0), func(n int) (engine.Reply, error) {
			return engine.Reply{Taken: n > 3, Code: "AA"}, nil
		}, "sent", 4},
		{"an outage is no attempt", limit(3, 0), func(n int) (engine.Reply, error) {
			if n <= 10 {
				return engine.Reply{}, away
			}
			return engine.Reply{Taken: n > 12, Code: "AA"}, nil
		}, "sent", 3},
		{"an outage does not use the time up", limit(0, 100*time.Millisecond), func(n int) (engine.Reply, error) {
			if n <= 40 {
				return engine.Reply{}, away // 200 ms
			}
			return engine.Reply{Taken: n > 41, Code: "AA"}, nil
		}, "sent", 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, w := newDoor(), newWard()
			w.do = func(n int, block []byte) (engine.Reply, error) {
				if strings.Contains(string(block), "|C2|") {
					return engine.Reply{Taken: true, Code: "AA"}, nil
				}
				return tc.do(n)
			}
			h := start(t, "sqlite:"+t.TempDir()+"/l.db", t.TempDir(), channel(d, nil, destination("lab", w, tc.limit)))
			d.mustSend(t, adt("C1", "P1"), adt("C2", "P1"))
			h.settled(t)
			got := h.find("C1").Deliveries[0]
			if got.State != tc.state || tc.attempts != 0 && got.Attempts != tc.attempts || len(got.Notes) > 0 {
				t.Errorf("ended as %+v, want %s after %d attempts, unmarked", got, tc.state, tc.attempts)
			}
			if tc.state == "error" {
				if n := len(h.recorded(audit.DeliverySkipped)); n != 1 {
					t.Errorf("%d entries say that it was set aside, want 1", n)
				}
			}
			if after := h.find("C2").Deliveries[0].State; after != "sent" {
				t.Errorf("what came behind it is %s", after)
			}
		})
	}
}

// TestPossibleDuplicates: a delivery is marked exactly when an attempt before its last may have arrived.
func TestPossibleDuplicates(t *testing.T) {
	broke, away := errors.New("the connection broke"), &engine.NotSent{Err: errors.New("no route")}
	for _, tc := range []struct {
		name   string
		errs   []error // of the first attempts; nil: a refusal
		marked bool
	}{
		{"nothing went wrong", nil, false},
		{"the receiver was away", []error{away, away, away}, false},
		{"the receiver refused", []error{nil, nil}, false},
		{"the connection broke", []error{broke}, true},
		{"the connection broke, then the receiver was away", []error{broke, away, away}, true},
		{"the receiver was away, then the connection broke", []error{away, broke}, true},
		{"the connection broke, then the receiver refused", []error{broke, nil}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, w := newDoor(), newWard()
			w.do = func(n int, _ []byte) (engine.Reply, error) {
				if n <= len(tc.errs) {
					return engine.Reply{Code: "AE"}, tc.errs[n-1]
				}
				return engine.Reply{Taken: true, Code: "AA"}, nil
			}
			h := start(t, "sqlite:"+t.TempDir()+"/l.db", t.TempDir(), channel(d, nil, destination("lab", w, retrying(time.Millisecond, time.Millisecond, 0))))
			d.mustSend(t, adt("C1", "P1"))
			h.settled(t)
			if got := h.find("C1").Deliveries[0]; (len(got.Notes) > 0) != tc.marked {
				t.Errorf("notes %q, want marked: %t", got.Notes, tc.marked)
			}
			sent := h.recorded(audit.DeliverySent)
			if len(sent) != 1 {
				t.Fatalf("%d entries of a delivery, want 1", len(sent))
			}
			said := false
			for _, detail := range sent[0].Details {
				said = said || detail.Key() == "possible_duplicate" && detail.Value() == true
			}
			if said != tc.marked {
				t.Errorf("the record says possible duplicate: %t, want %t", said, tc.marked)
			}
		})
	}
}

// TestAStopRepeatsNothing: a stop waits for the answer to what is under way, and takes the marks of the rest of its window back.
func TestAStopRepeatsNothing(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		d, w := newDoor(), newWard()
		sending, answer := make(chan struct{}), make(chan struct{})
		w.do = func(n int, _ []byte) (engine.Reply, error) {
			if n == 3 {
				close(sending)
				<-answer
			}
			return engine.Reply{Taken: true, Code: "AA"}, nil
		}
		h := start(t, address, keys, channel(d, nil, destination("lab", w, func(d *engine.Destination) { d.Window = 64 })))
		if err := h.engine.PauseDestination(context.Background(), clerk(), "adt", "lab"); err != nil {
			t.Fatal(err)
		}
		const n = 20
		for i := range n {
			d.mustSend(t, adt(fmt.Sprintf("C%d", i), "P1"))
		}
		if err := h.engine.ResumeDestination(context.Background(), clerk(), "adt", "lab"); err != nil {
			t.Fatal(err)
		}
		<-sending
		time.AfterFunc(50*time.Millisecond, func() { close(answer) })
		h.stop()
		if got := len(w.got()); got != 3 {
			t.Errorf("%d were taken before the stop ended, want 3", got)
		}
		h = start(t, address, keys, channel(d, nil, destination("lab", w, func(d *engine.Destination) { d.Window = 64 })))
		w.wait(t, n)
		h.settled(t)
		if got := len(w.got()); got != n {
			t.Errorf("%d were delivered, want %d", got, n)
		}
		for _, m := range h.list(engine.Query{Limit: 100}) {
			if notes := m.Deliveries[0].Notes; len(notes) > 0 {
				t.Errorf("%s: %q", m.ControlID, notes)
			}
		}
	})
}

func steps(t *testing.T, field, value string) *transform.Program {
	t.Helper()
	p, err := transform.CompileSteps([]transform.Step{{Set: []transform.Assignment{{Field: field, Value: value}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func filter(t *testing.T, source string) *transform.Expr {
	t.Helper()
	x, err := transform.CompileExpr(source)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestTheBytesOfAnAttempt: what may have arrived is sent again with the same bytes, also after a restart with other steps; after
// a known refusal the steps of then apply. Each way, the delivery knows the revision that made what was sent.
func TestTheBytesOfAnAttempt(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		d := newDoor()
		lost, refused := newWard(), newWard()
		var mu sync.Mutex
		attempts := map[string][]string{}
		calm := false
		note := func(name string, no engine.Reply, err error) func(int, []byte) (engine.Reply, error) {
			return func(_ int, block []byte) (engine.Reply, error) {
				mu.Lock()
				defer mu.Unlock()
				attempts[name] = append(attempts[name], string(block))
				if !calm {
					return no, err
				}
				return engine.Reply{Taken: true, Code: "AA"}, nil
			}
		}
		lost.do = note("lost", engine.Reply{}, errors.New("the connection broke"))
		refused.do = note("refused", engine.Reply{Code: "AR"}, nil)
		channels := func(revision string) []engine.Channel {
			with := func(d *engine.Destination) { d.Steps = steps(t, "EVN-5", revision) }
			slow := retrying(time.Millisecond, 20*time.Millisecond, 0)
			return channel(d, func(c *engine.Channel) { c.Settings = []byte(revision) },
				destination("lost", lost, slow, with), destination("refused", refused, slow, with))
		}
		h := start(t, address, keys, channels("FIRST"))
		d.mustSend(t, adt("C1", "P1"))
		eventually(t, "attempts at both", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(attempts["lost"]) > 1 && len(attempts["refused"]) > 1
		})
		h.stop()
		mu.Lock()
		calm = true
		mu.Unlock()
		h = start(t, address, keys, channels("SECOND"))
		h.settled(t)
		mu.Lock()
		defer mu.Unlock()
		first := attempts["lost"][0]
		for i, a := range attempts["lost"] {
			if a != first || !strings.Contains(a, "FIRST") {
				t.Errorf("attempt %d whose fate was unknown was repeated as\n%q, first\n%q", i+1, a, first)
			}
		}
		last := attempts["refused"][len(attempts["refused"])-1]
		if !strings.Contains(last, "SECOND") || !strings.Contains(attempts["refused"][0], "FIRST") {
			t.Errorf("after a refusal and a restart was sent\n%q", last)
		}
		m := h.find("C1")
		if m.Deliveries[0].Revision != 1 || m.Deliveries[1].Revision != 2 {
			t.Errorf("revisions %d and %d, want 1 and 2", m.Deliveries[0].Revision, m.Deliveries[1].Revision)
		}
		if len(m.Deliveries[0].Notes) != 1 || len(m.Deliveries[1].Notes) != 0 {
			t.Errorf("notes %q and %q", m.Deliveries[0].Notes, m.Deliveries[1].Notes)
		}
		detail, err := h.engine.Show(context.Background(), clerk(), m.ID)
		if err != nil || string(detail.Sent["lost"]) != first || string(detail.Sent["refused"]) != last || string(detail.Content) != adt("C1", "P1") {
			t.Errorf("shown as sent: %q, %v", detail.Sent, err)
		}
		h.verify()
	})
}

// TestFiltersAndFailingSteps: what a filter drops is done; what fails is set aside or holds the queue, as the destination says.
func TestFiltersAndFailingSteps(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		d, some, skips, holds := newDoor(), newWard(), newWard(), newWard()
		table := transform.Tables{"sex": {Values: map[string]string{"F": "female"}}}
		failing, err := transform.CompileSteps([]transform.Step{{Map: &transform.Mapping{Field: "PID-8", Table: "sex", Missing: "fail"}}}, table)
		if err != nil {
			t.Fatal(err)
		}
		channels := func(steps *transform.Program) []engine.Channel {
			return channel(d, func(c *engine.Channel) { c.Settings = fmt.Append(nil, steps == failing) },
				destination("some", some, func(d *engine.Destination) { d.Filter = filter(t, `PID-3.1 == "P1"`) }),
				destination("skips", skips, func(d *engine.Destination) { d.Steps, d.OnError = steps, engine.Skip }),
				destination("holds", holds, func(d *engine.Destination) { d.Steps, d.OnError = steps, engine.Hold }))
		}
		h := start(t, address, keys, channels(failing))
		// All in one window: what stands before the one that holds the queue is delivered all the same.
		if err := h.engine.PauseDestination(context.Background(), clerk(), "adt", "holds"); err != nil {
			t.Fatal(err)
		}
		unknown := strings.Replace(adt("C2", "P2"), "|F\r", "|X\r", 1)
		d.mustSend(t, adt("C1", "P1"), unknown, adt("C3", "P1"))
		if err := h.engine.ResumeDestination(context.Background(), clerk(), "adt", "holds"); err != nil {
			t.Fatal(err)
		}
		some.wait(t, 2)
		skips.wait(t, 2)
		holds.wait(t, 1)
		eventually(t, "the third queue is held", func() bool { return strings.HasPrefix(h.state("adt", "holds").State, "held: ") })
		eventually(t, "the others are empty", func() bool {
			return h.state("adt", "some").Oldest.IsZero() && h.state("adt", "skips").Oldest.IsZero()
		})
		m := h.find("C2")
		var got []string
		for _, x := range m.Deliveries {
			got = append(got, x.Destination+" "+x.State)
			if x.State != "pending" && x.Revision != 1 {
				t.Errorf("%s has revision %d, want 1", x.Destination, x.Revision)
			}
		}
		if all := strings.Join(got, ", "); all != "some filtered, skips error, holds pending" {
			t.Errorf("the second message is: %s", all)
		}
		if got := controls(t, some.got()) + " / " + controls(t, skips.got()) + " / " + controls(t, holds.got()); got != "C1 C3 / C1 C3 / C1" {
			t.Errorf("delivered: %s", got)
		}
		if got := h.metric(`lazaret_deliveries_total{channel="adt",destination="some",result="filtered"}`); got != 1 {
			t.Errorf("counted %d as filtered", got)
		}
		// A held queue stays held over a restart, until somebody resumes it; the repaired steps then apply.
		h.stop()
		h = start(t, address, keys, channels(nil))
		if s := h.state("adt", "holds"); s.Waiting != 2 {
			t.Errorf("after a restart %d wait, want 2", s.Waiting)
		}
		eventually(t, "it is held after a restart", func() bool { return strings.HasPrefix(h.state("adt", "holds").State, "held: ") })
		if err := h.engine.ResumeDestination(context.Background(), clerk(), "adt", "holds"); err != nil {
			t.Fatal(err)
		}
		h.settled(t)
		if got := controls(t, holds.got()); got != "C1 C2 C3" {
			t.Errorf("after the resume: %s", got)
		}
		if got := h.find("C2").Deliveries[2]; got.Revision != 2 {
			t.Errorf("delivered by revision %d, want 2", got.Revision)
		}
		if got := h.find("C2").Revision; got != 1 {
			t.Errorf("taken by revision %d, want 1", got)
		}
		h.verify()
	})
}
