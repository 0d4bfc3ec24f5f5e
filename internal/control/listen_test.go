package control_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/control"
)

func TestListen(t *testing.T) {
	t.Run("socket and directory are the owner's alone", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "run", "control.sock")
		ln, err := control.Listen(path)
		must(t, err)
		for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
			info, err := os.Stat(name)
			must(t, err)
			if info.Mode().Perm() != want {
				t.Errorf("%s has mode %04o, want %04o", name, info.Mode().Perm(), want)
			}
		}
		must(t, ln.Close())
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket stays behind: %v", err)
		}
	})
	t.Run("a directory that others may enter is refused", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "open")
		must(t, os.Mkdir(dir, 0o755))
		if _, err := control.Listen(filepath.Join(dir, "control.sock")); err == nil || !strings.Contains(err.Error(), "0755") {
			t.Errorf("got %v, want an error with the mode", err)
		}
	})
	t.Run("what a dead service has left is replaced", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "run", "control.sock")
		must(t, os.Mkdir(filepath.Dir(path), 0o700))
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		must(t, err)
		dead.SetUnlinkOnClose(false)
		must(t, dead.Close())
		ln, err := control.Listen(path)
		must(t, err)
		must(t, ln.Close())
	})
	t.Run("a living one is not, and neither is a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "run", "control.sock")
		ln, err := control.Listen(path)
		must(t, err)
		defer ln.Close()
		if _, err := control.Listen(path); err == nil || !strings.Contains(err.Error(), "another service answers") {
			t.Errorf("got %v", err)
		}
		file := filepath.Join(filepath.Dir(path), "file")
		must(t, os.WriteFile(file, []byte("mine"), 0o600))
		if _, err := control.Listen(file); err == nil {
			t.Error("a file was replaced")
		}
	})
	t.Run("a path longer than the kernel takes works all the same", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), strings.Repeat("long/", 30), "run", "control.sock")
		ln, err := control.Listen(path)
		must(t, err)
		defer ln.Close()
		c := control.Dial(path, "test")
		defer c.Close()
		accepted := make(chan error, 1)
		go func() {
			nc, err := ln.Accept()
			if err == nil {
				nc.Close()
			}
			accepted <- err
		}()
		if err := c.Ready(t.Context()); err == nil {
			t.Error("a server that only closes is ready")
		}
		select {
		case err := <-accepted:
			must(t, err)
		case <-time.After(5 * time.Second):
			t.Error("the client did not come")
		}
	})
}

func TestNobodyAnswers(t *testing.T) {
	c := control.Dial(filepath.Join(t.TempDir(), "control.sock"), "test")
	defer c.Close()
	if _, err := c.Channels(t.Context()); !errors.Is(err, control.ErrUnreachable) {
		t.Errorf("got %v, want ErrUnreachable", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Channels(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// strangerSocket names the socket for a process of this test that runs as another user.
const strangerSocket = "LAZARET_TEST_STRANGER_SOCKET"

func beStranger(path string) int {
	c := control.Dial(path, "stranger")
	defer c.Close()
	list, err := c.Channels(context.Background())
	fmt.Printf("%d channels, error: %v\n", len(list), err)
	if err == nil {
		return 1
	}
	return 0
}

// TestAnotherUserIsRefused gives everybody the right to open the socket, by mistake, and lets another user try.
func TestAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 { // who is not root cannot be somebody else, so the service is
		s := startFor(t, uint32(os.Geteuid())+1)
		if _, err := s.client.Channels(t.Context()); !errors.Is(err, control.ErrUnreachable) {
			t.Errorf("got %v, want ErrUnreachable", err)
		}
		return
	}
	s := start(t)
	// The test's folders are root's alone, so the socket gets a second way in that is open to all.
	open, err := os.MkdirTemp("", "lazaret-open")
	must(t, err)
	defer os.RemoveAll(open)
	must(t, os.Chmod(open, 0o755))
	must(t, os.Chmod(s.socket, 0o777))
	path := filepath.Join(open, "s")
	must(t, os.Link(s.socket, path))
	binary, err := os.ReadFile(os.Args[0])
	must(t, err)
	test := filepath.Join(open, "test")
	must(t, os.WriteFile(test, binary, 0o755))

	for _, c := range []struct {
		name string
		uid  uint32
		fail bool
	}{{"root comes in", 0, false}, {"another user does not", 65534, true}} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(test)
			cmd.Env = append(os.Environ(), strangerSocket+"="+path)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: c.uid}}
			cmd.Dir = open
			out, err := cmd.CombinedOutput()
			if refused := err == nil; refused != c.fail {
				t.Errorf("refused: %v, want %v: %s", refused, c.fail, out)
			}
		})
	}
	if !strings.Contains(s.log.String(), "a user who may not was turned away") {
		t.Errorf("the log does not tell:\n%s", s.log)
	}
}
