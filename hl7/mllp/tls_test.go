package mllp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

func TestPeerIsNamedByItsCertificate(t *testing.T) {
	ca := newAuthority(t, "Hospital CA")
	for _, c := range []struct {
		name string
		cert *x509.Certificate
		want string
	}{
		{name: "URI first", cert: &x509.Certificate{Subject: pkix.Name{CommonName: "cn"}, DNSNames: []string{"lab.example"}, URIs: []*url.URL{mustURL("urn:oid:1.2.3")}}, want: "urn:oid:1.2.3"},
		{name: "then DNS", cert: &x509.Certificate{Subject: pkix.Name{CommonName: "cn"}, DNSNames: []string{"lab.example", "b.example"}}, want: "lab.example"},
		{name: "then the common name", cert: &x509.Certificate{Subject: pkix.Name{CommonName: "cn"}}, want: "cn"},
	} {
		t.Run(c.name, func(t *testing.T) {
			peers := make(chan *mllp.Peer, 1)
			r := serve(t, &mllp.Server{
				TLS: &tls.Config{Certificates: []tls.Certificate{ca.server()}, ClientCAs: ca.pool(), ClientAuth: tls.RequireAndVerifyClientCert},
				Handler: mllp.HandlerFunc(func(ctx context.Context, p *mllp.Peer, b []byte) ([]byte, error) {
					peers <- p
					return acknowledge(ctx, p, b)
				})})
			pair := ca.issue(c.cert)
			cl := client(t, &mllp.Client{Addr: r.addr, TLS: &tls.Config{RootCAs: ca.pool(), Certificates: []tls.Certificate{pair}}})
			if err := send(t, cl, "1"); err != nil {
				t.Fatal(err)
			}
			p := <-peers
			if p.Name != c.want || !p.Certificate.Equal(pair.Leaf) || p.TLS.Version < tls.VersionTLS13 {
				t.Errorf("peer %q, certificate of %v", p.Name, p.Certificate.Subject)
			}
		})
	}
}

func TestHandshakes(t *testing.T) {
	ca, other := newAuthority(t, "Hospital CA"), newAuthority(t, "Other CA")
	expired := ca.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "old"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	elsewhere := ca.issue(&x509.Certificate{DNSNames: []string{"elsewhere.example"}})
	mutual := &tls.Config{Certificates: []tls.Certificate{ca.server()}, ClientCAs: ca.pool(), ClientAuth: tls.RequireAndVerifyClientCert}
	oneSided := &tls.Config{Certificates: []tls.Certificate{ca.server()}}
	good := []tls.Certificate{ca.client("good")}
	for _, c := range []struct {
		name           string
		server, client *tls.Config
		ok             bool
		refusedBy      string
	}{
		{name: "a good client", server: mutual, client: &tls.Config{RootCAs: ca.pool(), Certificates: good}, ok: true},
		{name: "a good client with TLS 1.2", server: mutual, client: &tls.Config{RootCAs: ca.pool(), Certificates: good, MaxVersion: tls.VersionTLS12}, ok: true},
		{name: "no certificate", server: mutual, client: &tls.Config{RootCAs: ca.pool()}, refusedBy: "server"},
		{name: "no certificate with TLS 1.2", server: mutual, client: &tls.Config{RootCAs: ca.pool(), MaxVersion: tls.VersionTLS12}, refusedBy: "server"},
		{name: "another authority's certificate", server: mutual, client: &tls.Config{RootCAs: ca.pool(), Certificates: []tls.Certificate{other.client("good")}}, refusedBy: "server"},
		{name: "an expired certificate", server: mutual, client: &tls.Config{RootCAs: ca.pool(), Certificates: []tls.Certificate{expired}}, refusedBy: "server"},
		{name: "no certificate where none is asked for", server: oneSided, client: &tls.Config{RootCAs: ca.pool()}, ok: true},
		{name: "a server of another authority", server: oneSided, client: &tls.Config{RootCAs: other.pool()}, refusedBy: "client"},
		{name: "a server of another name", server: &tls.Config{Certificates: []tls.Certificate{elsewhere}}, client: &tls.Config{RootCAs: ca.pool()}, refusedBy: "client"},
		{name: "a server of the name that is asked for", server: &tls.Config{Certificates: []tls.Certificate{elsewhere}}, client: &tls.Config{RootCAs: ca.pool(), ServerName: "elsewhere.example"}, ok: true},
		{name: "TLS 1.1, though the configurations allow it", server: &tls.Config{Certificates: []tls.Certificate{ca.server()}, MinVersion: tls.VersionTLS10}, client: &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, refusedBy: "client"},
		{name: "a cipher suite without forward secrecy", server: oneSided, client: &tls.Config{RootCAs: ca.pool(), MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, refusedBy: "server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := serve(t, &mllp.Server{TLS: c.server, Handler: mllp.HandlerFunc(acknowledge)})
			err := send(t, client(t, &mllp.Client{Addr: r.addr, TLS: c.client}), "1")
			if c.ok {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var se *mllp.SendError
			if !errors.As(err, &se) {
				t.Fatalf("got %v", err)
			}
			if c.refusedBy == "client" && (se.Op != "handshake" || se.Sent) {
				t.Errorf("got %v", err)
			}
			// In TLS 1.3 the alert may be lost to a reset; then nobody knows, and Sent must say so.
			if c.refusedBy == "server" && se.Op == "handshake" && se.Sent {
				t.Errorf("the server never read the block: %v", err)
			}
			r.seen.await(t, "refused: TLS handshake failed")
			if r.seen.has("opened") {
				t.Error("and yet it was opened")
			}
		})
	}
}

// A bare TLS 1.1 client must fail at the server, not only because our client would not speak it.
func TestServerRefusesOldTLS(t *testing.T) {
	ca := newAuthority(t, "Hospital CA")
	r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge), TLS: &tls.Config{Certificates: []tls.Certificate{ca.server()}, MinVersion: tls.VersionTLS10}})
	nc, err := tls.Dial("tcp", r.addr, &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		nc.Close()
		t.Fatal("TLS 1.1 was accepted")
	}
	r.seen.await(t, "refused: TLS handshake failed")
}

func TestPlainAndTLSDoNotMix(t *testing.T) {
	ca := newAuthority(t, "Hospital CA")
	secure := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge), TLS: &tls.Config{Certificates: []tls.Certificate{ca.server()}}})
	plain := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge), IdleTimeout: 50 * time.Millisecond})
	if err := send(t, client(t, &mllp.Client{Addr: secure.addr, AnswerTimeout: time.Second}), "1"); err == nil {
		t.Error("plain text was taken on a TLS port")
	}
	secure.seen.await(t, "refused: TLS handshake failed")
	if err := send(t, client(t, &mllp.Client{Addr: plain.addr, TLS: &tls.Config{RootCAs: ca.pool()}, ConnectTimeout: time.Second}), "1"); err == nil {
		t.Error("TLS was taken on a plain port")
	}
}

func TestTLSConnectionsEndWell(t *testing.T) {
	ca := newAuthority(t, "Hospital CA")
	config := &tls.Config{Certificates: []tls.Certificate{ca.server()}}
	t.Run("a half-close after the last frame still gets the answer", func(t *testing.T) {
		r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge), TLS: config})
		nc, err := tls.Dial("tcp", r.addr, &tls.Config{RootCAs: ca.pool()})
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		write(t, nc, "\x0b"+string(message("1"))+"\x1c")
		if err := nc.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(nc); err != nil || string(b) != frame(ack("1")) {
			t.Errorf("got %q, %v", b, err)
		}
	})
	t.Run("an idle connection that the server has closed is noticed", func(t *testing.T) {
		r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge), TLS: config, IdleTimeout: 30 * time.Millisecond})
		c := client(t, &mllp.Client{Addr: r.addr, TLS: &tls.Config{RootCAs: ca.pool()}})
		for i := range 3 {
			if err := send(t, c, "1"); err != nil {
				t.Fatal(err)
			}
			for r.seen.count("closed: idle") <= i {
				time.Sleep(5 * time.Millisecond)
			}
		}
		if n := r.seen.count("opened"); n != 3 {
			t.Errorf("%d connections", n)
		}
	})
	t.Run("a drain finishes what is under way", func(t *testing.T) {
		h := &slowly{entered: make(chan string, 1), release: make(chan struct{})}
		r := serve(t, &mllp.Server{Handler: h, TLS: config})
		c := client(t, &mllp.Client{Addr: r.addr, TLS: &tls.Config{RootCAs: ca.pool()}})
		idle, err := tls.Dial("tcp", r.addr, &tls.Config{RootCAs: ca.pool()})
		if err != nil {
			t.Fatal(err)
		}
		defer idle.Close()
		sent := make(chan error)
		go func() { sent <- send(t, c, "1") }()
		<-h.entered
		time.AfterFunc(20*time.Millisecond, func() { close(h.release) })
		stopped := make(chan time.Duration)
		go func() { stopped <- r.wait(t) }()
		if err := <-sent; err != nil {
			t.Error(err)
		}
		// A server that has not read the end of the handshake when it drains leaves it unread, which resets.
		if _, err := idle.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("idle: %v", err)
		}
		idle.Close()
		if d := <-stopped; d > 3*time.Second {
			t.Errorf("the drain took %v", d)
		}
	})
}

func TestCredentialsFollowTheirFiles(t *testing.T) {
	old, next := newAuthority(t, "Old CA"), newAuthority(t, "New CA")
	now := time.Now()
	dir := t.TempDir()
	var told []error
	cert, key, peers := old.write(dir, old.server())
	server, err := mllp.LoadTLS(mllp.TLSFiles{Certificate: cert, Key: key, Peers: peers,
		Now: func() time.Time { return now }, Reloaded: func(err error) { told = append(told, err) }})
	if err != nil {
		t.Fatal(err)
	}
	config, err := server.Server()
	if err != nil {
		t.Fatal(err)
	}
	r := serve(t, &mllp.Server{Handler: mllp.HandlerFunc(acknowledge), TLS: config})
	try := func(ca *authority) error {
		cert, key, peers := ca.write(t.TempDir(), ca.client("lab"))
		mine, err := mllp.LoadTLS(mllp.TLSFiles{Certificate: cert, Key: key, Peers: peers})
		if err != nil {
			t.Fatal(err)
		}
		return send(t, client(t, &mllp.Client{Addr: r.addr, TLSFrom: mine.Client}), "1")
	}
	expect := func(when string, oldOK, nextOK bool) {
		t.Helper()
		if err := try(old); (err == nil) != oldOK {
			t.Errorf("%s, old: %v", when, err)
		}
		if err := try(next); (err == nil) != nextOK {
			t.Errorf("%s, new: %v", when, err)
		}
	}
	touch := func() { // so that the change shows even where file times are coarse
		for _, f := range []string{cert, key, peers} {
			if err := os.Chtimes(f, now, now); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect("at first", true, false)

	if err := os.WriteFile(key, []byte("half a ke"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	expect("half written", true, false)
	now = now.Add(2 * time.Second)
	expect("still half written", true, false)
	if server.Err() == nil || len(told) != 1 || told[0] == nil || bytes.Contains([]byte(told[0].Error()), []byte("half a ke")) {
		t.Errorf("told %v, err %v", told, server.Err())
	}

	next.write(dir, next.server())
	touch()
	expect("within a second", true, false)
	now = now.Add(2 * time.Second)
	expect("changed", false, true)
	if server.Err() != nil || len(told) != 2 || told[1] != nil {
		t.Errorf("told %v, err %v", told, server.Err())
	}
}

func TestLoadTLSRefuses(t *testing.T) {
	ca := newAuthority(t, "Hospital CA")
	dir := t.TempDir()
	cert, key, peers := ca.write(dir, ca.server())
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, otherKey, _ := ca.write(t.TempDir(), ca.server())
	for name, f := range map[string]mllp.TLSFiles{
		"a certificate without a key":  {Certificate: cert},
		"a key without a certificate":  {Key: key},
		"a missing file":               {Certificate: cert, Key: filepath.Join(dir, "none")},
		"another certificate's key":    {Certificate: cert, Key: otherKey},
		"peers without a certificate":  {Certificate: cert, Key: key, Peers: empty},
		"peers that are not there":     {Peers: filepath.Join(dir, "none")},
		"a key where a certificate is": {Certificate: key, Key: key},
	} {
		if _, err := mllp.LoadTLS(f); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	c, err := mllp.LoadTLS(mllp.TLSFiles{Peers: peers})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Server(); err == nil {
		t.Error("a server without a certificate")
	}
}
