package seal_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/seal"
)

// november is the time that most tests seal at. All contents are invented.
var november = time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)

// A site is a root file and a key store in a test's own directory; open makes a ring over them, as a start of the service does.
type site struct {
	t           testing.TB
	root, store string
}

func newSite(t testing.TB) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t, filepath.Join(dir, "root", "key"), filepath.Join(dir, "keys")}
	if err := seal.CreateFileRoot(s.root); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) config() seal.Config {
	s.t.Helper()
	root, err := seal.FileRoot(s.root)
	if err != nil {
		s.t.Fatal(err)
	}
	store, err := seal.DirStore(s.store)
	if err != nil {
		s.t.Fatal(err)
	}
	return seal.Config{Root: root, Store: store, Now: func() time.Time { return november }, Rand: rand.Reader}
}

func (s *site) open(change ...func(*seal.Config)) *seal.Ring {
	s.t.Helper()
	c := s.config()
	for _, f := range change {
		f(&c)
	}
	r, err := seal.Open(s.t.Context(), c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(r.Close)
	return r
}

var home = seal.Place{Table: seal.TableMessageContent, Column: seal.ColumnContent, Row: [16]byte{1, 2, 3}, Org: 7}

func mustSeal(t testing.TB, r *seal.Ring, p seal.Place, at time.Time, text string) []byte {
	t.Helper()
	out, err := r.Seal(t.Context(), seal.Message, p, at, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOpensAfterARestart(t *testing.T) {
	s := newSite(t)
	for _, text := range []string{"", "x", "PID|1||900001^^^LAZARET||INVENTED^NAME"} {
		sealed := mustSeal(t, s.open(), home, november, text)
		if len(sealed) != len(text)+seal.Overhead {
			t.Errorf("%d bytes became %d, want %d more", len(text), len(sealed), seal.Overhead)
		}
		if len(text) > 1 && bytes.Contains(sealed, []byte(text)) {
			t.Errorf("the sealed value shows its content")
		}
		got, err := s.open().Open(t.Context(), home, sealed)
		if err != nil || string(got) != text {
			t.Errorf("opened %q, %v; want %q", got, err, text)
		}
	}
}

func TestOpensInItsPlaceOnly(t *testing.T) {
	r := newSite(t).open()
	sealed := mustSeal(t, r, home, november, "invented")
	mustSeal(t, r, seal.Place{Org: 8}, november, "the other organisation has a key too")
	for _, c := range []struct {
		name string
		move func(*seal.Place)
		want error
	}{
		{"its own place opens", func(*seal.Place) {}, nil},
		{"another table does not", func(p *seal.Place) { p.Table++ }, seal.ErrOpen},
		{"another column does not", func(p *seal.Place) { p.Column++ }, seal.ErrOpen},
		{"table and column changed about do not", func(p *seal.Place) { p.Table, p.Column = 0x0100, 0x0100 }, seal.ErrOpen},
		{"another row does not", func(p *seal.Place) { p.Row[15] = 1 }, seal.ErrOpen},
		{"another organisation does not", func(p *seal.Place) { p.Org = 8 }, seal.ErrOpen},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := home
			c.move(&p)
			if _, err := r.Open(t.Context(), p, sealed); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}
