package seal_test

import (
	"bytes"
	"crypto/fips140"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/seal"
)

const invented = "six invented words for a test alone"

func TestPassphraseOpensTheRoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	path := seal.PassphraseFile(dir)
	if err := seal.CreatePassphraseRoot(path, "too short"); err == nil {
		t.Error("a short passphrase was taken")
	}
	if err := seal.CreatePassphraseRoot(path, invented); err != nil {
		t.Fatal(err)
	}
	if err := seal.CreatePassphraseRoot(path, invented); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a root key was overwritten: %v", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[bool]string{false: `"argon2id","time":2,"memory_kib":19456,"threads":1`, true: `"pbkdf2-sha256","iterations":600000`}[fips140.Enabled()]; !strings.Contains(string(text), want) {
		t.Errorf("the file has other parameters than %s", want)
	}
	store, err := seal.DirStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := func(passphrase string) (*seal.Ring, error) {
		root, err := seal.PassphraseRoot(path, passphrase)
		if err != nil {
			return nil, err
		}
		return seal.Open(t.Context(), seal.Config{Root: root, Store: store, Now: func() time.Time { return november }, Rand: rand.Reader})
	}
	r, err := open(invented)
	if err != nil {
		t.Fatal(err)
	}
	sealed := mustSeal(t, r, home, november, "invented")
	if _, err := open(invented + " "); !errors.Is(err, seal.ErrPassphrase) {
		t.Errorf("another passphrase: %v, want ErrPassphrase", err)
	}
	const next = "another passphrase, as invented as the first"
	if err := seal.ChangePassphrase(path, "not the present passphrase", next); !errors.Is(err, seal.ErrPassphrase) {
		t.Errorf("changed without the present one: %v", err)
	}
	if err := seal.ChangePassphrase(path, invented, next); err != nil {
		t.Fatal(err)
	}
	if _, err := open(invented); !errors.Is(err, seal.ErrPassphrase) {
		t.Errorf("the former passphrase still opens: %v", err)
	}
	if r, err = open(next); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(t.Context(), home, sealed); err != nil {
		t.Errorf("after the change: %v", err)
	}
	// A recovery copy of it is that of any root key in our hands.
	root, err := seal.PassphraseRoot(path, next)
	if err != nil {
		t.Fatal(err)
	}
	shares, err := seal.SplitRoot(root, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := seal.JoinRoot(shares); err != nil || back.ID() != root.ID() {
		t.Errorf("from shares: %v", err)
	}
}

func TestSpoiltPassphraseFiles(t *testing.T) {
	path := seal.PassphraseFile(filepath.Join(t.TempDir(), "keys"))
	if err := seal.CreatePassphraseRoot(path, invented); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		from string
		to   string
		want string
	}{
		{"a weaker derivation is out of bounds", `"memory_kib":19456`, `"memory_kib":8`, "out of bounds"},
		{"one that would take all memory is too", `"memory_kib":19456`, `"memory_kib":99999999`, "out of bounds"},
		{"fewer iterations too", `"iterations":600000`, `"iterations":1000`, "out of bounds"},
		{"another form is named", `"version":1`, `"version":2`, "restore it"},
		{"an unknown derivation is named", `"kdf":"`, `"kdf":"x`, "does not know"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := bytes.Replace(whole, []byte(c.from), []byte(c.to), 1)
			if bytes.Equal(text, whole) {
				return // of the other mode
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := seal.PassphraseRoot(path, invented); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if err := os.WriteFile(path, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.PassphraseRoot(path, invented); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others may read: %v", err)
	}
}

func TestCredentialRoot(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	text, err := os.ReadFile(s.root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lazaret-root"), text, 0o440); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, dir, credential, want string }{
		{"the key of a file opens as a credential, as the same root", dir, "lazaret-root", ""},
		{"without a service manager there is none", "", "lazaret-root", "LoadCredentialEncrypted"},
		{"one that was not handed over", dir, "other", "no such file"},
		{"a path is no name", dir, "../lazaret-root", "is no path"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := seal.CredentialRoot(c.dir, c.credential)
			switch {
			case c.want == "" && (err != nil || r.ID() != s.rootID()):
				t.Errorf("got %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if err := os.Chmod(filepath.Join(dir, "lazaret-root"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.CredentialRoot(dir, "lazaret-root"); err == nil {
		t.Error("a credential that everybody may read was taken")
	}
}
