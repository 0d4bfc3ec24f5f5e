package mllp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

// faultyConn is a real connection that breaks when so many bytes have gone out, or have come in.
type faultyConn struct {
	net.Conn
	out, in int // left; below 0: no fault
	err     error
}

func (c *faultyConn) Write(p []byte) (int, error) {
	if c.out < 0 || len(p) <= c.out {
		n, err := c.Conn.Write(p)
		if c.out >= 0 {
			c.out -= n
		}
		return n, err
	}
	n, err := c.Conn.Write(p[:c.out])
	c.out = 0
	return n, errors.Join(c.err, err)
}

func (c *faultyConn) Read(p []byte) (int, error) {
	if c.in == 0 {
		return 0, c.err
	}
	if c.in > 0 {
		p = p[:min(len(p), c.in)]
	}
	n, err := c.Conn.Read(p)
	if c.in > 0 {
		c.in -= n
	}
	return n, err
}

// Each place × {nothing had left, something had}: Sent is what decides whether a repeat must be marked.
func TestSentTellsWhetherAByteHasLeft(t *testing.T) {
	block := message("1")
	frameLength, answerLength := len(frame(block)), len(frame(ack("1")))
	for _, c := range []struct {
		name    string
		out, in int
		err     error
		op      string
		sent    bool
		want    error
		handled bool // by the receiver, as a whole
	}{
		{name: "no byte was written", out: 0, in: -1, err: syscall.EPIPE, op: "write", want: mllp.ErrClosed},
		{name: "one byte was written", out: 1, in: -1, err: syscall.ECONNRESET, op: "write", sent: true, want: mllp.ErrClosed},
		{name: "all but the last byte was written", out: frameLength - 1, in: -1, err: syscall.ECONNRESET, op: "write", sent: true, want: mllp.ErrClosed, handled: true},
		{name: "all was written, and no byte of the answer came", out: -1, in: 0, err: syscall.ECONNRESET, op: "answer", sent: true, want: mllp.ErrClosed, handled: true},
		{name: "the answer broke at its first byte", out: -1, in: 1, err: io.EOF, op: "answer", sent: true, want: mllp.ErrClosed, handled: true},
		{name: "the answer broke before its end", out: -1, in: answerLength - 2, err: io.EOF, op: "answer", sent: true, want: mllp.ErrClosed, handled: true},
		{name: "only the answer's final CR is missing", out: -1, in: answerLength - 1, err: io.EOF, handled: true},
		{name: "another error keeps its own name", out: -1, in: 0, err: syscall.EIO, op: "answer", sent: true, want: syscall.EIO, handled: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			handled := make(chan string, 1)
			r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(func(ctx context.Context, p *mllp.Peer, b []byte) ([]byte, error) {
				handled <- string(b)
				return acknowledge(ctx, p, b)
			})})
			cl := client(t, &mllp.Client{Addr: r.addr, Dial: func(ctx context.Context) (net.Conn, error) {
				nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.addr)
				if err != nil {
					return nil, err
				}
				return &faultyConn{Conn: nc, out: c.out, in: c.in, err: c.err}, nil
			}})
			_, err := cl.Send(t.Context(), block)
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
			} else {
				var se *mllp.SendError
				if !errors.As(err, &se) || se.Op != c.op || se.Sent != c.sent || !errors.Is(err, c.want) {
					t.Errorf("got %v", err)
				}
			}
			r.seen.await(t, "opened")
			cl.Close()
			r.seen.await(t, "closed")
			if got := len(handled) == 1; got != c.handled {
				t.Errorf("the receiver had the block: %v", got)
			}
			if c.handled && !c.sent && c.want != nil {
				t.Error("a block that the receiver has was called not sent")
			}
		})
	}
}

// 200 MB in one block: the refusal arrives although the sender is still writing, and memory stays near the limit.
func TestLongBlockOverASocket(t *testing.T) {
	const limit = 1 << 20
	r := serve(t, &mllp.Server{Handler: refuser{}, MaxBlock: limit})
	nc := dial(t, r.addr)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	wrote := make(chan struct{})
	go func() { // may fail on a busy machine: the server reads on for some seconds only
		defer close(wrote)
		if _, err := fmt.Fprint(nc, "\x0bMSH|"); err == nil {
			_, _ = io.CopyN(nc, endless{}, 200<<20)
		}
		nc.CloseWrite()
	}()
	got, err := mllp.NewReader(nc, 0).Next()
	if err != nil || !bytes.HasSuffix(got, []byte(" MSH|")) {
		t.Errorf("got %q, %v", got, err)
	}
	<-wrote
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 5*limit {
		t.Errorf("allocated %d bytes for a limit of %d", used, limit)
	}
	r.seen.await(t, "closed: block too long")
}

// Many senders at once, some of which are cut: each answer goes where it belongs.
func TestManySenders(t *testing.T) {
	r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge)})
	errs := make(chan error)
	const senders = 20
	for s := range senders {
		go func() {
			var err error
			c := &mllp.Client{Addr: r.addr}
			defer func() { errs <- errors.Join(err, c.Close()) }()
			for i := range 50 {
				ctx, cancel := context.WithCancel(context.Background())
				if s%2 == 1 && i%10 == 5 {
					time.AfterFunc(time.Duration(i)*time.Microsecond, cancel)
				}
				id := fmt.Sprintf("%d-%d", s, i)
				answer, e := c.Send(ctx, message(id))
				cancel()
				if e != nil && errors.Is(e, context.Canceled) {
					continue
				}
				if e != nil || !strings.Contains(string(answer), "MSA|AA|"+id+"\r") {
					err = errors.Join(err, e, fmt.Errorf("%s was answered %q", id, answer))
				}
			}
		}()
	}
	for range senders {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
