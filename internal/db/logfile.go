package db

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// SQLite writes its log page by page, each with a header of its own: two system calls a page, over a hundred a group. Nobody may
// read those pages before the sync that ends the commit, so they are gathered here and written at once just before it. A crash in
// between loses what was not committed anyway.

// logLayer is a file layer over another: it gathers what is written to a log file, and leaves every other file alone.
type logLayer struct{ under vfs.VFS }

// layerOver registers the layer over a named one ("" is the operating system's) and returns its name. Registering it again
// changes nothing.
func layerOver(name string) string {
	own := "lazaret-log"
	if name != "" {
		own += "-" + name
	}
	vfs.Register(own, logLayer{vfs.Find(name)})
	return own
}

func (l logLayer) Open(name string, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	f, flags, err := l.under.Open(name, flags)
	return gather(f, flags), flags, err
}

// OpenFilename is Open for a layer below that wants the whole name.
func (l logLayer) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (f vfs.File, _ vfs.OpenFlag, err error) {
	if under, ok := l.under.(vfs.VFSFilename); ok {
		f, flags, err = under.OpenFilename(name, flags)
	} else {
		f, flags, err = l.under.Open(name.String(), flags)
	}
	return gather(f, flags), flags, err
}

func (l logLayer) Delete(name string, syncDir bool) error { return l.under.Delete(name, syncDir) }
func (l logLayer) Access(name string, flags vfs.AccessFlag) (bool, error) {
	return l.under.Access(name, flags)
}
func (l logLayer) FullPathname(name string) (string, error) { return l.under.FullPathname(name) }

func gather(f vfs.File, flags vfs.OpenFlag) vfs.File {
	if f == nil || flags&vfs.OPEN_WAL == 0 {
		return f
	}
	return &logFile{File: f}
}

// maxGathered bounds what waits for a sync: a long transaction is written in parts.
const maxGathered = 4 << 20

// logFile is one connection's view of the log. Only the writer's ever holds anything.
type logFile struct {
	vfs.File
	at  int64 // where in the file had begins
	had []byte
}

// WriteAt keeps what continues or overlaps what is held; anything else goes out behind it.
func (f *logFile) WriteAt(p []byte, off int64) (int, error) {
	switch end := f.at + int64(len(f.had)); {
	case len(f.had) == 0:
		f.at = off
	case off < f.at || off > end || len(f.had)+len(p) > maxGathered:
		if err := f.flush(); err != nil {
			return 0, err
		}
		f.at = off
	}
	n := copy(f.had[off-f.at:], p)
	f.had = append(f.had, p[n:]...)
	return len(p), nil
}

func (f *logFile) flush() error {
	if len(f.had) == 0 {
		return nil
	}
	_, err := f.File.WriteAt(f.had, f.at)
	f.had = f.had[:0]
	return writeError(err)
}

// writeError gives a failed write the code of one: SQLite learns of it from Sync, where it would take it for a failed fsync, and a
// full disk would end the process.
func writeError(err error) error {
	var path *fs.PathError
	var errno syscall.Errno
	switch {
	case !errors.As(err, &path) && !errors.As(err, &errno):
		return err // none, or it has its code already
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return vfs.SystemError(err, sqlite3.FULL)
	}
	return vfs.SystemError(err, sqlite3.IOERR_WRITE)
}

// ReadAt, Size and Truncate see what was written, as they would without the layer.
func (f *logFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

// Size is that of the file with what is held.
func (f *logFile) Size() (int64, error) {
	n, err := f.File.Size()
	return max(n, f.at+int64(len(f.had))), err
}

// Truncate is as in [vfs.File].
func (f *logFile) Truncate(size int64) error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// Sync writes what is held and makes it durable.
func (f *logFile) Sync(flags vfs.SyncFlag) error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.File.Sync(flags)
}

// Close drops nothing: what was not synced is written, as the operating system would have it.
func (f *logFile) Close() error {
	err := f.flush()
	if e := f.File.Close(); err == nil {
		err = e
	}
	return err
}
