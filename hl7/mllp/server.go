package mllp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Handler takes the blocks of all connections: one at a time and in order from each connection, at once from
// several.
//
// The block is the handler's to keep. A non-empty answer is framed and written; with none, nothing is written and the
// next block is awaited. With an error the connection is closed without an answer, which tells the sender that nothing
// is known about the block. The error's text is logged, so it must not hold content; ErrClose is not an occasion for
// a warning. The context ends when the server gives up waiting for a drain, not when the drain begins.
type Handler interface {
	Handle(ctx context.Context, peer *Peer, block []byte) (answer []byte, err error)
}

// HandlerFunc is a Handler of one function.
type HandlerFunc func(ctx context.Context, peer *Peer, block []byte) (answer []byte, err error)

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, peer *Peer, block []byte) ([]byte, error) {
	return f(ctx, peer, block)
}

// A Refuser is a Handler that answers a block which is longer than the server's limit, before its connection ends.
// The prefix holds the first bytes of the block, up to 4 KiB, so that the answer can name the message.
type Refuser interface {
	TooLong(ctx context.Context, peer *Peer, prefix []byte) (answer []byte)
}

// A Server answers blocks. Its fields are set before Serve and not changed after. For durations, zero means the
// default and less than zero no limit.
type Server struct {
	Handler Handler
	// TLS, if not nil, is asked of every connection. Versions below 1.2 are refused whatever it says, and where it
	// names no cipher suites, those for 1.2 are the ones with forward secrecy and authenticated encryption.
	TLS   *tls.Config
	Allow []netip.Prefix // empty: every address

	MaxBlock        int // bytes of content; 0: 16 MiB
	MaxConns        int // 0: 1024
	MaxConnsPerPeer int // of one address; 0: 128

	IdleTimeout  time.Duration // from one block to the beginning of the next; 0: 30 minutes
	ReadTimeout  time.Duration // from the beginning of a block to its end; 0: 1 minute
	WriteTimeout time.Duration // for an answer; 0: 30 seconds
	KeepAlive    time.Duration // between TCP probes; 0: 15 seconds
	DrainTimeout time.Duration // after Serve's context ended, until connections are cut; 0: 30 seconds

	Log    *slog.Logger // nil: nothing is logged. Never content
	Events Events

	mu      sync.Mutex
	closed  bool
	lastID  uint64
	conns   int
	perAddr map[netip.Addr]int
	serving map[*serving]struct{}
	refusal refusalLog
}

// serving is one call of Serve.
type serving struct {
	s      *Server
	ln     net.Listener
	tls    *tls.Config
	log    *slog.Logger
	ctx    context.Context // for handlers; ends when connections are cut
	cut    context.CancelFunc
	done   chan struct{}
	wg     sync.WaitGroup
	mu     sync.Mutex
	drains bool
	conns  map[*conn]struct{}
}

// Serve accepts connections from ln until ctx ends, and closes ln. Then it drains: idle connections are closed,
// blocks under way (and those that have arrived behind them) are finished and answered, and after DrainTimeout what
// is left is cut. It returns nil after a drain, and otherwise says why it could not go on accepting.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	run, err := s.begin(ctx, ln)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	defer s.finish(run)
	stop := context.AfterFunc(ctx, run.drain)
	err = run.accept()
	stop()
	run.drain()
	if d := orDefault(s.DrainTimeout, defaultDrainTimeout); d > 0 {
		t := time.AfterFunc(d, run.force)
		defer t.Stop()
	}
	run.wg.Wait()
	return err
}

// Shutdown drains every Serve under way, and makes later ones return ErrServerClosed. If ctx ends first, connections
// are cut and ctx's error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	var runs []*serving
	for r := range s.serving {
		runs = append(runs, r)
	}
	s.mu.Unlock()
	for _, r := range runs {
		r.drain()
	}
	for _, r := range runs {
		select {
		case <-r.done:
		case <-ctx.Done():
			for _, r := range runs {
				r.force()
			}
			return fmt.Errorf("mllp: drain: %w", ctx.Err())
		}
	}
	return nil
}

func (s *Server) begin(ctx context.Context, ln net.Listener) (*serving, error) {
	if s.Handler == nil {
		return nil, errors.New("mllp: server has no handler")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrServerClosed
	}
	run := &serving{s: s, ln: ln, log: s.Log, done: make(chan struct{}), conns: map[*conn]struct{}{}}
	run.ctx, run.cut = context.WithCancel(context.WithoutCancel(ctx))
	if run.log == nil {
		run.log = slog.New(slog.DiscardHandler)
	}
	if s.TLS != nil {
		run.tls = hardened(s.TLS)
	}
	if s.serving == nil {
		s.serving, s.perAddr = map[*serving]struct{}{}, map[netip.Addr]int{}
	}
	s.serving[run] = struct{}{}
	return run, nil
}

func (s *Server) finish(run *serving) {
	run.cut()
	s.mu.Lock()
	delete(s.serving, run)
	s.mu.Unlock()
	close(run.done)
}

// accept returns nil once the drain has begun.
func (r *serving) accept() error {
	wait := time.Duration(0)
	for {
		nc, err := r.ln.Accept()
		if err == nil {
			wait = 0
			r.open(nc)
			continue
		}
		if r.draining() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("mllp: accept: %w", err)
		}
		// Out of file descriptors, most likely; connections that end give some back.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		r.log.Error("mllp: accept", "error", err, "next try in", wait)
		time.Sleep(wait)
	}
}

// open admits a connection and starts its goroutine, for which Serve waits.
func (r *serving) open(nc net.Conn) {
	s := r.s
	addr := addrPort(nc.RemoteAddr())
	id, why := s.admit(addr.Addr())
	if why != "" {
		s.refuse(r.log, addr, why, nil)
		nc.Close()
		return
	}
	if t, ok := nc.(*net.TCPConn); ok {
		keepAlive(t, s.KeepAlive)
	}
	c := newConn(r, nc, &Peer{Addr: addr, Local: addrPort(nc.LocalAddr()), ConnID: id})
	r.mu.Lock()
	drains := r.drains
	if !drains {
		r.conns[c] = struct{}{}
	}
	r.mu.Unlock()
	if drains {
		nc.Close()
		s.leave(addr.Addr())
		return
	}
	r.wg.Go(func() {
		defer s.leave(addr.Addr())
		defer func() {
			r.mu.Lock()
			delete(r.conns, c)
			r.mu.Unlock()
		}()
		c.serve(r.ctx)
	})
}

// admit counts the connection, or says why it may not come in.
func (s *Server) admit(a netip.Addr) (id uint64, why Reason) {
	if !s.allowed(a) {
		return 0, NotAllowed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns >= cmp.Or(s.MaxConns, defaultMaxConns) {
		return 0, TooManyConns
	}
	if s.perAddr[a] >= cmp.Or(s.MaxConnsPerPeer, defaultMaxConnsPerPeer) {
		return 0, TooManyPeerConns
	}
	s.conns++
	s.perAddr[a]++
	s.lastID++
	return s.lastID, ""
}

func (s *Server) allowed(a netip.Addr) bool {
	if len(s.Allow) == 0 {
		return true
	}
	for _, p := range s.Allow {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func (s *Server) leave(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns--
	if s.perAddr[a]--; s.perAddr[a] == 0 {
		delete(s.perAddr, a)
	}
}

func (s *Server) refuse(log *slog.Logger, a netip.AddrPort, why Reason, err error) {
	s.Events.refused(a, why)
	if n, ok := s.refusal.due(time.Now()); ok {
		log.Warn("mllp: connection refused", "peer", a, "reason", string(why), "error", err, "others since", n)
	}
}

// refusalLog lets one line a second through, so that a stranger cannot fill the log. Events count all.
type refusalLog struct {
	mu     sync.Mutex
	last   time.Time
	silent int
}

func (l *refusalLog) due(now time.Time) (silent int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.last) < time.Second {
		l.silent++
		return 0, false
	}
	silent, l.silent, l.last = l.silent, 0, now
	return silent, true
}

func (r *serving) draining() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.drains
}

// drain works from outside in: the listener, then the idle connections; busy ones see it when they are done.
func (r *serving) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.drains {
		return
	}
	r.drains = true
	r.ln.Close()
	for c := range r.conns {
		c.drain()
	}
}

// force cuts what has not drained, and tells handlers so.
func (r *serving) force() {
	r.cut()
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.raw.Close()
	}
}

func keepAlive(t *net.TCPConn, every time.Duration) {
	every = orDefault(every, defaultKeepAlive)
	// Best effort: a connection without probes still has its time-outs.
	_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: every > 0, Idle: every, Interval: every, Count: 4})
}
