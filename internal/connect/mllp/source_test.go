package mllp_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/lazaret-health/lazaret/hl7"
	wire "github.com/lazaret-health/lazaret/hl7/mllp"
	"github.com/lazaret-health/lazaret/internal/connect/mllp"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// desk is an engine's side of a source: it answers AA, and remembers what it was told.
type desk struct {
	mu      sync.Mutex
	peers   []engine.Peer
	blocks  []string
	refused []string
	long    []string
}

func (d *desk) Accept(_ context.Context, p engine.Peer, block []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.peers, d.blocks = append(d.peers, p), append(d.blocks, string(block))
	return hl7.NewAckRaw(block, hl7.Ack{Code: hl7.AA}), nil
}

func (d *desk) TooLong(_ context.Context, _ engine.Peer, prefix []byte) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.long = append(d.long, string(prefix))
	return hl7.NewAckRaw(prefix, hl7.Ack{Code: hl7.AE})
}

func (d *desk) Refused(_ engine.Peer, why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = append(d.refused, why)
}

func (d *desk) sawRefused() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.refused)
}

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// open makes a source, lets it run, and returns its address and how to stop it.
func open(t *testing.T, c mllp.SourceConfig, h engine.Handler) (s *mllp.Source, stop func()) {
	t.Helper()
	c.Channel, c.Listen, c.Now, c.Log = "adt", "127.0.0.1:0", time.Now, discard()
	s, err := mllp.NewSource(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, run(t, s, h)
}

func run(t *testing.T, s *mllp.Source, h engine.Handler) (stop func()) {
	t.Helper()
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, h) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// authority issues certificates for tests.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{dir: t.TempDir(), key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	a.write(t, "ca.pem", a.cert, key)
	return a
}

func (a *authority) write(t *testing.T, file string, c *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue makes a certificate; names are its DNS names, and without any its common name is what it bears.
func (a *authority) issue(t *testing.T, common string, names ...string) *mllp.TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := func(ext string) string { return filepath.Join(a.dir, common+ext) }
	if err := os.WriteFile(file(".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	a.write(t, common+".pem", &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: common}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, key)
	return &mllp.TLS{Certificate: file(".pem"), Key: file(".key"), Peers: filepath.Join(a.dir, "ca.pem")}
}

// client speaks TLS with these files.
func client(t *testing.T, address string, files *mllp.TLS, version uint16) *wire.Client {
	t.Helper()
	c := &wire.Client{Addr: address, AnswerTimeout: 5 * time.Second}
	t.Cleanup(func() { c.Close() })
	if files == nil {
		return c
	}
	creds, err := wire.LoadTLS(wire.TLSFiles{Certificate: files.Certificate, Key: files.Key, Peers: files.Peers})
	if err != nil {
		t.Fatal(err)
	}
	conf, err := creds.Client()
	if err != nil {
		t.Fatal(err)
	}
	if version != 0 {
		conf.MaxVersion = version
	}
	c.TLS = conf
	return c
}

func TestWhoMayComeIn(t *testing.T) {
	ca, other := newAuthority(t, "ours"), newAuthority(t, "theirs")
	ours := ca.issue(t, "lazaret", "localhost")
	hospital, clinic, old := ca.issue(t, "hospital", "his.example", "his2.example"), ca.issue(t, "clinic", "clinic.example"), ca.issue(t, "OLD.EXAMPLE")
	stranger := other.issue(t, "stranger", "his.example")
	stranger.Peers = ours.Peers // it trusts us, we do not trust it
	withNames := *ours
	withNames.Names = []string{"HIS.example", "old.example"}
	only13 := *ours
	only13.MinVersion = tls.VersionTLS13
	anonymous := &mllp.TLS{Peers: ours.Peers}
	for _, c := range []struct {
		name   string
		source *mllp.TLS
		client *mllp.TLS
		tls    uint16 // at most
		peer   string // "": refused
	}{
		{"a certificate of the authority is let in under its first DNS name", ours, hospital, 0, "his.example"},
		{"without DNS names the common name counts", ours, old, 0, "OLD.EXAMPLE"},
		{"no certificate is refused", ours, anonymous, 0, ""},
		{"a stranger's certificate is refused, whatever name it bears", ours, stranger, 0, ""},
		{"plain MLLP is refused", ours, nil, 0, ""},
		{"a name of the channel's list is let in, without regard to case", &withNames, hospital, 0, "his.example"},
		{"a common name of the list is let in", &withNames, old, 0, "OLD.EXAMPLE"},
		{"a name that is not on the list is refused", &withNames, clinic, 0, ""},
		{"the list holds in TLS 1.2 too", &withNames, clinic, tls.VersionTLS12, ""},
		{"TLS 1.2 is spoken by default", ours, hospital, tls.VersionTLS12, "his.example"},
		{"TLS 1.2 is refused where 1.3 is asked for", &only13, hospital, tls.VersionTLS12, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &desk{}
			s, stop := open(t, mllp.SourceConfig{TLS: c.source}, d)
			answer, err := client(t, s.Addr(), c.client, c.tls).Send(t.Context(), message("", ""))
			if c.peer == "" { // the client may know before the server has noted it, and a drain notes nothing
				for end := time.Now().Add(5 * time.Second); len(d.sawRefused()) == 0 && time.Now().Before(end); {
					time.Sleep(time.Millisecond)
				}
			}
			stop()
			if c.peer == "" {
				if err == nil || len(d.blocks) > 0 || len(d.refused) == 0 {
					t.Fatalf("answer %q, error %v, %d blocks, refusals %q; want a refusal that is noted", answer, err, len(d.blocks), d.refused)
				}
				return
			}
			if err != nil || !bytes.Contains(answer, []byte("MSA|AA|C1")) {
				t.Fatalf("answer %q, error %v", answer, err)
			}
			if len(d.peers) != 1 || d.peers[0].Name != c.peer || !d.peers[0].Addr.Addr().IsLoopback() {
				t.Errorf("the engine was told of %v, want %q", d.peers, c.peer)
			}
		})
	}
}

func TestSourceListensAgain(t *testing.T) {
	d := &desk{}
	set := metrics.NewSet()
	s, stop := open(t, mllp.SourceConfig{Metrics: set}, d)
	for i := range 3 {
		c := client(t, s.Addr(), nil, 0)
		if _, err := c.Send(t.Context(), message("", "")); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		stop()
		if _, err := c.Send(t.Context(), message("", "")); err == nil {
			t.Fatalf("round %d: a stopped source took a message", i)
		}
		stop = run(t, s, d)
	}
	stop()
	if len(d.blocks) != 3 {
		t.Errorf("%d blocks, want 3", len(d.blocks))
	}
	var text bytes.Buffer
	set.WritePrometheus(&text)
	for _, want := range []string{`lazaret_mllp_connections{channel="adt"} 0`, `lazaret_mllp_connections_ended_total{channel="adt",reason="`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %s in the metrics:\n%s", want, &text)
		}
	}
}

func TestFourZerosAreIPv4(t *testing.T) {
	for listen, want := range map[string]bool{"0.0.0.0:0": true, "127.0.0.1:0": true, ":0": false, "[::]:0": false} {
		s, err := mllp.NewSource(mllp.SourceConfig{Channel: "adt", Listen: listen, Now: time.Now, Log: discard()})
		if err != nil {
			t.Fatal(err)
		}
		run(t, s, &desk{})
		ap, err := netip.ParseAddrPort(s.Addr())
		if err != nil || ap.Addr().Is4() != want {
			t.Errorf("%s listens on %s: IPv4 alone %v, want %v (%v)", listen, s.Addr(), ap.Addr().Is4(), want, err)
		}
	}
}

func TestSourceOpen(t *testing.T) {
	d := &desk{}
	s, stop := open(t, mllp.SourceConfig{}, d)
	defer stop()
	taken, err := mllp.NewSource(mllp.SourceConfig{Channel: "other", Listen: s.Addr(), Now: time.Now, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	if err := taken.Open(); err == nil || !strings.Contains(err.Error(), s.Addr()) {
		t.Errorf("open a taken port: %v, want an error that names it", err)
	}
	if err := taken.Run(t.Context(), d); err == nil {
		t.Error("Run before Open went well")
	}
}

func TestSourceRefuses(t *testing.T) {
	t.Run("an address that is not on the list", func(t *testing.T) {
		d := &desk{}
		s, stop := open(t, mllp.SourceConfig{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, d)
		defer stop()
		if _, err := client(t, s.Addr(), nil, 0).Send(t.Context(), message("", "")); err == nil {
			t.Error("it was let in")
		}
		if got := d.sawRefused(); len(got) != 1 || got[0] != "address not allowed" {
			t.Errorf("noted %q", got)
		}
	})
	t.Run("a message that is too long, with an answer that names it", func(t *testing.T) {
		d := &desk{}
		s, stop := open(t, mllp.SourceConfig{MaxBlock: 8 << 10}, d)
		defer stop()
		long := append(message("", ""), bytes.Repeat([]byte("NTE|1||long\r"), 1000)...)
		answer, err := client(t, s.Addr(), nil, 0).Send(t.Context(), long)
		if err != nil || !bytes.Contains(answer, []byte("MSA|AE|C1")) {
			t.Errorf("answer %q, error %v; want AE for C1", answer, err)
		}
		if len(d.blocks) != 0 || len(d.long) != 1 {
			t.Errorf("%d blocks, %d too long; want 0 and 1", len(d.blocks), len(d.long))
		}
	})
}

func TestSettingsAreChecked(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no.pem")
	for _, c := range []struct {
		name string
		make func() error
		want string
	}{
		{"a source without an address", func() error {
			_, err := mllp.NewSource(mllp.SourceConfig{Channel: "a", Now: time.Now, Log: discard()})
			return err
		}, "Listen"},
		{"a source without a clock", func() error { _, err := mllp.NewSource(mllp.SourceConfig{Channel: "a", Listen: ":0"}); return err }, "Now"},
		{"a sender without an address", func() error { _, err := mllp.NewSender(mllp.SenderConfig{Now: time.Now, Log: discard()}); return err }, "Address"},
		{"a source whose certificate is not there", func() error {
			_, err := mllp.NewSource(mllp.SourceConfig{Channel: "a", Listen: ":0", Now: time.Now, Log: discard(), TLS: &mllp.TLS{Certificate: missing, Key: missing}})
			return err
		}, missing},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.make(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error about %s", err, c.want)
			}
		})
	}
}
