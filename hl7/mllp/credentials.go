package mllp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// TLSFiles names PEM files of one side of a connection.
type TLSFiles struct {
	Certificate string // the certificate, then its intermediates. A client may go without
	Key         string // its private key
	// Peers holds the certificates of the authorities (or the very certificates) that the other side must show one of.
	// A server without asks for no client certificate; a client without trusts the system's authorities.
	Peers string

	Now func() time.Time // nil: time.Now
	// Reloaded, if not nil, is told after files have changed: nil, or why what was loaded before stays in use.
	Reloaded func(error)
}

// Credentials are what TLSFiles hold. At a handshake, but at most once a second, they look whether a file has changed,
// and take it up. Files that do not fit together (a renewal may be half done) leave everything as it was.
type Credentials struct {
	files TLSFiles

	mu     sync.Mutex
	pair   []tls.Certificate
	peers  *x509.CertPool
	stamp  [3]stamp
	looked time.Time
	failed error
}

// stamp is how a changed file is known.
type stamp struct {
	at   time.Time
	size int64
}

// LoadTLS reads the files.
func LoadTLS(files TLSFiles) (*Credentials, error) {
	if (files.Certificate == "") != (files.Key == "") {
		return nil, errors.New("mllp: tls: certificate and key come together; one of the files is not named")
	}
	if files.Now == nil {
		files.Now = time.Now
	}
	c := &Credentials{files: files, looked: files.Now()}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("mllp: tls: %w", err)
	}
	return c, nil
}

// Server returns the configuration of a server, which follows the files. With Peers it demands a client certificate
// that one of them has signed; no other authority counts.
func (c *Credentials) Server() (*tls.Config, error) {
	if c.files.Certificate == "" {
		return nil, errors.New("mllp: tls: a server needs a certificate and its key")
	}
	return &tls.Config{
		MinVersion: minimumTLS,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			pair, peers := c.current()
			conf := &tls.Config{MinVersion: minimumTLS, Certificates: pair}
			if c.files.Peers != "" {
				conf.ClientCAs, conf.ClientAuth = peers, tls.RequireAndVerifyClientCert
			}
			return conf, nil
		},
	}, nil
}

// Client returns the configuration of a client as the files are now. It is what Client.TLSFrom asks for.
func (c *Credentials) Client() (*tls.Config, error) {
	pair, peers := c.current()
	return &tls.Config{MinVersion: minimumTLS, Certificates: pair, RootCAs: peers}, nil
}

// Err says why the last change of the files was not taken up, or nil.
func (c *Credentials) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

func (c *Credentials) current() ([]tls.Certificate, *x509.CertPool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.files.Now()
	if now.Sub(c.looked) >= time.Second {
		c.looked = now
		c.reload()
	}
	return c.pair, c.peers
}

// reload keeps the old stamp after a failure, so the next look tries again.
func (c *Credentials) reload() {
	if stamp, err := c.look(); err == nil && stamp == c.stamp {
		c.failed = nil
		return
	}
	err := c.load()
	if err != nil {
		err = fmt.Errorf("mllp: tls: files have changed and cannot be used: %w", err)
	}
	tell := err == nil || c.failed == nil
	c.failed = err
	if tell && c.files.Reloaded != nil {
		c.files.Reloaded(err)
	}
}

func (c *Credentials) look() (s [3]stamp, err error) {
	for i, name := range [...]string{c.files.Certificate, c.files.Key, c.files.Peers} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return s, err
		}
		s[i] = stamp{at: info.ModTime(), size: info.Size()}
	}
	return s, nil
}

func (c *Credentials) load() error {
	stamp, err := c.look() // before reading: what changes meanwhile is seen at the next look
	if err != nil {
		return err
	}
	var pair []tls.Certificate
	if c.files.Certificate != "" {
		p, err := tls.LoadX509KeyPair(c.files.Certificate, c.files.Key)
		if err != nil {
			return fmt.Errorf("certificate %s with key %s: %w", c.files.Certificate, c.files.Key, err)
		}
		pair = []tls.Certificate{p}
	}
	var peers *x509.CertPool
	if c.files.Peers != "" {
		text, err := os.ReadFile(c.files.Peers)
		if err != nil {
			return err
		}
		peers = x509.NewCertPool()
		if !peers.AppendCertsFromPEM(text) {
			return fmt.Errorf("peers %s: no certificate in it", c.files.Peers)
		}
	}
	c.pair, c.peers, c.stamp = pair, peers, stamp
	return nil
}
