package mllp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

// All messages in these tests are invented.
func message(id string) []byte {
	return []byte("MSH|^~\\&|SND|HOSP|RCV|LAB|20260101120000||ADT^A01^ADT_A01|" + id + "|P|2.5\rPID|1||4711^^^HOSP^MR||Testpatient^Tim\r")
}

func ack(id string) []byte {
	return []byte("MSH|^~\\&|RCV|LAB|SND|HOSP|20260101120001||ACK^A01^ACK|R" + id + "|P|2.5\rMSA|AA|" + id + "\r")
}

// acknowledge answers what has a control ID.
func acknowledge(_ context.Context, _ *mllp.Peer, block []byte) ([]byte, error) {
	f := bytes.Split(block, []byte("|"))
	if len(f) < 10 {
		return nil, mllp.ErrClose
	}
	return ack(string(f[9])), nil
}

// served is a running Server.
type served struct {
	addr string
	stop context.CancelFunc
	done chan error
	seen *eventLog
}

func serve(t *testing.T, s *mllp.Server) *served {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &served{addr: ln.Addr().String(), stop: cancel, done: make(chan error, 1), seen: &eventLog{}}
	s.Events = r.seen.events()
	go func() { r.done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-r.done; err != nil && !errors.Is(err, mllp.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		r.done <- nil
	})
	return r
}

// wait stops the server and returns how long the drain took.
func (r *served) wait(t *testing.T) time.Duration {
	t.Helper()
	start := time.Now()
	r.stop()
	err := <-r.done
	r.done <- nil
	if err != nil {
		t.Errorf("serve: %v", err)
	}
	return time.Since(start)
}

type eventLog struct {
	mu   sync.Mutex
	list []string
}

func (l *eventLog) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprintf(format, args...))
}

func (l *eventLog) has(what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.list {
		if strings.Contains(e, what) {
			return true
		}
	}
	return false
}

// count says how many events begin with what.
func (l *eventLog) count(what string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.list {
		if strings.HasPrefix(e, what) {
			n++
		}
	}
	return n
}

func (l *eventLog) await(t *testing.T, what string) {
	t.Helper()
	for range 500 {
		if l.has(what) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Fatalf("no event %q in %q", what, l.list)
}

func (l *eventLog) events() mllp.Events {
	return mllp.Events{
		Opened:  func(p *mllp.Peer) { l.add("opened %d %s", p.ConnID, p.Name) },
		Refused: func(_ netip.AddrPort, why mllp.Reason) { l.add("refused: %s", why) },
		Closed:  func(p *mllp.Peer, why mllp.Reason) { l.add("closed: %s", why) },
		TooLong: func(*mllp.Peer) { l.add("too long") },
		Stray:   func(_ *mllp.Peer, n int64) { l.add("stray %d", n) },
	}
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

func frame(b []byte) string { return "\x0b" + string(b) + "\x1c\r" }

func TestServerAnswers(t *testing.T) {
	for _, c := range []struct {
		name  string
		write []string // a packet each
		half  bool     // close our direction afterwards
		want  string
		event string
	}{
		{name: "one frame in one packet", write: []string{frame(message("1"))}, want: frame(ack("1"))},
		{name: "several frames in a packet, in order", write: []string{frame(message("1")) + frame(message("2")) + frame(message("3"))}, want: frame(ack("1")) + frame(ack("2")) + frame(ack("3"))},
		{name: "one frame in many packets", write: strings.SplitAfter(frame(message("1")), "|"), want: frame(ack("1"))},
		{name: "stray bytes before a frame", write: []string{"\r\nhello", frame(message("1"))}, want: frame(ack("1")), event: "stray 7"},
		{name: "no final CR, and silence", write: []string{strings.TrimSuffix(frame(message("1")), "\r")}, want: frame(ack("1"))},
		{name: "no final CR, and the next frame at once", write: []string{"\x0b" + string(message("1")) + "\x1c" + frame(message("2"))}, want: frame(ack("1")) + frame(ack("2"))},
		{name: "a sender that half-closes after its last frame", write: []string{frame(message("1"))}, half: true, want: frame(ack("1")), event: "closed: peer closed"},
		{name: "a sender that half-closes without a final CR", write: []string{strings.TrimSuffix(frame(message("1")), "\r")}, half: true, want: frame(ack("1"))},
		{name: "a sender that is cut inside its second frame gets the first answer", write: []string{frame(message("1")) + "\x0bMSH|"}, half: true, want: frame(ack("1")), event: "closed: peer closed inside a block"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge)})
			nc := dial(t, r.addr)
			for _, p := range c.write {
				write(t, nc, p)
				if len(c.write) > 1 {
					time.Sleep(time.Millisecond)
				}
			}
			if c.half {
				nc.CloseWrite()
			}
			got := make([]byte, len(c.want))
			if _, err := io.ReadFull(nc, got); err != nil || string(got) != c.want {
				t.Fatalf("got %q, %v", got, err)
			}
			if c.half {
				if n, err := nc.Read(got); err != io.EOF {
					t.Errorf("after the answers: %d bytes, %v", n, err)
				}
			}
			if c.event != "" {
				r.seen.await(t, c.event)
			}
		})
	}
}

func TestServerCloses(t *testing.T) {
	boom := errors.New("disk is full")
	for _, c := range []struct {
		name   string
		server *mllp.Server
		write  string
		want   string // read until the end
		event  string
	}{
		{name: "an idle connection", server: &mllp.Server{IdleTimeout: 50 * time.Millisecond}, event: "closed: idle"},
		{name: "a connection that sends stray bytes only, as idle", server: &mllp.Server{IdleTimeout: 50 * time.Millisecond}, write: "GET / HTTP/1.1\r\n\r\n", event: "closed: idle"},
		{name: "a block that does not end in time", server: &mllp.Server{ReadTimeout: 50 * time.Millisecond}, write: "\x0bMSH|", event: "closed: block did not end in time"},
		{name: "after too many stray bytes", write: strings.Repeat("x", 80<<10), event: "closed: too many bytes outside a block"},
		{name: "after a block that is too long, with the refuser's answer", server: &mllp.Server{MaxBlock: 1000, Handler: refuser{}}, write: frame([]byte("MSH|" + strings.Repeat("x", 900<<10))), want: frame([]byte("true MSH|")), event: "too long"},
		{name: "without an answer when the handler fails", server: &mllp.Server{Handler: mllp.HandlerFunc(func(context.Context, *mllp.Peer, []byte) ([]byte, error) { return []byte("x"), boom })}, write: frame(message("1")), event: "closed: closed by the handler"},
		{name: "without an answer when the handler panics", server: &mllp.Server{Handler: mllp.HandlerFunc(func(context.Context, *mllp.Peer, []byte) ([]byte, error) { panic("Testpatient") })}, write: frame(message("1")), event: "closed: handler panicked"},
		{name: "without an answer that cannot be framed", server: &mllp.Server{Handler: mllp.HandlerFunc(func(context.Context, *mllp.Peer, []byte) ([]byte, error) { return []byte("a\x1c"), nil })}, write: frame(message("1")), event: "closed: answer could not be written"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var log safeBuffer
			if c.server == nil {
				c.server = &mllp.Server{}
			}
			c.server.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			if c.server.Handler == nil {
				c.server.Handler = mllp.HandlerFunc(acknowledge)
			}
			r := serve(t, c.server)
			nc := dial(t, r.addr)
			write(t, nc, c.write)
			got, err := io.ReadAll(nc)
			if err != nil || string(got) != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
			nc.Close()
			r.seen.await(t, c.event)
			r.wait(t)
			if !strings.Contains(log.String(), "connection closed") || strings.Contains(log.String(), "Testpatient") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}

type refuser struct{}

func (refuser) Handle(context.Context, *mllp.Peer, []byte) ([]byte, error) { return nil, nil }
func (refuser) TooLong(_ context.Context, _ *mllp.Peer, prefix []byte) []byte {
	return fmt.Appendf(nil, "%v %s", len(prefix) > 1000 && len(prefix) <= 4096, prefix[:4])
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Each block has its own time, also where 0x1C inside content comes at the end of a packet.
func TestTimeForABlockIsItsOwn(t *testing.T) {
	r := serve(t, &mllp.Server{ReadTimeout: 400 * time.Millisecond, Handler: mllp.HandlerFunc(acknowledge)})
	nc := dial(t, r.addr)
	in := mllp.NewReader(nc, 0)
	for _, id := range []string{"1", "2", "3"} {
		first, last := "\x0b"+string(message(id)), "\x1c\r"
		switch id {
		case "1": // in time, but not at once
			write(t, nc, first)
			time.Sleep(20 * time.Millisecond)
			first = ""
		case "2":
			write(t, nc, first+"\x1c")
			time.Sleep(20 * time.Millisecond)
			write(t, nc, "NTE|")
			time.Sleep(20 * time.Millisecond)
			first = ""
		}
		write(t, nc, first+last)
		if b, err := in.Next(); err != nil || !bytes.Equal(b, ack(id)) {
			t.Fatalf("%s: got %q, %v", id, b, err)
		}
		if id == "1" {
			time.Sleep(450 * time.Millisecond)
		}
	}
}

// tired is a listener that fails before it accepts, as for want of file descriptors.
type tired struct {
	net.Listener
	failures int
}

func (l *tired) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, errors.New("too many open files")
	}
	return l.Listener.Accept()
}

func TestServerOutlastsFailedAccepts(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- (&mllp.Server{Handler: mllp.HandlerFunc(acknowledge)}).Serve(ctx, &tired{Listener: ln, failures: 3})
	}()
	if err := send(t, client(t, &mllp.Client{Addr: ln.Addr().String()}), "1"); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A sender that never reads is cut when an answer cannot be written in time.
func TestServerDoesNotWaitForASenderThatNeverReads(t *testing.T) {
	big := append(ack("1"), bytes.Repeat([]byte("NTE|1||invented\r"), 1<<16)...)
	r := serve(t, &mllp.Server{WriteTimeout: 50 * time.Millisecond, Handler: mllp.HandlerFunc(func(context.Context, *mllp.Peer, []byte) ([]byte, error) { return big, nil })})
	nc := dial(t, r.addr)
	for range 50 {
		if _, err := io.WriteString(nc, frame(message("1"))); err != nil {
			break
		}
	}
	r.seen.await(t, "closed: answer could not be written")
}

func TestServerRefusesConnections(t *testing.T) {
	for _, c := range []struct {
		name   string
		server *mllp.Server
		before int // connections that are taken
		event  string
	}{
		{name: "from an address that is not on the list", server: &mllp.Server{Allow: prefixes("10.0.0.0/8", "::1/128")}, event: "refused: address not allowed"},
		{name: "when there are too many", server: &mllp.Server{Allow: prefixes("127.0.0.0/8"), MaxConns: 2}, before: 2, event: "refused: too many connections"},
		{name: "when the peer has too many", server: &mllp.Server{MaxConnsPerPeer: 1}, before: 1, event: "refused: too many connections of this peer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.server.Handler = mllp.HandlerFunc(acknowledge)
			r := serve(t, c.server)
			var open []*net.TCPConn
			for i := range c.before {
				open = append(open, dial(t, r.addr))
				write(t, open[i], frame(message("1")))
				if _, err := mllp.NewReader(open[i], 0).Next(); err != nil {
					t.Fatal(err)
				}
			}
			if n, err := dial(t, r.addr).Read(make([]byte, 1)); n > 0 || err == nil {
				t.Errorf("was not closed: %d, %v", n, err)
			}
			r.seen.await(t, c.event)
			for _, nc := range open { // room again once they have gone
				nc.Close()
			}
			if len(open) == 0 {
				return
			}
			for range 200 {
				nc := dial(t, r.addr)
				write(t, nc, frame(message("9")))
				if _, err := mllp.NewReader(nc, 0).Next(); err == nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
			t.Error("closed connections are still counted")
		})
	}
}

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func TestPeerIsTold(t *testing.T) {
	peers := make(chan mllp.Peer, 2)
	r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(func(_ context.Context, p *mllp.Peer, _ []byte) ([]byte, error) {
		peers <- *p
		return nil, nil
	})})
	nc := dial(t, r.addr)
	write(t, nc, frame(message("1")))
	p := <-peers
	if p.Addr.String() != nc.LocalAddr().String() || p.Local.String() != r.addr || p.ConnID != 1 || p.Name != "" || p.TLS != nil {
		t.Errorf("peer: %+v", p)
	}
}

// slowly is a handler that answers when it is let go.
type slowly struct {
	entered chan string
	release chan struct{}
}

func (h *slowly) Handle(ctx context.Context, p *mllp.Peer, block []byte) ([]byte, error) {
	h.entered <- string(bytes.Split(block, []byte("|"))[9])
	select {
	case <-h.release:
		return acknowledge(ctx, p, block)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// What the server took is answered, whatever else is on its way when the drain begins.
func TestDrainLosesNoAnswer(t *testing.T) {
	h := &slowly{entered: make(chan string, 10), release: make(chan struct{})}
	r := serve(t, &mllp.Server{Handler: h})
	idle, busy, ahead, half := dial(t, r.addr), dial(t, r.addr), dial(t, r.addr), dial(t, r.addr)
	write(t, busy, frame(message("busy")))
	write(t, ahead, frame(message("a1"))+frame(message("a2"))+"\x0b"+string(message("a3")[:20]))
	<-h.entered
	<-h.entered
	whole := frame(message("half"))
	write(t, half, whole[:30])
	time.Sleep(200 * time.Millisecond) // so that it has begun to arrive

	stopped := make(chan time.Duration)
	go func() { stopped <- r.wait(t) }()
	if b, err := io.ReadAll(idle); len(b) > 0 || err != nil {
		t.Errorf("idle: %q, %v", b, err)
	}
	if _, err := net.Dial("tcp", r.addr); err == nil {
		t.Error("still listening")
	}
	write(t, half, whole[30:])
	write(t, ahead, string(message("a3")[20:])+"\x1c\r"+strings.Repeat(frame(message("late")), 1000))
	close(h.release)
	for _, c := range []struct {
		nc   net.Conn
		want string
	}{
		{busy, frame(ack("busy"))},
		{half, frame(ack("half"))},
	} {
		if b, err := io.ReadAll(c.nc); err != nil || string(b) != c.want {
			t.Errorf("got %q, %v; want %q", b, err, c.want)
		}
	}
	b, err := io.ReadAll(ahead)
	if err != nil || !strings.HasPrefix(string(b), frame(ack("a1"))+frame(ack("a2"))+frame(ack("a3"))) {
		t.Errorf("ahead: %q, %v", b, err)
	}
	taken := map[string]int{}
	for {
		select {
		case id := <-h.entered:
			taken[id]++
			continue
		default:
		}
		break
	}
	if n := strings.Count(string(b), "MSA|AA|late"); n != taken["late"] {
		t.Errorf("%d blocks were taken behind the others and %d answered", taken["late"], n)
	}
	for _, nc := range []net.Conn{idle, busy, ahead, half} {
		nc.Close()
	}
	if d := <-stopped; d > 5*time.Second {
		t.Errorf("the drain took %v", d)
	}
}

func TestDrainTimeoutCuts(t *testing.T) {
	h := &slowly{entered: make(chan string, 1), release: make(chan struct{})}
	r := serve(t, &mllp.Server{Handler: h, DrainTimeout: 50 * time.Millisecond})
	nc := dial(t, r.addr)
	write(t, nc, frame(message("1")))
	<-h.entered
	if d := r.wait(t); d < 50*time.Millisecond || d > 3*time.Second {
		t.Errorf("drained after %v", d)
	}
	if b, _ := io.ReadAll(nc); len(b) > 0 {
		t.Errorf("answered %q", b)
	}
}

func TestShutdown(t *testing.T) {
	h := &slowly{entered: make(chan string, 1), release: make(chan struct{})}
	s := &mllp.Server{Handler: h}
	r := serve(t, s)
	nc := dial(t, r.addr)
	write(t, nc, frame(message("1")))
	<-h.entered
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown of a busy server: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("shutdown again: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), ln); !errors.Is(err, mllp.ErrServerClosed) {
		t.Errorf("serve after shutdown: %v", err)
	}
	if err := (&mllp.Server{}).Serve(t.Context(), ln); err == nil {
		t.Error("serves without a handler")
	}
}

// A listener that is closed under the server is an error, and what is under way still finishes.
func TestServeSaysWhyItEnded(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &slowly{entered: make(chan string, 1), release: make(chan struct{})}
	done := make(chan error)
	go func() { done <- (&mllp.Server{Handler: h}).Serve(t.Context(), ln) }()
	nc := dial(t, ln.Addr().String())
	write(t, nc, frame(message("1")))
	<-h.entered
	ln.Close()
	close(h.release)
	if b, err := mllp.NewReader(bufio.NewReader(nc), 0).Next(); err != nil || !bytes.Equal(b, ack("1")) {
		t.Errorf("got %q, %v", b, err)
	}
	nc.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("serve: %v", err)
	}
}
