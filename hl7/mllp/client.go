package mllp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// A Client sends blocks to one receiver over one connection, which it dials when it is needed and keeps. Its fields
// are set before the first Send and not changed after; it may be used by several goroutines, which take turns. For
// durations, zero means the default and less than zero no limit.
type Client struct {
	Addr string // host:port
	// Dial, if not nil, opens the connection instead of TCP to Addr. TLS still goes on top.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS, if not nil, is spoken, version 1.2 at least; without a ServerName, Addr's host must be in the certificate.
	TLS *tls.Config
	// TLSFrom, if not nil, is asked for the configuration before each dial instead: see Credentials.Client.
	TLSFrom func() (*tls.Config, error)

	ConnectTimeout time.Duration // to dial, and for the handshake; 0: 10 seconds
	WriteTimeout   time.Duration // for a block; 0: 30 seconds
	AnswerTimeout  time.Duration // after the block was written; 0: 30 seconds
	IdleClose      time.Duration // closes a connection unused for so long; 0: never
	KeepAlive      time.Duration // between TCP probes; 0: 15 seconds

	MaxBlock  int  // of an answer; 0: 16 MiB
	AnyAnswer bool // take the first block that comes for the answer, whatever it says
	Backoff   Backoff

	once sync.Once
	turn chan struct{} // holds one token: whoever has it may use the connection

	mu      sync.Mutex
	closed  bool
	idle    *link                   // the connection, while nobody uses it
	cut     context.CancelCauseFunc // ends the Send under way
	retire  *time.Timer
	failed  int       // dials in a row
	notTill time.Time // the next dial
}

// Backoff spaces dials after failed ones: the first Send after a failure waits Min, or fails with its context, and
// each further failure doubles the wait, up to Max. Send itself never dials twice.
type Backoff struct {
	Min, Max time.Duration  // 0: 250 ms and 30 s
	Rand     func() float64 // in [0, 1), for the jitter: a wait is cut by up to a quarter. nil: math/rand/v2
}

// wait is how long to wait after so many failures in a row.
func (b Backoff) wait(failures int) time.Duration {
	longest := cmp.Or(b.Max, longestBackoffByDefault)
	d := min(cmp.Or(b.Min, firstBackoffByDefault), longest)
	for range failures - 1 {
		if d = min(2*d, longest); d == longest {
			break
		}
	}
	random := b.Rand
	if random == nil {
		random = rand.Float64
	}
	return d - time.Duration(random()*float64(d/4))
}

// link is a connection with what reads it and the buffer that frames are made in.
type link struct {
	raw, nc net.Conn
	r       *Reader
	out     []byte
	until   time.Time // of the answer that is awaited
	proven  bool      // an answer has come, so the handshake is over on both sides
}

// Send sends one block and returns its answer, of which the caller becomes the owner. Every error is a *SendError.
func (c *Client) Send(ctx context.Context, block []byte) (answer []byte, err error) {
	err = c.Pipeline(ctx, [][]byte{block}, 1, func(_ int, a []byte) { answer = a })
	return answer, err
}

// Close closes the connection, and ends a Send that is under way with ErrClientClosed.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.cut != nil {
		c.cut(ErrClientClosed)
	}
	if c.retire != nil {
		c.retire.Stop()
	}
	if c.idle == nil {
		return nil
	}
	l := c.idle
	c.idle = nil
	return l.close()
}

// begin takes the turn. The context that it returns also ends with Close.
func (c *Client) begin(parent context.Context) (ctx context.Context, done func(), err error) {
	c.once.Do(func() { c.turn = make(chan struct{}, 1) })
	select {
	case c.turn <- struct{}{}:
	case <-parent.Done():
		return nil, nil, context.Cause(parent)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		<-c.turn
		return nil, nil, ErrClientClosed
	}
	ctx, c.cut = context.WithCancelCause(parent)
	return ctx, func() {
		c.mu.Lock()
		c.cut(nil)
		c.cut = nil
		c.mu.Unlock()
		<-c.turn
	}, nil
}

// link returns the kept connection if it still stands, or a new one.
func (c *Client) link(ctx context.Context) (*link, error) {
	c.mu.Lock()
	l := c.idle
	c.idle = nil
	if c.retire != nil {
		c.retire.Stop()
	}
	c.mu.Unlock()
	if l != nil {
		if l.quiet() {
			return l, nil
		}
		l.close()
	}
	if err := c.pause(ctx); err != nil {
		return nil, c.failure("dial", err)
	}
	l, err := c.dial(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.failed = 0
		return l, nil
	}
	if ctx.Err() == nil {
		c.failed++
		c.notTill = time.Now().Add(c.Backoff.wait(c.failed))
	}
	return nil, err
}

// pause waits out the back-off.
func (c *Client) pause(ctx context.Context) error {
	c.mu.Lock()
	d := time.Until(c.notTill)
	if c.failed == 0 {
		d = 0
	}
	c.mu.Unlock()
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Client) dial(ctx context.Context) (*link, error) {
	conf, err := c.config()
	if err != nil {
		return nil, c.failure("handshake", err)
	}
	asked := ctx
	if d := orDefault(c.ConnectTimeout, defaultConnectTimeout); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, ErrTimeout)
		defer cancel()
	}
	raw, err := c.connect(ctx)
	if err != nil {
		return nil, c.failure("dial", dialCause(asked, ctx, err))
	}
	l := &link{raw: raw, nc: raw}
	if conf != nil {
		t := tls.Client(raw, conf)
		if err := t.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, c.failure("handshake", dialCause(asked, ctx, err))
		}
		l.nc = t
	}
	l.r = NewReader(l.nc, c.MaxBlock)
	l.r.gate = l.gate
	return l, nil
}

func (c *Client) connect(ctx context.Context) (net.Conn, error) {
	if c.Dial != nil {
		return c.Dial(ctx)
	}
	d := net.Dialer{KeepAlive: -1}
	nc, err := d.DialContext(ctx, "tcp", c.Addr)
	if t, ok := nc.(*net.TCPConn); ok && err == nil {
		keepAlive(t, c.KeepAlive)
	}
	return nc, err
}

// config returns nil for a plain connection.
func (c *Client) config() (*tls.Config, error) {
	conf := c.TLS
	if c.TLSFrom != nil {
		var err error
		if conf, err = c.TLSFrom(); err != nil {
			return nil, err
		}
		if conf == nil {
			return nil, errors.New("TLSFrom gave no configuration")
		}
	}
	if conf == nil {
		return nil, nil
	}
	conf = hardened(conf)
	if conf.ServerName == "" {
		host, _, err := net.SplitHostPort(c.Addr)
		if err != nil {
			return nil, fmt.Errorf("address: %w", err)
		}
		conf.ServerName = host
	}
	return conf, nil
}

// dialCause prefers the caller's context, then the time-out, to what the network makes of them. The network may notice
// a context's deadline a moment before the context does.
func dialCause(asked, limited context.Context, err error) error {
	var late net.Error
	switch {
	case asked.Err() != nil:
		return context.Cause(asked)
	case limited.Err() != nil:
		return ErrTimeout
	case errors.As(err, &late) && late.Timeout():
		if d, ok := asked.Deadline(); ok && !time.Now().Before(d) {
			return context.DeadlineExceeded
		}
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	default:
		return err
	}
}

// keep puts the connection back for the next Send.
func (c *Client) keep(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		l.close()
		return
	}
	c.idle = l
	if c.IdleClose <= 0 {
		return
	}
	c.retire = time.AfterFunc(c.IdleClose, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.idle == l { // not taken by a Send meanwhile
			c.idle = nil
			l.close()
		}
	})
}

func (c *Client) failure(op string, err error) *SendError {
	return &SendError{Op: op, Addr: c.Addr, Err: err}
}

// answer reads the answer to sent.
func (c *Client) answer(ctx context.Context, l *link, sent []byte) ([]byte, error) {
	skipped := l.r.Skipped()
	l.until = within(orDefault(c.AnswerTimeout, defaultAnswerTimeout))
	got, err := l.r.Next()
	if err != nil {
		stray := l.r.Skipped() - skipped
		err = cause(ctx, err)
		if stray > 0 && (errors.Is(err, ErrTimeout) || errors.Is(err, ErrClosed)) {
			err = fmt.Errorf("%w: %d bytes outside a block, then: %w", ErrGarbage, stray, err)
		}
		return nil, err
	}
	if c.AnyAnswer {
		return got, nil
	}
	return got, matches(sent, got)
}

// gate sets the deadline of a read of an answer.
func (l *link) gate(at position) error {
	deadline := l.until
	if at == afterEnd {
		deadline = sooner(deadline, within(endWait))
	}
	return l.nc.SetReadDeadline(deadline)
}

// quiet says whether an unused connection may be used again: the peer has not closed it, and has not sent anything
// that nobody has asked for, such as an answer that came too late. Finding a closed connection here, and not by
// writing to it, spares the caller an outcome that nobody knows.
func (l *link) quiet() bool {
	if l.r.Buffered() > 0 {
		return false
	}
	if silent, known := peek(l.raw); known && silent {
		return true
	} else if known && l.nc == l.raw {
		return false
	}
	// TLS has messages of its own, such as tickets, that must be read to be told from data.
	l.until = time.Now().Add(time.Millisecond)
	_, err := l.r.Next()
	return cause(context.Background(), err) == ErrTimeout && l.r.Buffered() == 0
}

// interrupt makes the end of ctx end what waits on the connection. Its result undoes this, and is false if ctx has
// ended.
func (l *link) interrupt(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { l.raw.Close() })
}

func (l *link) write(frames []byte, limit time.Duration) (int, error) {
	if err := l.nc.SetWriteDeadline(within(limit)); err != nil {
		return 0, err
	}
	return l.nc.Write(frames)
}

func (l *link) close() error {
	err := l.nc.Close()
	if l.nc != l.raw {
		l.raw.Close() // closed already, unless saying goodbye failed
	}
	return err
}

// frame makes the frame of block in the link's buffer, or in a new one when it is large.
func (l *link) frame(block []byte) []byte {
	out, err := AppendFrame(l.out[:0], block)
	if err != nil { // Pipeline has checked all blocks before the first byte was sent
		panic("mllp: " + err.Error())
	}
	if cap(out) <= keptAnswerBuffer {
		l.out = out
	}
	return out
}
