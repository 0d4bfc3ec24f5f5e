package faults_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/hl7/mllp"
	connect "github.com/lazaret-health/lazaret/internal/connect/mllp"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/faults"
)

// answerTimeout is how long the engine waits for these receivers.
const answerTimeout = 120 * time.Millisecond

// rogue is a receiver behind a real socket that now and then does what it should not.
type rogue struct {
	*faults.Receiver
	ln net.Listener
	wg sync.WaitGroup
	// do handles one block on a connection: it takes the message or not, and answers or not. false ends the connection.
	do func(r *rogue, c net.Conn, block []byte, odd bool) bool
	// meet, if not nil, is asked about each new connection. false ends it.
	meet func(n int) bool

	mu    sync.Mutex
	conns map[net.Conn]bool
	met   []time.Time // when each connection came
	seen  int         // blocks
}

func newRogue(t *testing.T, do func(*rogue, net.Conn, []byte, bool) bool, meet func(int) bool) *rogue {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rogue{Receiver: faults.NewReceiver(), ln: ln, do: do, meet: meet, conns: map[net.Conn]bool{}}
	r.wg.Go(r.accept)
	t.Cleanup(func() {
		ln.Close()
		r.mu.Lock()
		for c := range r.conns {
			c.Close()
		}
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

func (r *rogue) accept() {
	for {
		c, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.met = append(r.met, time.Now())
		n := len(r.met)
		r.conns[c] = true
		r.mu.Unlock()
		if r.meet != nil && !r.meet(n) {
			c.Close()
			continue
		}
		r.wg.Go(func() { r.serve(c) })
	}
}

func (r *rogue) serve(c net.Conn) {
	defer c.Close()
	in := mllp.NewReader(c, 1<<20)
	for {
		block, err := in.Next()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.seen++
		odd := r.seen%9 == 4
		r.mu.Unlock()
		if !r.do(r, c, block, odd) {
			return
		}
	}
}

// say answers a block with a code, as if it had another control ID where id is given.
func say(c net.Conn, block []byte, code hl7.AckCode, id string) bool {
	m, err := hl7.Parse(block)
	if err != nil {
		return false
	}
	if id != "" {
		if err := m.Set(hl7.MustPath("MSH-10"), id); err != nil {
			return false
		}
	}
	frame, err := mllp.AppendFrame(nil, hl7.NewAck(m, hl7.Ack{Code: code, ControlID: "R"}))
	if err != nil {
		return false
	}
	_, err = c.Write(frame)
	return err == nil
}

// taken is what a good receiver does.
func taken(r *rogue, c net.Conn, block []byte) bool {
	r.Take(block)
	return say(c, block, hl7.AA, "")
}

// TestReceiversThatMisbehave: whatever a receiver does, nothing is lost, nothing comes twice unmarked, the order holds, and it is
// not run over with attempts.
func TestReceiversThatMisbehave(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(r *rogue, c net.Conn, block []byte) bool // with every ninth block
		meet func(n int) bool
		calm bool // no attempt fails: the sender may connect anew at once
	}{
		{name: "takes the message and hangs", do: func(r *rogue, _ net.Conn, b []byte) bool { r.Take(b); return true }},
		{name: "loses the message and hangs", do: func(*rogue, net.Conn, []byte) bool { return true }},
		{name: "takes the message and closes", do: func(r *rogue, _ net.Conn, b []byte) bool { r.Take(b); return false }},
		{name: "closes in the middle of its answer", do: func(r *rogue, c net.Conn, b []byte) bool {
			r.Take(b)
			c.Write([]byte("\x0bMSH|^~\\&|R|R|L|L|20260301||ACK|1|P|2.5.1\rMSA|A"))
			return false
		}},
		{name: "refuses and takes the next attempt", do: func(_ *rogue, c net.Conn, b []byte) bool { return say(c, b, hl7.AE, "") }},
		{name: "rejects and takes the next attempt", do: func(_ *rogue, c net.Conn, b []byte) bool { return say(c, b, hl7.AR, "") }},
		{name: "answers another message", do: func(r *rogue, c net.Conn, b []byte) bool { r.Take(b); return say(c, b, hl7.AA, "OTHER") }},
		{name: "answers garbage outside a block", do: func(r *rogue, c net.Conn, b []byte) bool {
			r.Take(b)
			c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			return true
		}},
		{name: "answers garbage in a block", do: func(r *rogue, c net.Conn, b []byte) bool {
			r.Take(b)
			c.Write([]byte("\x0b\xff\xfe<html>\x1c\r"))
			return true
		}},
		{name: "answers with a code that there is not", do: func(r *rogue, c net.Conn, b []byte) bool { r.Take(b); return say(c, b, "OK", "") }},
		{name: "answers late, on a connection that is given up", do: func(r *rogue, c net.Conn, b []byte) bool {
			r.Take(b)
			time.Sleep(answerTimeout + 60*time.Millisecond)
			say(c, b, hl7.AA, "")
			return true
		}},
		{name: "answers twice", calm: true, do: func(r *rogue, c net.Conn, b []byte) bool { return taken(r, c, b) && say(c, b, hl7.AA, "") }},
		{name: "answers byte by byte", do: func(r *rogue, c net.Conn, b []byte) bool {
			r.Take(b)
			m, _ := hl7.Parse(b)
			frame, _ := mllp.AppendFrame(nil, hl7.NewAck(m, hl7.Ack{Code: hl7.AA, ControlID: "R"}))
			for i := range frame {
				c.Write(frame[i : i+1])
			}
			return true
		}},
		{name: "turns connections away", meet: func(n int) bool { return n > 6 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			do := func(r *rogue, conn net.Conn, block []byte, odd bool) bool {
				if odd && c.do != nil {
					return c.do(r, conn, block)
				}
				return taken(r, conn, block)
			}
			strict, patient := newRogue(t, do, c.meet), newRogue(t, do, c.meet)
			misbehave(t, strict, patient)
			if !c.calm {
				strict.mustBeLeftInPeace(t)
				patient.mustBeLeftInPeace(t)
			}
		})
	}
}

const (
	firstWait = 10 * time.Millisecond
	longWait  = 40 * time.Millisecond
)

func misbehave(t *testing.T, strict, patient *rogue) {
	log := slog.New(slog.DiscardHandler)
	source, err := connect.NewSource(connect.SourceConfig{Channel: "adt", Listen: "127.0.0.1:0", Now: time.Now, Log: log, DrainTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	to := func(name string, r *rogue, order engine.Order) engine.Destination {
		sender, err := connect.NewSender(connect.SenderConfig{Address: r.ln.Addr().String(), ConnectTimeout: time.Second,
			AnswerTimeout: answerTimeout, Now: time.Now, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		return destination(name, sender, func(d *engine.Destination) {
			d.Order, d.Retry = order, engine.Backoff{First: firstWait, Max: longWait, Jitter: 0.2}
		})
	}
	s, err := openSite(t, dbtest.SQLite(t), t.TempDir(), channel(source, to("strict", strict, engine.OrderStrict),
		to("patient", patient, engine.OrderPatient)), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	const senders, each = 3, 15
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			c := &mllp.Client{Addr: source.Addr()}
			defer c.Close()
			for n := range each {
				id := fmt.Sprintf("S%d-%d", i, n)
				answer, err := c.Send(context.Background(), []byte(adt(id, fmt.Sprintf("P%d", i), 0)))
				if err != nil {
					t.Errorf("message %s got no answer: %v", id, err)
					return
				}
				if ack, err := hl7.ParseAck(answer); err != nil || ack.Code != hl7.AA {
					t.Errorf("message %s was answered %q, %v", id, ack.Code, err)
				}
			}
		})
	}
	wg.Wait()
	strict.Wait(t, senders*each)
	patient.Wait(t, senders*each)
	s.settled(t)
	strict.MustBeOnceInOrder(t, s.marked(t, "strict"))
	for i := range senders {
		mine := func(id string) bool { return id[:3] == fmt.Sprintf("S%d-", i) }
		var of []faults.Stored
		for _, x := range s.marked(t, "patient") {
			if mine(x.ControlID) {
				of = append(of, x)
			}
		}
		patient.Only(mine).MustBeOnceInOrder(t, of)
	}
	if err := s.recompute(); err != nil {
		t.Errorf("the audit log does not verify: %v", err)
	}
}

// mustBeLeftInPeace: each new connection follows a failure, and so keeps a distance, for which the engine's back-off stands.
func (r *rogue) mustBeLeftInPeace(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	// Over all of them, for a busy machine may bring two together.
	if n := len(r.met) - 1; n > 0 {
		if took, least := r.met[n].Sub(r.met[0]), time.Duration(n-1)*firstWait*7/10; took < least {
			t.Errorf("%d connections came in %s, want at least %s", n+1, took, least)
		}
	}
	if most := 9 * 15; r.seen > most {
		t.Errorf("it got %d blocks for 45 messages", r.seen)
	}
}
