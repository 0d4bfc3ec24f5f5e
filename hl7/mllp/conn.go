package mllp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// conn is one connection of a Server. Its goroutine runs serve; drain is called from another.
type conn struct {
	run  *serving
	s    *Server
	peer *Peer
	raw  net.Conn // closed from outside to cut
	nc   net.Conn // raw, or TLS over it
	r    *Reader
	out  []byte // reused for answers

	skipped  int64     // as told to Events
	blocks   int       // handled, for the log
	blockEnd time.Time // by when the block under way must have ended; zero before its first read
	last     bool      // no block after this one: the drain came while it was arriving

	mu     sync.Mutex
	at     position
	drains bool
}

var errDraining = errors.New("mllp: draining")

func newConn(run *serving, raw net.Conn, peer *Peer) *conn {
	c := &conn{run: run, s: run.s, peer: peer, raw: raw, nc: raw, at: greeting}
	if run.tls != nil {
		c.nc = tls.Server(raw, run.tls)
	}
	c.r = NewReader(c.nc, c.s.MaxBlock)
	c.r.gate = c.gate
	return c
}

func (c *conn) serve(ctx context.Context) {
	if t, ok := c.nc.(*tls.Conn); ok {
		if err := c.handshake(t); err != nil {
			c.raw.Close()
			if !c.run.draining() {
				c.s.refuse(c.run.log, c.peer.Addr, NoHandshake, err)
			}
			return
		}
	}
	c.s.Events.opened(c.peer)
	c.run.log.Debug("mllp: connection opened", "conn", c.peer.ConnID, "peer", c.peer.Addr, "name", c.peer.Name)
	why, err := c.loop(ctx)
	c.end(why)
	c.s.Events.closed(c.peer, why)
	c.run.log.Log(ctx, level(why), "mllp: connection closed", "conn", c.peer.ConnID, "peer", c.peer.Addr, "name", c.peer.Name,
		"reason", string(why), "error", err, "blocks", c.blocks, "stray bytes", c.r.Skipped())
}

// level: senders that open a connection for each message exist, so what is usual is not worth a line.
func level(why Reason) slog.Level {
	switch why {
	case PeerClosed, Idle, Drained:
		return slog.LevelDebug
	default:
		return slog.LevelWarn
	}
}

func (c *conn) handshake(t *tls.Conn) error {
	c.mu.Lock()
	if c.drains {
		c.mu.Unlock()
		return errDraining
	}
	_ = t.SetDeadline(time.Now().Add(handshakeTimeout))
	c.mu.Unlock()
	if err := t.Handshake(); err != nil {
		return err
	}
	c.peer.identify(t.ConnectionState())
	return nil
}

// loop returns why the connection ends, with the error that the log should add, if there is more to say. A panic of the
// handler is kept to its connection: one message must not end the service for all others. What a panic says may hold
// content, so only its type is logged.
func (c *conn) loop(ctx context.Context) (why Reason, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.run.log.Error("mllp: handler panicked", "conn", c.peer.ConnID, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			why, err = HandlerPanic, nil
		}
	}()
	for {
		block, err := c.next()
		c.tellStray()
		if err != nil {
			return c.readEnded(ctx, err)
		}
		c.blocks++
		answer, why, err := c.handle(ctx, block)
		if why != "" {
			return why, err
		}
		if len(answer) > 0 {
			if err := c.write(answer); err != nil {
				return SlowAnswer, err
			}
		}
		if c.last {
			return Drained, nil
		}
	}
}

func (c *conn) next() ([]byte, error) {
	c.blockEnd = time.Time{}
	block, err := c.r.Next()
	c.mu.Lock()
	c.at = nowhere
	c.mu.Unlock()
	return block, err
}

// gate sets the deadline of the read that follows. A drain may come at any moment, so it decides under the lock.
func (c *conn) gate(at position) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drains {
		if at == between {
			return errDraining
		}
		c.last = true
	}
	if at == c.at && at != afterEnd {
		return nil
	}
	var deadline time.Time
	if at == between {
		deadline = within(orDefault(c.s.IdleTimeout, defaultIdleTimeout))
	} else {
		if c.blockEnd.IsZero() {
			c.blockEnd = within(orDefault(c.s.ReadTimeout, defaultReadTimeout))
		}
		deadline = c.blockEnd
	}
	if at == afterEnd {
		deadline = sooner(deadline, within(endWait))
	}
	c.at = at
	return c.nc.SetReadDeadline(deadline)
}

func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drains = true
	if c.at == between || c.at == greeting {
		_ = c.nc.SetReadDeadline(past())
	}
}

func (c *conn) tellStray() {
	n := c.r.Skipped()
	c.s.Events.stray(c.peer, n-c.skipped)
	c.skipped = n
}

// handle returns a reason when the connection must end without an answer.
func (c *conn) handle(ctx context.Context, block []byte) (answer []byte, why Reason, err error) {
	answer, err = c.s.Handler.Handle(ctx, c.peer, block)
	switch {
	case err == nil:
		return answer, "", nil
	case err == ErrClose:
		return nil, HandlerEnded, nil
	default:
		return nil, HandlerEnded, err
	}
}

// write sends one answer with one write.
func (c *conn) write(answer []byte) error {
	frame, err := AppendFrame(c.out[:0], answer)
	if err != nil {
		return err
	}
	if cap(frame) <= keptAnswerBuffer {
		c.out = frame
	}
	if err := c.nc.SetWriteDeadline(within(orDefault(c.s.WriteTimeout, defaultWriteTimeout))); err != nil {
		return err
	}
	_, err = c.nc.Write(frame)
	return err
}

func (c *conn) readEnded(ctx context.Context, err error) (Reason, error) {
	switch {
	case err == errDraining:
		return Drained, nil
	case err == ErrTooLong:
		return LongBlock, c.refuseLong(ctx)
	case err == ErrStray:
		return StrayBytes, nil
	case err == io.EOF:
		return PeerClosed, nil
	case err == io.ErrUnexpectedEOF:
		return PeerCut, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return c.late(), nil
	default:
		return PeerReset, err
	}
}

// late tells apart why a read has timed out.
func (c *conn) late() Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.r.broken != nil:
		return SlowBlock
	case c.drains:
		return Drained
	default:
		return Idle
	}
}

func (c *conn) refuseLong(ctx context.Context) error {
	c.s.Events.tooLong(c.peer)
	prefix := c.r.prefix()
	c.r.release() // before the handler: its memory is not needed any more
	refuser, ok := c.s.Handler.(Refuser)
	if !ok {
		return nil
	}
	answer := refuser.TooLong(ctx, c.peer, prefix)
	if len(answer) == 0 {
		return nil
	}
	return c.write(answer)
}

// end closes the connection. When the peer may still be sending, it first closes its own direction only and reads on
// for a moment: closing with bytes unread resets the connection, and a reset can take from the peer an answer that
// was written before.
func (c *conn) end(why Reason) {
	switch why {
	case Drained, StrayBytes:
		c.linger(lingerAfterDrain)
	case LongBlock:
		c.linger(lingerAfterTooLong)
	}
	c.nc.Close()
	c.raw.Close() // TLS closes it too, unless saying goodbye failed
}

func (c *conn) linger(d time.Duration) {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok {
		return
	}
	if err := half.CloseWrite(); err != nil {
		return
	}
	if c.nc != c.raw { // after TLS has said goodbye, TCP must too
		if half, ok := c.raw.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}
	_ = c.raw.SetReadDeadline(time.Now().Add(d))
	_, _ = io.Copy(io.Discard, struct{ io.Reader }{c.raw})
}
