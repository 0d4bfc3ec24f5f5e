package seal_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto/fips140"

	"filippo.io/age"

	"github.com/lazaret-health/lazaret/internal/seal"
)

func (s *site) fileRoot() seal.Root {
	s.t.Helper()
	r, err := seal.FileRoot(s.root)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// The drill: the root key is lost, three people bring their shares, and everything opens.
func TestLostRootComesBackFromShares(t *testing.T) {
	s := newSite(t)
	sealed := mustSeal(t, s.open(), home, november, "invented")
	shares, err := seal.SplitRoot(s.fileRoot(), 3, 5)
	if err != nil || len(shares) != 5 {
		t.Fatalf("%d shares, %v", len(shares), err)
	}
	if err := os.Remove(s.root); err != nil {
		t.Fatal(err)
	}
	root, err := seal.JoinRoot([]string{shares[4], "  " + strings.ToLower(shares[0]) + "\n", strings.ReplaceAll(shares[2], "-", " ")})
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.SaveFileRoot(root, s.root); err != nil {
		t.Fatal(err)
	}
	if text, err := s.open().Open(t.Context(), home, sealed); err != nil || string(text) != "invented" {
		t.Errorf("opened %q, %v", text, err)
	}
	if err := seal.SaveFileRoot(root, s.root); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a root key was overwritten: %v", err)
	}
}

func TestSharesThatDoNotFit(t *testing.T) {
	s, other := newSite(t), newSite(t)
	a, err := seal.SplitRoot(s.fileRoot(), 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	again, err := seal.SplitRoot(s.fileRoot(), 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	b, err := seal.SplitRoot(other.fileRoot(), 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	slip := []byte(a[1])
	if at := len(slip) - 8; slip[at] == 'A' {
		slip[at] = 'B'
	} else {
		slip[at] = 'A'
	}
	for _, c := range []struct {
		name   string
		shares []string
		want   string
	}{
		{"three of them do", a[:3], ""},
		{"more than needed do", a, ""},
		{"too few", a[:2], "3 shares are needed, and there are 2"},
		{"none", nil, "shares are needed"},
		{"one twice", []string{a[0], a[1], a[0]}, "share 3 of those given is there twice"},
		{"one of another installation", []string{a[0], b[1], a[2]}, "share 2 of those given belongs to another root key"},
		{"one of another splitting", []string{a[0], again[1], a[2]}, "one of them is of another splitting"},
		{"a slip of the pen", []string{a[0], string(slip), a[2]}, "share 2 of those given: a letter is wrong"},
		{"a group is missing", []string{a[0][:len(a[0])-6], a[1], a[2]}, "some are missing"},
		{"not a share", []string{"hello", a[1], a[2]}, "share 1 of those given"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, err := seal.JoinRoot(c.shares)
			switch {
			case c.want == "" && (err != nil || root.ID() != s.rootID()):
				t.Errorf("got %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
			for _, share := range c.shares {
				if _, secret, ok := strings.Cut(share, ": "); ok && err != nil && strings.Contains(err.Error(), secret) {
					t.Error("the error shows a share")
				}
			}
		})
	}
}

func TestLostRootComesBackFromAge(t *testing.T) {
	s := newSite(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	copied, err := seal.EncryptRoot(s.fileRoot(), []string{id.Recipient().String()})
	if fips140.Enabled() {
		if err == nil || !strings.Contains(err.Error(), "split the key into shares") {
			t.Errorf("with FIPS 140-3 on: %v, want a refusal", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	root, err := seal.DecryptRoot(copied, "# invented\n"+id.String()+"\n")
	if err != nil || root.ID() != s.rootID() {
		t.Fatalf("got %v", err)
	}
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.DecryptRoot(copied, stranger.String()); err == nil {
		t.Error("a stranger's identity opens it")
	}
	if _, err := seal.DecryptRoot(copied[:len(copied)-60], id.String()); err == nil {
		t.Error("a cut copy opens")
	}
	if _, err := seal.DecryptRoot(copied, "AGE-SECRET-KEY-1INVENTED"); err == nil || strings.Contains(err.Error(), "INVENTED") {
		t.Errorf("a wrong identity file: %v", err)
	}
	if _, err := seal.EncryptRoot(s.fileRoot(), []string{id.String()}); err == nil || strings.Contains(err.Error(), id.String()) {
		t.Errorf("an identity for a recipient: %v", err)
	}
}

func TestWhatIsKnownOfTheRecoveryCopy(t *testing.T) {
	s := newSite(t)
	s.open()
	if r, err := seal.ReadRecovery(s.store); err != nil || r != (seal.Recovery{}) {
		t.Errorf("before any: %+v, %v", r, err)
	}
	made := seal.Recovery{Version: 1, Root: s.rootID(), How: "shares", Needed: 3, Shares: 5, Made: november}
	for _, c := range []struct {
		confirmed time.Time
		root      string
		covers    bool
	}{{time.Time{}, made.Root, false}, {november, made.Root, true}, {november, "file-another", false}} {
		made.Confirmed = c.confirmed
		if err := seal.WriteRecovery(s.store, made); err != nil {
			t.Fatal(err)
		}
		got, err := seal.ReadRecovery(s.store)
		if err != nil || got != made || got.Covers(c.root) != c.covers {
			t.Errorf("got %+v, %v, covers %s: %v", got, err, c.root, got.Covers(c.root))
		}
	}
	if err := os.WriteFile(filepath.Join(s.store, "recovery.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.ReadRecovery(s.store); err == nil {
		t.Error("a damaged record reads as one")
	}
	mustSeal(t, s.open(), home, november, "the key store does not mind")
}
