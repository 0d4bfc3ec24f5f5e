package seal_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/internal/seal"
)

func TestRootFileIsRefusedUnlessItIsPrivateAndWhole(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(path string) error
		want  string
	}{
		{"as it was made", func(string) error { return nil }, ""},
		{"readable for the group", func(p string) error { return os.Chmod(p, 0o640) }, "chmod 600"},
		{"readable for all", func(p string) error { return os.Chmod(p, 0o604) }, "chmod 600"},
		{"in a directory that others may enter", func(p string) error { return os.Chmod(filepath.Dir(p), 0o711) }, "chmod 700"},
		{"gone", os.Remove, "root key back"},
		{"empty", func(p string) error { return os.Truncate(p, 0) }, "restore it from your copy"},
		{"cut in the key", func(p string) error { return cut(p, 5) }, "restore it from your copy"},
		{"cut by its last byte", func(p string) error { return cut(p, 1) }, "restore it from your copy"},
		{"a directory", func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "no root key file"},
		{"far too long", func(p string) error { return os.WriteFile(p, make([]byte, 10000), 0o600) }, "no root key file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			if err := c.spoil(s.root); err != nil {
				t.Fatal(err)
			}
			_, err := seal.FileRoot(s.root)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a hint with %q", err, c.want)
			}
		})
	}
}

func TestRootFileOfAnotherUserIsRefused(t *testing.T) {
	s := newSite(t)
	if os.Geteuid() != 0 {
		// Only root can give a file away; whoever is not root takes one that is root's.
		if _, err := seal.FileRoot("/etc/hostname"); err == nil {
			t.Error("a file of root's, in a directory of root's, was taken for a key of ours")
		}
		return
	}
	if err := os.Chown(s.root, 1, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.FileRoot(s.root); err == nil || !strings.Contains(err.Error(), "chown 0") {
		t.Errorf("got %v, want a hint with chown", err)
	}
}

func cut(path string, n int64) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, st.Size()-n)
}

func TestRootFileIsNeverOverwritten(t *testing.T) {
	s := newSite(t)
	before, err := os.ReadFile(s.root)
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.CreateFileRoot(s.root); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	after, err := os.ReadFile(s.root)
	if err != nil || string(after) != string(before) {
		t.Error("the key was changed")
	}
	names, err := os.ReadDir(filepath.Dir(s.root))
	if err != nil || len(names) != 1 {
		t.Errorf("%d files beside the key, %v; want none left", len(names)-1, err)
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := seal.CreateFileRoot(filepath.Join(open, "key")); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a key was made in a directory that others may enter: %v", err)
	}
}

func TestAnotherRootOpensNothing(t *testing.T) {
	s := newSite(t)
	sealed := mustSeal(t, s.open(), home, november, "invented")
	if err := os.Remove(s.root); err != nil {
		t.Fatal(err)
	}
	if err := seal.CreateFileRoot(s.root); err != nil {
		t.Fatal(err)
	}
	r := s.open()
	if _, err := r.Open(t.Context(), home, sealed); !errors.Is(err, seal.ErrRoot) || !strings.Contains(err.Error(), "wrapped by root file-") {
		t.Errorf("open: got %v, want ErrRoot that names both roots", err)
	}
	if _, err := r.Seal(t.Context(), seal.Message, home, november, nil); !errors.Is(err, seal.ErrRoot) {
		t.Errorf("seal: got %v, want ErrRoot: no second key line beside one that does not open", err)
	}
}

func TestMissingPartsAreNamed(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		name string
		take func(*seal.Config)
	}{
		{"Config.Root", func(c *seal.Config) { c.Root = nil }},
		{"Config.Store", func(c *seal.Config) { c.Store = nil }},
		{"Config.Now", func(c *seal.Config) { c.Now = nil }},
		{"Config.Rand", func(c *seal.Config) { c.Rand = nil }},
		{"Config.Limit", func(c *seal.Config) { c.Limit = 1<<31 + 1 }},
	} {
		conf := s.config()
		c.take(&conf)
		if _, err := seal.Open(t.Context(), conf); err == nil || !strings.Contains(err.Error(), c.name) {
			t.Errorf("got %v, want %s named", err, c.name)
		}
	}
}
