//go:build interop

package interop

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

// mutual is our server, which demands a certificate of the authority.
func mutual(t *testing.T, ca *Authority) (addr string, k *keeper, refused chan mllp.Reason) {
	t.Helper()
	config, err := credentials(t, ca.Issue("lazaret.example")).Server()
	if err != nil {
		t.Fatal(err)
	}
	k, refused = &keeper{}, make(chan mllp.Reason, 10)
	addr = serve(t, &mllp.Server{Handler: k, TLS: config, Events: mllp.Events{
		Refused: func(_ netip.AddrPort, why mllp.Reason) { refused <- why },
	}})
	return addr, k, refused
}

func credentials(t *testing.T, s TLS) *mllp.Credentials {
	t.Helper()
	c, err := mllp.LoadTLS(mllp.TLSFiles{Certificate: s.Certificate, Key: s.Key, Peers: s.Authority})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOpenSSLAsClient(t *testing.T) {
	ca, other := NewAuthority(t, "Hospital CA"), NewAuthority(t, "Other CA")
	good, wrong := ca.Issue("lab.example"), other.Issue("lab.example")
	none := TLS{Authority: ca.File}
	wrong.Authority = ca.File
	for _, c := range []struct {
		name    string
		secure  TLS
		options []string
		ok      bool
		says    string // s_client, where the version tells it in time
	}{
		{name: "a good certificate, TLS 1.3", secure: good, options: []string{"-tls1_3"}, ok: true},
		{name: "a good certificate, TLS 1.2", secure: good, options: []string{"-tls1_2"}, ok: true},
		{name: "no certificate, TLS 1.3", secure: none, options: []string{"-tls1_3"}},
		{name: "no certificate, TLS 1.2", secure: none, options: []string{"-tls1_2"}, says: "alert"},
		{name: "another authority's certificate, TLS 1.3", secure: wrong, options: []string{"-tls1_3"}},
		{name: "another authority's certificate, TLS 1.2", secure: wrong, options: []string{"-tls1_2"}, says: "alert"},
		{name: "TLS 1.1", secure: good, options: []string{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}, says: "alert protocol version"},
		{name: "TLS 1.0", secure: good, options: []string{"-tls1", "-cipher", "ALL:@SECLEVEL=0"}, says: "alert protocol version"},
		{name: "TLS 1.2 without forward secrecy", secure: good, options: []string{"-tls1_2", "-cipher", "kRSA"}, says: "alert handshake failure"},
		{name: "TLS 1.2 with CBC", secure: good, options: []string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"}, says: "alert handshake failure"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr, k, refused := mutual(t, ca)
			messages := Messages("O", each, false)
			answers, said := OpenSSL(t, addr, c.secure, messages, c.options...)
			if c.ok {
				acknowledged(t, messages, answers)
				same(t, messages, k.kept())
				k.mu.Lock()
				defer k.mu.Unlock()
				if len(k.names) != 1 || !k.names["lab.example"] {
					t.Errorf("peer was called %v", k.names)
				}
				return
			}
			select {
			case why := <-refused:
				if why != mllp.NoHandshake {
					t.Errorf("refused: %s", why)
				}
			case <-time.After(10 * time.Second):
				t.Error("was not refused")
			}
			if len(answers) > 0 || len(k.kept()) > 0 {
				t.Errorf("%d blocks were taken and %d answered", len(k.kept()), len(answers))
			}
			if !strings.Contains(said, c.says) {
				t.Errorf("s_client said %s", said)
			}
		})
	}
}

func TestForeignSendersWithTLS(t *testing.T) {
	ca, other := NewAuthority(t, "Hospital CA"), NewAuthority(t, "Other CA")
	for _, s := range Senders() {
		if !s.Speaks {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			addr, k, _ := mutual(t, ca)
			messages := Messages("U", each, s.UTF8)
			good := ca.Issue("ward.example")
			answers, err := s.Send(t, addr, messages, &good)
			if err != nil {
				t.Fatal(err)
			}
			acknowledged(t, messages, answers)
			same(t, contents(s, messages), k.kept())
			wrong := other.Issue("ward.example")
			wrong.Authority = ca.File
			if answers, err := s.Send(t, addr, messages, &wrong); err == nil || len(answers) > 0 || len(k.kept()) != each {
				t.Errorf("another authority's certificate: %d answers, %d blocks, %v", len(answers), len(k.kept())-each, err)
			}
		})
	}
}

func TestForeignReceiversWithTLS(t *testing.T) {
	ca, other := NewAuthority(t, "Hospital CA"), NewAuthority(t, "Other CA")
	for _, r := range Receivers() {
		if !r.Speaks {
			continue
		}
		t.Run(r.Name, func(t *testing.T) {
			theirs := ca.Issue("receiver.example")
			running := r.Start(t, &theirs)
			messages := Messages("V", each, r.UTF8)
			c := &mllp.Client{Addr: running.Addr, TLSFrom: credentials(t, ca.Issue("lazaret.example")).Client}
			var answers [][]byte
			for _, m := range messages {
				answer, err := c.Send(t.Context(), m)
				if err != nil {
					t.Fatal(err)
				}
				answers = append(answers, answer)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			acknowledged(t, messages, answers)
			same(t, messages, running.Blocks(each))

			wrong := other.Issue("lazaret.example")
			wrong.Authority = ca.File
			for name, s := range map[string]func() (*tls.Config, error){
				"a certificate that the receiver does not know": credentials(t, wrong).Client,
				"a receiver that we do not know":                credentials(t, other.Issue("lazaret.example")).Client,
			} {
				c := &mllp.Client{Addr: running.Addr, TLSFrom: s}
				_, err := c.Send(t.Context(), messages[0])
				var se *mllp.SendError
				// With TLS 1.3 the receiver's refusal may come after our block has left, and be lost to a reset.
				if !errors.As(err, &se) || strings.HasPrefix(name, "a receiver") && (se.Sent || se.Op != "handshake") {
					t.Errorf("%s: %v", name, err)
				}
				c.Close()
			}
			if n := len(running.Blocks(each)); n != each {
				t.Errorf("%d blocks arrived over refused connections", n-each)
			}
		})
	}
}
