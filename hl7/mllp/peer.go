package mllp

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
)

// A Peer is who sits at the other end of a Server's connection. It is the same value for all blocks of a connection.
type Peer struct {
	Addr  netip.AddrPort // invalid where the listener is not TCP
	Local netip.AddrPort
	// Name comes from the client certificate that the server's TLS configuration has verified: its first URI, else
	// its first DNS name, else its common name. Without a verified certificate it is empty.
	Name        string
	Certificate *x509.Certificate    // verified, or nil
	TLS         *tls.ConnectionState // nil on a plain connection
	ConnID      uint64               // from 1, in the order in which the Server accepted
}

func peerName(c *x509.Certificate) string {
	switch {
	case len(c.URIs) > 0:
		return c.URIs[0].String()
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	default:
		return c.Subject.CommonName
	}
}

// identify takes over what the handshake has shown. A certificate that was asked for but not verified names nobody.
func (p *Peer) identify(state tls.ConnectionState) {
	p.TLS = &state
	if len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return
	}
	p.Certificate = state.VerifiedChains[0][0]
	p.Name = peerName(p.Certificate)
}

// addrPort is free of IPv4-in-IPv6 forms, so that an allow-list of IPv4 networks works on a dual-stack listener.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
