package mllp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

func client(t *testing.T, c *mllp.Client) *mllp.Client {
	t.Helper()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

func send(t *testing.T, c *mllp.Client, id string) error {
	t.Helper()
	got, err := c.Send(t.Context(), message(id))
	if err == nil && !bytes.Equal(got, ack(id)) {
		t.Errorf("answer to %s: %q", id, got)
	}
	return err
}

func TestClientKeepsItsConnection(t *testing.T) {
	r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge)})
	c := client(t, &mllp.Client{Addr: r.addr})
	for i := range 50 {
		if err := send(t, c, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if !r.seen.has("opened 1") || r.seen.has("opened 2") {
		t.Errorf("connections: %q", r.seen.list)
	}
}

func TestClientTakesTurns(t *testing.T) {
	r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge)})
	c := client(t, &mllp.Client{Addr: r.addr})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				if err := send(t, c, fmt.Sprintf("%d-%d", i, j)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if r.seen.has("opened 2") {
		t.Errorf("connections: %q", r.seen.list)
	}
}

// A receiver that closes an idle connection is no reason for a failure, and none for an unknown outcome.
func TestClientNoticesAClosedConnection(t *testing.T) {
	r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge), IdleTimeout: 30 * time.Millisecond})
	c := client(t, &mllp.Client{Addr: r.addr})
	for i := range 4 {
		if err := send(t, c, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		for r.seen.count("closed: idle") <= i {
			time.Sleep(5 * time.Millisecond)
		}
	}
	if n := r.seen.count("opened"); n != 4 {
		t.Errorf("%d connections", n)
	}
}

func TestClientClosesWhatIsIdle(t *testing.T) {
	r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge)})
	c := client(t, &mllp.Client{Addr: r.addr, IdleClose: 20 * time.Millisecond})
	for i := range 2 {
		if err := send(t, c, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		for r.seen.count("closed: peer closed") <= i {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// The receiver answers nothing until four blocks are there, and then sees that no fifth is: the window is used, and
// never exceeded.
func TestClientPipelinesWhenTold(t *testing.T) {
	const window, all = 4, 20
	trouble := make(chan error, 1)
	addr := newReceiver(t, func(nc net.Conn) {
		in := mllp.NewReader(nc, 0)
		var waiting [][]byte
		for taken := 0; ; {
			for len(waiting) < window && taken < all {
				b, err := in.Next()
				if err != nil {
					trouble <- err
					return
				}
				waiting, taken = append(waiting, b), taken+1
			}
			if taken == window {
				_ = nc.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
				if _, err := in.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
					trouble <- fmt.Errorf("a block beyond the window: %w", err)
					return
				}
				_ = nc.SetReadDeadline(time.Time{})
			}
			if len(waiting) == 0 {
				trouble <- nil
				return
			}
			answer, _ := acknowledge(context.Background(), nil, waiting[0])
			waiting = waiting[1:]
			fmt.Fprint(nc, frame(answer))
		}
	})
	c := client(t, &mllp.Client{Addr: addr})
	var blocks [][]byte
	for i := range all {
		blocks = append(blocks, message(fmt.Sprint(i)))
	}
	var got []string
	err := c.Pipeline(t.Context(), blocks, window, func(i int, a []byte) { got = append(got, fmt.Sprintf("%d%s", i, a)) })
	if err := errors.Join(err, <-trouble); err != nil {
		t.Fatal(err)
	}
	for i := range all {
		if want := fmt.Sprintf("%d%s", i, ack(fmt.Sprint(i))); got[i] != want {
			t.Errorf("answer %d: %q", i, got[i])
		}
	}
}

// newReceiver is a listener that hands its connections to talk, one after the other.
func newReceiver(t *testing.T, talk func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				talk(nc)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// What a receiver can do wrong, and what the sender may then conclude. After each, the next message is answered over
// another connection, and never by what was meant for the one before.
func TestClientFaults(t *testing.T) {
	cut := func(nc net.Conn) { // with a reset
		_ = nc.(*net.TCPConn).SetLinger(0)
	}
	for _, c := range []struct {
		name  string
		any   bool
		fault func(nc net.Conn, in *mllp.Reader)
		want  error
		sent  bool
		op    string
	}{
		{name: "closes at once", fault: func(net.Conn, *mllp.Reader) {}, want: mllp.ErrClosed, sent: true, op: "answer"},
		{name: "closes after the block", fault: func(_ net.Conn, in *mllp.Reader) { in.Next() }, want: mllp.ErrClosed, sent: true, op: "answer"},
		{name: "resets after the block", fault: func(nc net.Conn, in *mllp.Reader) { in.Next(); cut(nc) }, want: mllp.ErrClosed, sent: true, op: "answer"},
		{name: "closes inside its answer", fault: func(nc net.Conn, in *mllp.Reader) { in.Next(); fmt.Fprint(nc, "\x0bMSH|^~") }, want: mllp.ErrClosed, sent: true, op: "answer"},
		{name: "never answers", fault: func(_ net.Conn, in *mllp.Reader) { in.Next(); in.Next() }, want: mllp.ErrTimeout, sent: true, op: "answer"},
		{name: "never ends its answer", fault: func(nc net.Conn, in *mllp.Reader) { in.Next(); fmt.Fprint(nc, "\x0bMSH|^~"); in.Next() }, want: mllp.ErrTimeout, sent: true, op: "answer"},
		{name: "answers another message", fault: func(nc net.Conn, in *mllp.Reader) { in.Next(); fmt.Fprint(nc, frame(ack("other"))); in.Next() }, want: mllp.ErrMismatch, sent: true, op: "answer"},
		{name: "answers with a longer ID", fault: func(nc net.Conn, in *mllp.Reader) { in.Next(); fmt.Fprint(nc, frame(ack("1x"))); in.Next() }, want: mllp.ErrMismatch, sent: true, op: "answer"},
		{name: "answers without an ID", fault: func(nc net.Conn, in *mllp.Reader) { in.Next(); fmt.Fprint(nc, frame(ack(""))); in.Next() }, want: mllp.ErrMismatch, sent: true, op: "answer"},
		{name: "answers with something else than an acknowledgement", fault: func(nc net.Conn, in *mllp.Reader) { in.Next(); fmt.Fprint(nc, frame(message("1"))); in.Next() }, want: mllp.ErrGarbage, sent: true, op: "answer"},
		{name: "answers with a commit byte of release 2", fault: func(nc net.Conn, in *mllp.Reader) { in.Next(); fmt.Fprint(nc, "\x0b\x06\x1c\r"); in.Next() }, want: mllp.ErrGarbage, sent: true, op: "answer"},
		{name: "answers outside a block", fault: func(nc net.Conn, in *mllp.Reader) { in.Next(); fmt.Fprint(nc, string(ack("1"))); in.Next() }, want: mllp.ErrGarbage, sent: true, op: "answer"},
		{name: "answers with an endless stream", fault: func(nc net.Conn, in *mllp.Reader) { in.Next(); fmt.Fprint(nc, strings.Repeat("y", 1<<20)); in.Next() }, want: mllp.ErrGarbage, sent: true, op: "answer"},
		{name: "answers too long a block", fault: func(nc net.Conn, in *mllp.Reader) {
			in.Next()
			fmt.Fprint(nc, "\x0b"+strings.Repeat("y", 200<<10))
			in.Next()
		}, want: mllp.ErrTooLong, sent: true, op: "answer"},
		{name: "answers too late", fault: func(nc net.Conn, in *mllp.Reader) {
			in.Next()
			in.Next() // until the sender has given up
			fmt.Fprint(nc, frame(ack("1")))
		}, want: mllp.ErrTimeout, sent: true, op: "answer"},
		{name: "answers twice", fault: func(nc net.Conn, in *mllp.Reader) {
			in.Next()
			fmt.Fprint(nc, frame(ack("1"))+frame(ack("1")))
			in.Next()
		}},
		{name: "answers once more, later", fault: func(nc net.Conn, in *mllp.Reader) {
			in.Next()
			fmt.Fprint(nc, frame(ack("1")))
			fmt.Fprint(nc, frame(ack("2"))) // which would suit the next message
			in.Next()
		}},
		{name: "answers without a final CR", fault: func(nc net.Conn, in *mllp.Reader) {
			in.Next()
			fmt.Fprint(nc, strings.TrimSuffix(frame(ack("1")), "\r"))
			in.Next()
			fmt.Fprint(nc, frame(ack("2")))
		}},
		{name: "answers garbage that was asked for", any: true, fault: func(nc net.Conn, in *mllp.Reader) { in.Next(); fmt.Fprint(nc, frame([]byte("OK"))) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			first := true
			var mu sync.Mutex
			addr := newReceiver(t, func(nc net.Conn) {
				in := mllp.NewReader(nc, 0)
				mu.Lock()
				faulty := first
				first = false
				mu.Unlock()
				if faulty {
					c.fault(nc, in)
					return
				}
				for {
					b, err := in.Next()
					if err != nil {
						return
					}
					answer, _ := acknowledge(context.Background(), nil, b)
					fmt.Fprint(nc, frame(answer))
				}
			})
			cl := client(t, &mllp.Client{Addr: addr, AnswerTimeout: 800 * time.Millisecond, MaxBlock: 100 << 10, AnyAnswer: c.any})
			_, err := cl.Send(t.Context(), message("1"))
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
			} else {
				var se *mllp.SendError
				if !errors.Is(err, c.want) || !errors.As(err, &se) || se.Sent != c.sent || se.Op != c.op {
					t.Fatalf("got %v, want %v, sent %v at %s", err, c.want, c.sent, c.op)
				}
				if strings.Contains(err.Error(), "Testpatient") || strings.Contains(err.Error(), "MSH") {
					t.Errorf("content in %q", err)
				}
			}
			if c.want == nil { // what else the receiver did has then arrived
				time.Sleep(20 * time.Millisecond)
			}
			if err := send(t, cl, "2"); err != nil {
				t.Errorf("the next message: %v", err)
			}
		})
	}
}

func TestClientFailsBeforeItSends(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().String()
	ln.Close()
	r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge)})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		client *mllp.Client
		ctx    context.Context
		block  string
		op     string
		want   error
	}{
		{name: "nobody listens", client: &mllp.Client{Addr: nobody}, op: "dial"},
		{name: "a byte that cannot be carried", client: &mllp.Client{Addr: r.addr}, block: "MSH|\x1c", op: "frame"},
		{name: "an empty block", client: &mllp.Client{Addr: r.addr}, block: "", op: "frame", want: mllp.ErrEmpty},
		{name: "a context that has ended", client: &mllp.Client{Addr: r.addr}, ctx: over, op: "dial", want: context.Canceled},
		{name: "a dial that hangs", client: &mllp.Client{Addr: r.addr, ConnectTimeout: 20 * time.Millisecond, Dial: func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}, op: "dial", want: mllp.ErrTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := client(t, c.client)
			block := message("1")
			if c.op == "frame" {
				block = []byte(c.block)
			}
			ctx := c.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			_, err := cl.Send(ctx, block)
			var se *mllp.SendError
			if !errors.As(err, &se) || se.Sent || se.Op != c.op || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestClientObeysItsContext(t *testing.T) {
	got := make(chan bool)
	addr := newReceiver(t, func(nc net.Conn) { in := mllp.NewReader(nc, 0); in.Next(); got <- true; in.Next() })
	c := client(t, &mllp.Client{Addr: addr})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, second := make(chan error), make(chan error)
	go func() {
		_, err := c.Send(ctx, message("1"))
		first <- err
	}()
	<-got
	go func() { // waits for its turn
		_, err := c.Send(ctx, message("2"))
		second <- err
	}()
	time.Sleep(10 * time.Millisecond)
	cancel()
	var se *mllp.SendError
	if err := <-first; !errors.Is(err, context.Canceled) || !errors.As(err, &se) || !se.Sent {
		t.Errorf("under way: %v", err)
	}
	if err := <-second; !errors.Is(err, context.Canceled) || !errors.As(err, &se) || se.Sent {
		t.Errorf("while waiting: %v", err)
	}
}

func TestClientObeysADeadline(t *testing.T) {
	addr := newReceiver(t, func(nc net.Conn) { in := mllp.NewReader(nc, 0); in.Next(); in.Next() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client(t, &mllp.Client{Addr: addr}).Send(ctx, message("1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestCloseEndsASend(t *testing.T) {
	got := make(chan bool)
	addr := newReceiver(t, func(nc net.Conn) { in := mllp.NewReader(nc, 0); in.Next(); got <- true; in.Next() })
	c := &mllp.Client{Addr: addr}
	failed := make(chan error)
	go func() {
		_, err := c.Send(t.Context(), message("1"))
		failed <- err
	}()
	<-got
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, mllp.ErrClientClosed) {
		t.Errorf("under way: %v", err)
	}
	if _, err := c.Send(t.Context(), message("2")); !errors.Is(err, mllp.ErrClientClosed) {
		t.Errorf("afterwards: %v", err)
	}
}

// Dials that fail in a row are spaced; a success forgets them.
func TestClientBacksOff(t *testing.T) {
	var at []time.Time
	fails := 3
	r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge)})
	c := client(t, &mllp.Client{Addr: r.addr,
		Backoff: mllp.Backoff{Min: 40 * time.Millisecond, Max: 80 * time.Millisecond, Rand: func() float64 { return 0 }},
		Dial: func(ctx context.Context) (net.Conn, error) {
			at = append(at, time.Now())
			if len(at) <= fails {
				return nil, errors.New("no route")
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", r.addr)
		}})
	for range fails {
		if err := send(t, c, "1"); err == nil {
			t.Fatal("sent without a connection")
		}
	}
	if err := send(t, c, "1"); err != nil {
		t.Fatal(err)
	}
	for i, least := range []time.Duration{40, 80, 80} {
		if d := at[i+1].Sub(at[i]); d < least*time.Millisecond {
			t.Errorf("dial %d came %v after the one before", i+2, d)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	hopeless := client(t, &mllp.Client{Addr: r.addr, Backoff: mllp.Backoff{Min: time.Hour, Max: time.Hour}, Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("no route") }})
	hopeless.Send(ctx, message("1"))
	if _, err := hopeless.Send(ctx, message("1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("back-off outlasts the context: %v", err)
	}
}

// A fault inside a pipeline tells which blocks may have arrived.
func TestPipelineFaultCountsWhatMayHaveArrived(t *testing.T) {
	addr := newReceiver(t, func(nc net.Conn) {
		in := mllp.NewReader(nc, 0)
		for i := range 4 {
			if _, err := in.Next(); err != nil {
				return
			}
			if i == 1 {
				fmt.Fprint(nc, frame(ack("0")))
			}
		}
	})
	c := client(t, &mllp.Client{Addr: addr})
	var blocks [][]byte
	for i := range 10 {
		blocks = append(blocks, message(fmt.Sprint(i)))
	}
	var answered []int
	err := c.Pipeline(t.Context(), blocks, 3, func(i int, _ []byte) { answered = append(answered, i) })
	var se *mllp.SendError
	if !errors.As(err, &se) || !se.Sent || se.Ahead != 2 || !errors.Is(err, mllp.ErrClosed) {
		t.Fatalf("got %#v", err)
	}
	if len(answered) != 1 || answered[0] != 0 {
		t.Errorf("answered %v", answered)
	}
}

// wide is ASCII as UTF-16, little end first.
func wide(s string) string {
	return strings.Join(strings.Split(s, ""), "\x00") + "\x00"
}

func TestAnswersAreMatched(t *testing.T) {
	mshHash := func(id string) string { return "MSH#^~\\&#R#L#S#H#2026##ACK#X#P#2.5\rMSA#AA#" + id + "\r" }
	for _, c := range []struct {
		name, sent, answer string
		want               error
	}{
		{name: "other separators in the answer", sent: string(message("7")), answer: mshHash("7")},
		{name: "blanks around the ID", sent: string(message("7")), answer: string(ack(" 7 "))},
		{name: "LF between segments", sent: string(message("7")), answer: strings.ReplaceAll(string(ack("7")), "\r", "\r\n")},
		{name: "no last terminator", sent: string(message("7")), answer: strings.TrimSuffix(string(ack("7")), "\r")},
		{name: "MSA later than second", sent: string(message("7")), answer: "MSH|^~\\&|||||||ACK|X|P|2.8\rSFT|x\rMSA|AE|7|text\rERR|\r"},
		{name: "a message without an ID takes any acknowledgement", sent: string(message("")), answer: string(ack("9"))},
		{name: "and nothing else", sent: string(message("")), answer: "MSH|^~\\&|", want: mllp.ErrGarbage},
		{name: "a batch is answered by a batch", sent: "FHS|^~\\&\rBHS|^~\\&\r" + string(message("7")), answer: "FHS|^~\\&\r"},
		{name: "or by an acknowledgement", sent: "BHS|^~\\&\r" + string(message("7")), answer: string(ack("3"))},
		{name: "a message is not answered by a batch", sent: string(message("7")), answer: "BHS|^~\\&\r", want: mllp.ErrGarbage},
		{name: "MSA of another separator is none", sent: string(message("7")), answer: "MSH|^~\\&|\rMSA#AA#7\r", want: mllp.ErrGarbage},
		{name: "the ID elsewhere is no match", sent: string(message("7")), answer: "MSH|^~\\&|7|7\rMSA|7|8|7\r", want: mllp.ErrMismatch},
		{name: "MSA without an ID field", sent: string(message("7")), answer: "MSH|^~\\&|\rMSA|AA", want: mllp.ErrMismatch},
		{name: "UTF-16 on both sides", sent: "\xff\xfe" + wide(string(message("7"))), answer: "\xff\xfe" + wide(string(ack("7")))},
		{name: "UTF-16 that answers another message", sent: "\xff\xfe" + wide(string(message("7"))), answer: wide(string(ack("8"))), want: mllp.ErrMismatch},
		{name: "a byte order mark before the answer", sent: string(message("7")), answer: "\xef\xbb\xbf" + string(ack("7"))},
		{name: "an empty block", sent: string(message("7")), answer: "", want: mllp.ErrGarbage},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr := newReceiver(t, func(nc net.Conn) {
				in := mllp.NewReader(nc, 0)
				in.Next()
				fmt.Fprint(nc, frame([]byte(c.answer)))
				in.Next()
			})
			got, err := client(t, &mllp.Client{Addr: addr}).Send(t.Context(), []byte(c.sent))
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if c.want == nil && string(got) != c.answer {
				t.Errorf("answer %q", got)
			}
			if c.want != nil && got != nil {
				t.Errorf("an answer that does not count was handed out: %q", got)
			}
		})
	}
}
