package db

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrExists: there is a database already where one should be restored.
var ErrExists = errors.New("there is a database already")

// Restoring says what a new database is made of, and where.
type Restoring struct {
	URL     string // where it will be
	Replace bool   // one that is there is put aside; else it is an error
	Now     func() time.Time
	Log     *slog.Logger

	// Fill writes what Backup wrote. It returns nil only when every byte is proven to be what it was.
	Fill func(ctx context.Context, w io.Writer) error
	// Check looks at the new database, under an address of its own, before it takes its place. Nil: not looked at.
	Check func(ctx context.Context, url string) error
}

// Restore makes a database from what Backup wrote: beside its place, so that on any error nothing is there that was not there
// before. aside is where the database went that stood there, or "".
func Restore(ctx context.Context, r Restoring) (aside string, err error) {
	if r.Now == nil || r.Log == nil || r.Fill == nil {
		return "", errors.New("restore database: Now, Log and Fill must be given")
	}
	if path, ok := strings.CutPrefix(r.URL, "sqlite:"); ok {
		aside, err = restoreSQLite(ctx, r, path)
	} else {
		aside, err = restorePostgres(ctx, r)
	}
	if err != nil && ctx.Err() != nil {
		return "", ctx.Err()
	}
	return aside, err
}

// Drop removes a database that Restore made for a look.
func Drop(ctx context.Context, url string) error {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		return removeAll(path, path+"-wal", path+"-shm", path+"-journal", path+".lock")
	}
	return dropPostgres(ctx, url)
}

func restoreSQLite(ctx context.Context, r Restoring, path string) (aside string, err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	there, err := isThere(path)
	if err != nil {
		return "", err
	}
	if there && !r.Replace {
		return "", fmt.Errorf("%w: %s", ErrExists, path)
	}
	fresh := path + ".restoring"
	clean := func() error { return Drop(ctx, "sqlite:"+fresh) }
	if err := clean(); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(full(err), clean())
		}
	}()
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	err = r.Fill(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return "", err
	}
	if r.Check != nil {
		if err := r.Check(ctx, "sqlite:"+fresh); err != nil {
			return "", err
		}
		// Closing the last connection moves the log into the file and removes it; else the file alone would be an old state.
		if left, err := isThere(fresh + "-wal"); err != nil || left {
			return "", errors.Join(err, errors.New("the new database was not closed in good order"))
		}
	}
	if err := removeAll(fresh+".lock", fresh+"-shm"); err != nil {
		return "", err
	}
	if there {
		aside = path + ".replaced-" + r.Now().UTC().Format("20060102T150405Z")
		// A second name first: at no moment is the old file without one.
		if err := os.Link(path, aside); err != nil {
			return "", err
		}
	}
	// A log that is there without its database would be read into the new one.
	for _, end := range []string{"-wal", "-shm"} {
		keep := aside + end
		if aside == "" {
			keep = path + ".stray-" + r.Now().UTC().Format("20060102T150405Z") + end
		}
		if err := os.Rename(path+end, keep); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if err := removeAll(path + ".fsync-failed"); err != nil { // the note was about the files that were there
		return "", err
	}
	if err := os.Rename(fresh, path); err != nil {
		return "", err
	}
	return aside, syncDir(dir)
}

func isThere(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// full names a full disk, whoever met it.
func full(err error) error {
	if errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrFull, err)
}

// Scratch is an address beside url for a database that somebody wants to look at and drop. dir is where SQLite's lies.
func Scratch(url, dir string) (string, error) {
	var b [6]byte
	rand.Read(b[:])
	name := "lazaret_drill_" + hex.EncodeToString(b[:])
	if strings.HasPrefix(url, "sqlite:") {
		return "sqlite:" + filepath.Join(dir, name+".db"), nil
	}
	a, err := parseAddress(url)
	if err != nil {
		return "", err
	}
	return a.at(name), nil
}
