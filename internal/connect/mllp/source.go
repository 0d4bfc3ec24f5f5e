// Package mllp joins the engine to HL7 v2 over MLLP: package hl7/mllp's server as an [engine.Source], its client as an
// [engine.Sender].
//
// It decides three things and nothing else. Who the peer is: the name in the client certificate that was verified, and its
// address. Which client certificates may come in, where a channel names them: see [TLS.Names]. What a receiver's answer
// means: AA and CA take the message, AE, AR, CE and CR refuse it, and whatever else comes is an error after which nobody
// knows, so that the message is sent again, marked. An error before the first byte has left is an [engine.NotSent].
//
// TLS files are read when the channel is made and looked at again at each handshake: a renewed certificate needs no restart.
package mllp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/lazaret-health/lazaret/hl7/mllp"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// TLS names the PEM files of our side of a connection, and what is asked of the other.
type TLS struct {
	Certificate, Key string
	Peers            string   // authorities for the other side; a source without asks for no client certificate
	MinVersion       uint16   // tls.VersionTLS12 or 13; 0: 1.2
	Names            []string // of a source: the DNS names (or common name, where there is none), one of which a client must bear
	ServerName       string   // of a sender: the name that the receiver must bear; "": the address's host
}

// SourceConfig is what a Source needs. Channel, Listen, Now and Log are required.
type SourceConfig struct {
	Channel string // for the metrics
	Listen  string // HOST:PORT
	TLS     *TLS   // nil: plain
	Allow   []netip.Prefix

	MaxBlock        int
	MaxConns        int
	MaxConnsPerPeer int

	IdleTimeout, ReadTimeout, WriteTimeout, KeepAlive, DrainTimeout time.Duration // as in mllp.Server

	Now     func() time.Time
	Log     *slog.Logger
	Metrics *metrics.Set // nil: nothing is counted
}

// A Source is a listening MLLP server.
type Source struct {
	c      SourceConfig
	tls    *tls.Config
	meters meters
	ln     net.Listener // between Open and Run
	addr   string       // where it listens, or is to listen
}

// NewSource checks the settings and reads the TLS files. It binds nothing yet.
func NewSource(c SourceConfig) (*Source, error) {
	switch {
	case c.Channel == "" || c.Listen == "":
		return nil, errors.New("mllp source: Channel and Listen must be given")
	case c.Now == nil || c.Log == nil:
		return nil, errors.New("mllp source: Now and Log must be given")
	}
	s := &Source{c: c, addr: c.Listen, meters: newMeters(c.Metrics, c.Channel)}
	if c.TLS == nil {
		return s, nil
	}
	creds, err := c.TLS.load(c.Now, c.Log.With("channel", c.Channel))
	if err != nil {
		return nil, err
	}
	base, err := creds.Server()
	if err != nil {
		return nil, err
	}
	s.tls = c.TLS.server(base)
	return s, nil
}

// load reads the files; what happens to them later is logged.
func (t *TLS) load(now func() time.Time, log *slog.Logger) (*mllp.Credentials, error) {
	return mllp.LoadTLS(mllp.TLSFiles{Certificate: t.Certificate, Key: t.Key, Peers: t.Peers, Now: now, Reloaded: func(err error) {
		if err != nil {
			log.Error("TLS files have changed and cannot be used; the former ones stay", "error", err)
			return
		}
		log.Info("TLS files have changed and are in use")
	}})
}

// server adds to each handshake what this source asks beyond the files.
func (t *TLS) server(base *tls.Config) *tls.Config {
	files := base.GetConfigForClient
	c := base.Clone()
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		conf, err := files(hello)
		if err != nil {
			return nil, err
		}
		conf.MinVersion = max(conf.MinVersion, t.MinVersion)
		if len(t.Names) > 0 {
			conf.VerifyConnection = func(cs tls.ConnectionState) error {
				if len(cs.PeerCertificates) == 0 || !bears(cs.PeerCertificates[0], t.Names) {
					return errors.New("the client's certificate bears none of the channel's names")
				}
				return nil
			}
		}
		return conf, nil
	}
	return c
}

// bears says whether a certificate is for one of the names: by its DNS names, else by its common name. Both without case.
func bears(cert *x509.Certificate, names []string) bool {
	have := cert.DNSNames
	if len(have) == 0 {
		have = []string{cert.Subject.CommonName}
	}
	return slices.ContainsFunc(names, func(name string) bool {
		return slices.ContainsFunc(have, func(h string) bool { return strings.EqualFold(h, name) })
	})
}

// Open binds the address.
func (s *Source) Open() error {
	network := "tcp"
	if ap, err := netip.ParseAddrPort(s.c.Listen); err == nil && ap.Addr().Is4() {
		network = "tcp4" // Go would take 0.0.0.0 for IPv6 too, which who wrote it did not mean, nor their firewall
	}
	ln, err := net.Listen(network, s.c.Listen)
	if err != nil {
		return fmt.Errorf("mllp source: %w", err)
	}
	s.ln, s.addr = ln, ln.Addr().String()
	return nil
}

// Addr is where the source listens once it is open, with the port that it was given; before, what its settings say.
func (s *Source) Addr() string { return s.addr }

// Run serves what Open has bound until ctx ends, drains and closes.
func (s *Source) Run(ctx context.Context, h engine.Handler) error {
	ln := s.ln
	if ln == nil {
		return errors.New("mllp source: Run before Open")
	}
	s.ln = nil
	server := &mllp.Server{
		Handler: handler{h}, TLS: s.tls, Allow: s.c.Allow,
		MaxBlock: s.c.MaxBlock, MaxConns: s.c.MaxConns, MaxConnsPerPeer: s.c.MaxConnsPerPeer,
		IdleTimeout: s.c.IdleTimeout, ReadTimeout: s.c.ReadTimeout, WriteTimeout: s.c.WriteTimeout,
		KeepAlive: s.c.KeepAlive, DrainTimeout: s.c.DrainTimeout,
		Log: s.c.Log.With("channel", s.c.Channel),
		Events: mllp.Events{
			Opened: func(*mllp.Peer) { s.meters.open.Inc() },
			Closed: func(_ *mllp.Peer, why mllp.Reason) {
				s.meters.open.Dec()
				s.meters.ended(why)
			},
			Refused: func(addr netip.AddrPort, why mllp.Reason) {
				s.meters.refused(why)
				h.Refused(engine.Peer{Addr: addr}, string(why))
			},
			Stray: func(_ *mllp.Peer, n int64) { s.meters.stray.Add(int(n)) },
		},
	}
	return server.Serve(ctx, ln)
}

// handler gives the engine the blocks of a server.
type handler struct{ engine engine.Handler }

func (h handler) Handle(ctx context.Context, p *mllp.Peer, block []byte) ([]byte, error) {
	return h.engine.Accept(ctx, peer(p), block)
}

func (h handler) TooLong(ctx context.Context, p *mllp.Peer, prefix []byte) []byte {
	return h.engine.TooLong(ctx, peer(p), prefix)
}

func peer(p *mllp.Peer) engine.Peer { return engine.Peer{Name: p.Name, Addr: p.Addr} }
