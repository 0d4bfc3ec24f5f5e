package seal_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/internal/seal"
)

// files lists the key store's files by their ending.
func (s *site) files(ext string) (paths []string) {
	s.t.Helper()
	err := filepath.WalkDir(s.store, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.HasSuffix(p, ext) {
			paths = append(paths, p)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return paths
}

func TestFilesAreForTheirOwnerAlone(t *testing.T) {
	s := newSite(t)
	mustSeal(t, s.open(), home, november, "invented")
	if n := len(s.files(".key")); n != 1 {
		t.Errorf("%d keys after one seal", n)
	}
	err := filepath.WalkDir(s.store, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := e.Info()
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", p, st.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.store, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.DirStore(s.store); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a key store that others may enter was opened: %v", err)
	}
}

func TestSpoiltKeyFiles(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(s *site) error
		want  error
	}{
		{"a cut key says that it is damaged", func(s *site) error { return cut(s.files(".key")[0], 20) }, seal.ErrKeyDamaged},
		{"an empty key says that it is damaged", func(s *site) error { return os.Truncate(s.files(".key")[0], 0) }, seal.ErrKeyDamaged},
		{"a removed key says that it is missing", func(s *site) error { return os.Remove(s.files(".key")[0]) }, seal.ErrKeyMissing},
		{"another key's record under this name says that it is damaged", func(s *site) error {
			mustSeal(s.t, s.open(), home, november.AddDate(0, 1, 0), "another month")
			f := s.files(".key")
			return os.Rename(f[1], f[0])
		}, seal.ErrKeyDamaged},
		{"a record made to bear this name does not unwrap", func(s *site) error {
			mustSeal(s.t, s.open(), home, november.AddDate(0, 1, 0), "another month")
			f := s.files(".key")
			a, err := os.ReadFile(f[0])
			if err != nil {
				return err
			}
			b, err := os.ReadFile(f[1])
			if err != nil {
				return err
			}
			cutAt := func(text []byte) (string, string) {
				head, tail, _ := strings.Cut(string(text), `"wrapped"`)
				return head, tail
			}
			head, _ := cutAt(a)
			_, tail := cutAt(b)
			return os.WriteFile(f[0], []byte(head+`"wrapped"`+tail), 0o600)
		}, seal.ErrRoot},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			sealed := mustSeal(t, s.open(), home, november, "invented")
			if err := c.spoil(s); err != nil {
				t.Fatal(err)
			}
			_, err := s.open().Open(t.Context(), home, sealed)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if id, _ := seal.KeyOf(sealed); !strings.Contains(err.Error(), id.String()) {
				t.Errorf("%q does not name key %s", err, id)
			}
		})
	}
}

// A count that cannot be read may have been anything, so its key seals no more; it goes on opening.
func TestSpoiltCountRetiresTheKey(t *testing.T) {
	for name, spoil := range map[string]func(string) error{
		"removed": os.Remove,
		"empty":   func(p string) error { return os.Truncate(p, 0) },
		"cut":     func(p string) error { return cut(p, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			first := mustSeal(t, s.open(), home, november, "invented")
			if err := spoil(s.files(".count")[0]); err != nil {
				t.Fatal(err)
			}
			r := s.open()
			second := mustSeal(t, r, home, november, "invented")
			a, _ := seal.KeyOf(first)
			b, _ := seal.KeyOf(second)
			if a == b {
				t.Error("a key whose count is unknown sealed again")
			}
			if _, err := r.Open(t.Context(), home, first); err != nil {
				t.Errorf("it does not open any more: %v", err)
			}
		})
	}
}

var errPowerCut = errors.New("invented power cut")

// Each step of writing a key or its count fails, or fails after it was done; the process ends; what was acknowledged opens.
func TestCrashWhileAKeyIsMade(t *testing.T) {
	for _, at := range []string{"write", "sync", "rename", "sync directory"} {
		for nth := 1; nth <= 3; nth++ { // the count at first, the key, the count's first block
			t.Run(at+" "+[]string{"", "of the new count", "of the key", "of the first block"}[nth], func(t *testing.T) {
				s := newSite(t)
				before := mustSeal(t, s.open(), home, november.AddDate(0, -1, 0), "an older month")
				seen := 0
				store, err := seal.FaultyDirStore(s.store, func(what string) error {
					if what == at {
						if seen++; seen == nth {
							return errPowerCut
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				r := s.open(func(c *seal.Config) { c.Store = store })
				if _, err := r.Seal(t.Context(), seal.Message, home, november, []byte("invented")); !errors.Is(err, errPowerCut) {
					t.Fatalf("got %v: something was sealed under a key that may not last", err)
				}
				// In doubt about a name, the store stays shut until a restart; before, it may be tried again.
				_, err = r.Seal(t.Context(), seal.Message, home, november, []byte("invented"))
				if shut := at == "rename" || at == "sync directory"; shut != (err != nil) {
					t.Errorf("the next seal got %v", err)
				}
				r.Close()

				r = s.open()
				after := mustSeal(t, r, home, november, "invented")
				for _, sealed := range [][]byte{before, after} {
					if _, err := s.open().Open(t.Context(), home, sealed); err != nil {
						t.Errorf("after the restart: %v", err)
					}
				}
			})
		}
	}
}

func TestContextEndsAWait(t *testing.T) {
	s := newSite(t)
	slow := &slowStore{Store: s.config().Store, entered: make(chan struct{}), leave: make(chan struct{})}
	r := s.open(func(c *seal.Config) { c.Store = slow })
	done := make(chan error, 1)
	go func() {
		_, err := r.Seal(context.Background(), seal.Message, home, november, nil)
		done <- err
	}()
	<-slow.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Seal(ctx, seal.Message, home, november, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end while another fetches keys", err)
	}
	close(slow.leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	r.Close()
	if _, err := r.Seal(t.Context(), seal.Message, home, november, nil); !errors.Is(err, seal.ErrClosed) {
		t.Errorf("seal after Close: %v", err)
	}
	if _, err := r.Blind(t.Context(), 7, seal.FieldControlID, seal.Lasting, nil); !errors.Is(err, seal.ErrClosed) {
		t.Errorf("blind after Close: %v", err)
	}
}

type slowStore struct {
	seal.Store
	entered, leave chan struct{}
}

func (s *slowStore) Put(ctx context.Context, w seal.Wrapped) error {
	close(s.entered)
	<-s.leave
	return s.Store.Put(ctx, w)
}
