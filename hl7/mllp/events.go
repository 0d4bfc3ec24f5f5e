package mllp

import "net/netip"

// Events are told what a Server does with its connections, for metrics. Each may be nil. They are called from the
// goroutines of the connections, so they must be quick and safe to call at once.
type Events struct {
	Opened  func(*Peer) // after the handshake, where there is TLS
	Refused func(addr netip.AddrPort, why Reason)
	Closed  func(p *Peer, why Reason) // once for each Opened
	TooLong func(*Peer)
	Stray   func(p *Peer, bytes int64) // bytes skipped before a block, or before the end
}

// A Reason says in a few fixed words why a connection was refused or ended; it may be a metric's label.
type Reason string

// Why a connection was refused: Events.Refused.
const (
	NotAllowed       Reason = "address not allowed"
	TooManyConns     Reason = "too many connections"
	TooManyPeerConns Reason = "too many connections of this peer"
	NoHandshake      Reason = "TLS handshake failed"
)

// Why a connection ended: Events.Closed.
const (
	PeerClosed   Reason = "peer closed"
	PeerCut      Reason = "peer closed inside a block"
	PeerReset    Reason = "connection broke"
	Idle         Reason = "idle"
	SlowBlock    Reason = "block did not end in time"
	SlowAnswer   Reason = "answer could not be written"
	LongBlock    Reason = "block too long"
	StrayBytes   Reason = "too many bytes outside a block"
	HandlerEnded Reason = "closed by the handler"
	HandlerPanic Reason = "handler panicked"
	Drained      Reason = "server drained"
)

func (e *Events) opened(p *Peer) {
	if e.Opened != nil {
		e.Opened(p)
	}
}

func (e *Events) refused(a netip.AddrPort, why Reason) {
	if e.Refused != nil {
		e.Refused(a, why)
	}
}

func (e *Events) closed(p *Peer, why Reason) {
	if e.Closed != nil {
		e.Closed(p, why)
	}
}

func (e *Events) tooLong(p *Peer) {
	if e.TooLong != nil {
		e.TooLong(p)
	}
}

func (e *Events) stray(p *Peer, bytes int64) {
	if bytes > 0 && e.Stray != nil {
		e.Stray(p, bytes)
	}
}
