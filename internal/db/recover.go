package db

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"
)

// After a failed fsync Linux drops the error and keeps the pages as clean: what a reader sees need not be on the disk.
// So the process stops, and the next start does not trust the files. It copies what is legible into new ones, which are
// synced in full, checks them, and goes on with those; the old ones stay beside them for whoever wants to look.

func (s *sqliteStore) marker() string { return s.path + ".fsync-failed" }

// markFailedSync leaves a note for the next start. It may fail too: the disk is in trouble; then the log has it alone.
func (s *sqliteStore) markFailedSync() {
	f, err := os.OpenFile(s.marker(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString("an fsync of the database failed; the next start copies it into new files\n")
		err = errors.Join(err, f.Sync(), f.Close(), syncDir(filepath.Dir(s.path)))
	}
	if err != nil {
		s.db.cfg.Log.Error("could not leave the note that an fsync failed; before the next start create this file by hand",
			"file", s.marker(), "error", err)
	}
}

func (s *sqliteStore) recoverFromFailedSync(ctx context.Context) error {
	if _, err := os.Stat(s.marker()); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	refuse := func(err error) error {
		return fmt.Errorf("an fsync of %s failed in an earlier run, and copying it into new files did not succeed: %w; "+
			"restore a backup, or look into the disk and start again", filepath.Base(s.path), err)
	}
	// Under this name the copy is whole, checked and synced. From there on only names change, and a start that finds it does
	// the rest: the old files may be aside already.
	copied := s.path + ".copied"
	if _, err := os.Stat(copied); errors.Is(err, os.ErrNotExist) {
		s.db.cfg.Log.Warn("an fsync failed in an earlier run: copying the database into new files", "file", s.path)
		if err := s.copyInto(ctx, copied); err != nil {
			return refuse(err)
		}
	} else if err != nil {
		return refuse(err)
	}
	aside := s.path + ".suspect-" + s.db.Now().Format("20060102T150405Z")
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(s.path+end, aside+end); err != nil && !errors.Is(err, os.ErrNotExist) {
			return refuse(err)
		}
	}
	// The old log must be gone for good before the copy bears the name that the log belongs to.
	if err := syncDir(filepath.Dir(s.path)); err != nil {
		return refuse(err)
	}
	if err := os.Rename(copied, s.path); err != nil {
		return refuse(err)
	}
	if err := syncDir(filepath.Dir(s.path)); err != nil {
		return refuse(err)
	}
	if err := os.Remove(s.marker()); err != nil {
		return refuse(err)
	}
	s.db.cfg.Log.Warn("the database was copied and checked; the old files stay beside it", "old", aside)
	return nil
}

// copyInto copies what is legible into a new file, which gets its name only when it is whole, checked and on the disk.
func (s *sqliteStore) copyInto(ctx context.Context, copied string) error {
	fresh := s.path + ".new"
	if err := removeAll(fresh, fresh+"-wal", fresh+"-shm", fresh+"-journal"); err != nil {
		return err
	}
	old, err := s.connect(4 << 10)
	if err != nil {
		return err
	}
	// The old files stay as they are: closing must not move the log into a file that the disk may not hold.
	if _, err = old.c.Config(sqlite3.DBCONFIG_NO_CKPT_ON_CLOSE, true); err == nil {
		_, err = old.exec(ctx, "VACUUM INTO $1", []any{fresh})
	}
	if e := old.close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := verifyFile(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, copied); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.path))
}

// verifyFile reads the whole file back by SQLite's own check and syncs it.
func verifyFile(path string) error {
	c, err := sqlite3.OpenFlags("file:"+(&urlPath{path}).String(), sqlite3.OPEN_READWRITE|sqlite3.OPEN_URI)
	if err != nil {
		return err
	}
	conn := &sqliteConn{c: c, stmts: map[string]*sqlite3.Stmt{}}
	defer conn.close()
	rows, err := conn.query(context.Background(), "PRAGMA integrity_check(1)", nil)
	if err != nil {
		return err
	}
	defer rows.Close()
	var verdict string
	if !rows.Next() {
		return errors.New("the check of the copy gave no answer")
	}
	if err := rows.Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return errors.New("the copy does not pass SQLite's integrity check")
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func removeAll(paths ...string) error {
	for _, p := range paths {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
