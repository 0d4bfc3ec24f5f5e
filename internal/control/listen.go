package control

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// Listen makes the socket at path, in a directory that nobody else may enter; it makes that too where it is missing. A socket
// that a dead service has left behind is replaced, one that answers is not.
func Listen(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("control socket: others may enter its directory %s (mode %04o): make it 0700, or set control.socket to a directory of its own", dir, mode)
	}
	short, release, err := shorten(path)
	if err != nil {
		return nil, err
	}
	defer release()
	if nc, err := net.DialTimeout("unix", short, time.Second); err == nil {
		nc.Close()
		return nil, fmt.Errorf("control socket %s: another service answers there: stop it, or set another control.socket", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("control socket %s: there is something else than a socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false) // the name it was bound by may be gone by then
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), ln.Close())
	}
	return &socket{ln, path}, nil
}

// socket removes its file when it is closed.
type socket struct {
	net.Listener
	path string
}

func (s *socket) Close() error {
	err := s.Listener.Close()
	if err == nil {
		err = os.Remove(s.path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// maxSocketName is what every kernel takes: 104 bytes on BSD, 108 on Linux, the last one zero.
const maxSocketName = 100

// guard lets only the owner and root in, and knows by whom each connection was opened.
type guard struct {
	net.Listener
	owner uint32
	log   *slog.Logger
}

// conn is a connection of a known user.
type conn struct {
	net.Conn
	user string
}

func (g *guard) Accept() (net.Conn, error) {
	for {
		nc, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := peerUser(nc)
		switch {
		case err != nil:
			g.log.Error("control: the kernel does not say who connects; turned away", "error", err)
		case uid != g.owner && uid != 0:
			g.log.Warn("control: a user who may not was turned away", "user", userName(uid))
		default:
			return &conn{nc, userName(uid)}, nil
		}
		nc.Close()
	}
}

// userName is the name of a user of this machine, or the number where it has none.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}
