package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lazaret-health/lazaret/internal/config"
)

// now is the time of every check here.
var now = time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)

// certificate makes a self-signed certificate and its key as PEM.
func certificate(t *testing.T, from, to time.Time) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "me.st-mary.example"}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, &c, &c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// findings checks lazaret.yaml in a folder; those that every small example has are left out.
func findings(t *testing.T, dir, text string) []string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "lazaret.yaml"), []byte("organisation: st-mary\nkeys: {root: file:/nowhere/root}\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(filepath.Join(dir, "lazaret.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range c.Check(now) {
		s := fmt.Sprintf("%s %s", f.Level, strings.ReplaceAll(f.Error(), dir+"/", ""))
		switch {
		case strings.Contains(s, "channels: there are none"), strings.Contains(s, "has no destination"), strings.HasSuffix(s, "keys.root: does not exist yet"),
			strings.Contains(s, "lies on the same file system"), !strings.Contains(text, "anyone:") && strings.Contains(s, "takes messages from anyone"):
			continue
		}
		if f.Next == "" || strings.Contains(f.Next, clear) {
			t.Errorf("%s: next step %q", s, f.Next)
		}
		got = append(got, s)
	}
	return got
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	good, key := certificate(t, now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0))
	_, otherKey := certificate(t, now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0))
	old, oldKey := certificate(t, now.AddDate(-1, 0, 0), now.AddDate(0, 0, -1))
	ending, endingKey := certificate(t, now.AddDate(-1, 0, 0), now.AddDate(0, 0, 10))
	future, futureKey := certificate(t, now.AddDate(0, 0, 1), now.AddDate(1, 0, 0))
	put("me.pem", good, 0o644)
	put("me.key", key, 0o600)
	put("open.key", key, 0o644)
	put("other.key", otherKey, 0o600)
	put("old.pem", old, 0o644)
	put("old.key", oldKey, 0o600)
	put("ending.pem", ending+good, 0o644)
	put("ending.key", endingKey, 0o600)
	put("future.pem", future, 0o644)
	put("future.key", futureKey, 0o600)
	put("empty.pem", "nothing\n", 0o644)
	put("root-open", "x\n", 0o640)
	put("secret-open", "x\n", 0o604)

	source := func(listen, rest string) string {
		return fmt.Sprintf("- name: a\n  source:\n    mllp:\n      listen: %q\n%s", listen, rest)
	}
	tls := func(cert, key, more string) string {
		return "channels:\n" + source(":2575", fmt.Sprintf("      tls: {certificate: %s, key: file:%s%s}\n", cert, key, more))
	}
	dest := func(rest string) string {
		return "channels:\n" + source("127.0.0.1:2575", "  destinations:\n  - name: b\n"+rest)
	}
	two := func(a, b string) string {
		return fmt.Sprintf("channels:\n- {name: a, source: {mllp: {listen: %q, plaintext: {accepted: test}}}}\n- {name: b, source: {mllp: {listen: %q, plaintext: {accepted: test}}}}\n", a, b)
	}
	const plainWarning = ": messages cross the network readable by anyone on the way; accepted, because: test"
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"a source on loopback needs no TLS", "channels:\n" + source("127.0.0.1:2575", ""), nil},
		{"a source on loopback by name needs no TLS", "channels:\n" + source("localhost:2575", ""), nil},
		{"a source on all addresses needs TLS", "channels:\n" + source(":2575", ""), []string{
			"error lazaret.yaml:7: channels.a.source.mllp.listen: is plain MLLP on an address that is not loopback: messages would cross the network readable by anyone on the way"}},
		{"a source without TLS for a reason, which is repeated", "channels:\n" + source("10.0.0.1:2575", "      plaintext: {accepted: \"old analyser,\\n until March\"}\n"), []string{
			"warning lazaret.yaml:8: channels.a.source.mllp.plaintext: messages cross the network readable by anyone on the way; accepted, because: old analyser, until March"}},
		{"a receiver elsewhere needs TLS", dest("    mllp: {address: \"lab.example:2575\"}\n"), []string{
			"error lazaret.yaml:10: channels.a.destinations.b.mllp.address: is plain MLLP on an address that is not loopback: messages would cross the network readable by anyone on the way"}},
		{"a good certificate", tls("me.pem", "me.key", ", clients: me.pem"), nil},
		{"an absent certificate", tls("no.pem", "me.key", ""), []string{"error lazaret.yaml:8: channels.a.source.mllp.tls.certificate: names a file that does not exist: no.pem"}},
		{"a key of another certificate", tls("me.pem", "other.key", ""), []string{"error lazaret.yaml:8: channels.a.source.mllp.tls.key: does not belong to the certificate"}},
		{"a key that everybody may read", tls("me.pem", "open.key", ""), []string{"error lazaret.yaml:8: channels.a.source.mllp.tls.key: names a file that every user of this machine may read"}},
		{"a certificate for a key", tls("me.pem", "me.pem", ""), []string{
			"error lazaret.yaml:8: channels.a.source.mllp.tls.key: names a file that every user of this machine may read",
			"error lazaret.yaml:8: channels.a.source.mllp.tls.key: holds no private key as PEM"}},
		{"a certificate that has expired", tls("old.pem", "old.key", ""), []string{"error lazaret.yaml:8: channels.a.source.mllp.tls.certificate: expired on 2026-11-24"}},
		{"a certificate that ends soon", tls("ending.pem", "ending.key", ""), []string{"warning lazaret.yaml:8: channels.a.source.mllp.tls.certificate: expires on 2026-12-05"}},
		{"a certificate that is not valid yet", tls("future.pem", "future.key", ""), []string{"error lazaret.yaml:8: channels.a.source.mllp.tls.certificate: is valid only from 2026-11-26"}},
		{"authorities that are none", tls("me.pem", "me.key", ", clients: empty.pem"), []string{"error lazaret.yaml:8: channels.a.source.mllp.tls.clients: holds no certificate as PEM"}},
		{"a receiver's authority that has expired", dest("    mllp:\n      address: \"lab.example:2575\"\n      tls: {ca: old.pem}\n"), []string{
			"error lazaret.yaml:12: channels.a.destinations.b.mllp.tls.ca: expired on 2026-11-24"}},
		{"two sources on one port", two("127.0.0.1:2575", "localhost:2575"), []string{
			"error lazaret.yaml:5: channels.b.source.mllp.listen: listens where channels.a.source.mllp.listen listens already, at lazaret.yaml:4"}},
		{"a source on all addresses and one on a single one", two("127.0.0.1:2575", "0.0.0.0:2575"), []string{
			"error lazaret.yaml:5: channels.b.source.mllp.listen: listens where channels.a.source.mllp.listen listens already, at lazaret.yaml:4",
			"warning lazaret.yaml:5: channels.b.source.mllp.plaintext" + plainWarning}},
		{"two sources on two addresses", two("127.0.0.1:2575", "127.0.0.2:2575"), nil},
		{"two sources on a free port each", two("127.0.0.1:0", "127.0.0.1:0"), nil},
		{"metrics on a source's port", "listen: {metrics: \"127.0.0.1:2575\"}\nchannels:\n" + source("[::]:2575", "      tls: {certificate: me.pem, key: me.key}\n"), []string{
			"error lazaret.yaml:3: listen.metrics: listens where channels.a.source.mllp.listen listens already, at lazaret.yaml:8"}},
		{"metrics for everybody", "listen: {metrics: \":9090\"}\n", []string{
			"warning lazaret.yaml:3: listen.metrics: serves metrics without TLS or sign-in on an address that is not loopback"}},
		{"a source that asks nobody who it is", "# anyone:\nchannels:\n" + source(":2575", "      tls: {certificate: me.pem, key: me.key}\n"), []string{
			"warning lazaret.yaml:7: channels.a.source.mllp: takes messages from anyone who reaches its address: it asks for no certificate and allows every address"}},
		{"a source that knows its senders' addresses", "# anyone:\nchannels:\n" + source(":2575", "      tls: {certificate: me.pem, key: me.key}\n      allow: [10.0.0.0/8]\n"), nil},
		{"a source that knows its senders' certificates", "# anyone:\n" + tls("me.pem", "me.key", ", clients: me.pem"), nil},
		{"a channel that is switched off keeps nothing from starting", "channels:\n" + source(":2575", "      tls: {certificate: no.pem, key: me.key}\n  enabled: false\n"), []string{
			"warning lazaret.yaml:8: channels.a.source.mllp.tls.certificate: names a file that does not exist: no.pem"}},
		{"a destination that is switched off keeps nothing from starting", dest("    mllp: {address: \"lab.example:2575\"}\n    enabled: false\n"), []string{
			"warning lazaret.yaml:10: channels.a.destinations.b.mllp.address: is plain MLLP on an address that is not loopback: messages would cross the network readable by anyone on the way"}},
		{"an unknown table", "tables: {patient-class: {values: {I: in}}}\n" + dest("    mllp: {address: \"127.0.0.1:1\"}\n    steps:\n    - map: {field: PV1-2, table: patient-clas}\n"), []string{
			"error lazaret.yaml:13: channels.a.destinations.b.steps[1].map.table: names a table that there is not"}},
		{"a destination that is our own source", dest("    mllp: {address: \"localhost:2575\"}\n"), []string{
			"warning lazaret.yaml:10: channels.a.destinations.b.mllp.address: is the source of channel a of this same configuration"}},
		{"PostgreSQL elsewhere without TLS", "database: postgres://u@db.example/lazaret\n", []string{"error lazaret.yaml:3: database: reaches PostgreSQL on another machine without TLS being demanded"}},
		{"PostgreSQL elsewhere, preferring TLS, which is not demanding it", "database: postgres://u@db.example/lazaret?sslmode=prefer\n", []string{"error lazaret.yaml:3: database: reaches PostgreSQL on another machine without TLS being demanded"}},
		{"PostgreSQL elsewhere, not knowing who answers", "database: postgres://u@db.example/lazaret?sslmode=require\n", []string{"warning lazaret.yaml:3: database: encrypts the way to PostgreSQL, but does not check who answers (sslmode require)"}},
		{"PostgreSQL elsewhere, verified", "database: postgres://u@db.example/lazaret?sslmode=verify-full\n", nil},
		{"PostgreSQL here", "database: postgres://u@localhost/lazaret\n", nil},
		{"PostgreSQL over a local socket", "database: postgres://u@/lazaret?host=/run/postgresql\n", nil},
		{"a host hidden in the options", "database: postgres://u@localhost/lazaret?host=db.example\n", []string{"error lazaret.yaml:3: database: reaches PostgreSQL on another machine without TLS being demanded"}},
		{"a password in the clear", "database: postgres://u:" + clear + "@localhost/lazaret\n", []string{
			"warning lazaret.yaml:3: database: is a secret in the clear: whoever may read the file, a backup or a repository of it has it"}},
		{"a password file that everybody may read", "database: {url: 'postgres://u@localhost/lazaret', password: file:secret-open}\n", []string{
			"error lazaret.yaml:3: database.password: names a file that every user of this machine may read"}},
		{"a password that is nowhere", "database: {url: 'postgres://u@localhost/lazaret', password: env:LAZARET_TEST_ABSENT}\n", []string{
			"error lazaret.yaml:3: database.password: cannot be resolved: environment variable LAZARET_TEST_ABSENT is not set"}},
		{"a client secret in the clear", oauth, []string{
			"warning lazaret.yaml:5: oauth2.providers.google: is read and understood, but not yet in force: there is no single sign-on yet",
			"warning lazaret.yaml:7: oauth2.providers.google.client_secret: is a secret in the clear: whoever may read the file, a backup or a repository of it has it"}},
		{"a largest message that is never read", "channels:\n" + source("127.0.0.1:1", "      max_message: 1MiB\n  admit: {max_size: 2MiB}\n"), []string{
			"warning lazaret.yaml:9: channels.a.admit.max_size: is more than source.mllp.max_message, beyond which nothing is read"}},
		{"keys beside the database", "database: sqlite:keys/data/lazaret.db\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := findings(t, dir, c.text)
			if c.name == "keys beside the database" { // the key stands in the second line
				c.want = []string{"warning lazaret.yaml:2: keys.store: holds the database's file too: a backup of that folder keeps keys that can then never be destroyed"}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestCheckOfTheRootKey(t *testing.T) {
	t.Run("others may enter its folder", func(t *testing.T) {
		dir := write(t, map[string]string{"lazaret.yaml": "organisation: x\nkeys: {root: root}\n", "root": "x"})
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(filepath.Join(dir, "lazaret.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if f := c.Check(now)[1]; f.Level != config.Error || f.Key != "keys.root" || f.What != "the folder "+dir+" may be entered by others than its owner" {
			t.Errorf("%+v", f)
		}
	})
	for _, c := range []struct {
		name, text string
		mode       os.FileMode // of keys/root; 0: there is none
		stored     bool        // a key that it wrapped
		want       []string
	}{
		{"none is named", "organisation: x\n", 0, false, []string{"error lazaret.yaml:1: keys.root: is not given: without a root key nothing can be sealed, and nothing is taken"}},
		{"it is not there yet", "organisation: x\nkeys: {root: keys/root}\n", 0, false, []string{
			"warning lazaret.yaml:2: keys.root: does not exist yet",
			"warning lazaret.yaml:2: keys.root: lies on the same file system as the data: it does not protect a disk that is stolen or a copy of all of it"}},
		{"it is lost", "organisation: x\nkeys: {root: keys/root}\n", 0, true, []string{
			"error lazaret.yaml:2: keys.root: does not exist, but keys.store holds keys that it wrapped: without it nothing stored can be read",
			"warning lazaret.yaml:2: keys.root: lies on the same file system as the data: it does not protect a disk that is stolen or a copy of all of it"}},
		{"its group may read it", "organisation: x\nkeys: {root: keys/root}\n", 0o640, false, []string{
			"error lazaret.yaml:2: keys.root: is a file that others than its owner may read",
			"warning lazaret.yaml:2: keys.root: lies on the same file system as the data: it does not protect a disk that is stolen or a copy of all of it"}},
		{"it lies beside the data", "organisation: x\nkeys: {root: keys/root}\n", 0o600, true, []string{
			"warning lazaret.yaml:2: keys.root: lies on the same file system as the data: it does not protect a disk that is stolen or a copy of all of it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := write(t, map[string]string{"lazaret.yaml": c.text})
			if c.mode != 0 || c.stored {
				if err := os.MkdirAll(filepath.Join(dir, "keys/data"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if c.mode != 0 {
				if err := os.WriteFile(filepath.Join(dir, "keys/root"), nil, c.mode); err != nil {
					t.Fatal(err)
				}
			}
			if c.stored {
				if err := os.WriteFile(filepath.Join(dir, "keys/data/one"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cfg, err := config.Load(filepath.Join(dir, "lazaret.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range cfg.Check(now) {
				if f.Key != "channels" {
					got = append(got, string(f.Level)+" "+strings.TrimPrefix(f.Error(), dir+"/"))
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestAFileThatEverybodyMayChangeIsAnError(t *testing.T) {
	c, dir := load(t, "organisation: x\n")
	if err := os.Chmod(filepath.Join(dir, "lazaret.yaml"), 0o666); err != nil {
		t.Fatal(err)
	}
	got := c.Check(now)[0]
	if got.Level != config.Error || got.What != "may be changed by every user of this machine" {
		t.Errorf("%+v", got)
	}
}
