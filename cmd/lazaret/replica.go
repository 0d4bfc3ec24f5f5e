package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/lazaret-health/lazaret/internal/db"
)

// takeReplica gives this process the name under which its data folder's earlier process held its queues. The file stays locked
// while the process lives: whoever gets the lock knows that the earlier one is gone, and may take its queues back at once
// instead of waiting their leases out.
func (s *service) takeReplica() (id db.ID, err error) {
	path := filepath.Join(string(s.cfg.Data), "replica")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return id, fmt.Errorf("name this process: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return id, hint(fmt.Errorf("another lazaret uses the data folder %s", s.cfg.Data), "stop it, or give this one a folder of its own (data: DIR)")
	}
	b, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return id, fmt.Errorf("name this process: %w", err)
	}
	if id, err = db.ParseID(strings.TrimSpace(string(b))); err != nil {
		id = s.db.NewID()
		_, err = f.WriteAt([]byte(id.String()+"\n"), 0)
		if err = errors.Join(err, f.Truncate(int64(len(id.String())+1)), f.Sync()); err != nil {
			return id, fmt.Errorf("name this process: %w", err)
		}
	}
	s.replica = f
	return id, nil
}
