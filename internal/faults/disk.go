// Package faults breaks things on purpose, so that tests can see what is left of the promises. It is for tests only.
//
// A [Disk] is a file layer for SQLite over the real one: it fails writes and syncs at a chosen moment (with or without their
// effect), has a size, can stop for good as a killed process does, and records what was written and what was synced, so that
// [Disk.After] can build the files as a power loss at any moment may have left them. A [Wire] lies
// between a program and PostgreSQL and is cut at a chosen statement.
//
// It simulates no disk that lies about a sync: a database on such a disk keeps no promise, and no test can make it.
package faults

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// Op is something that is done to a file.
type Op uint8

// The operations that change what is stored.
const (
	Write Op = iota + 1
	Sync
	Truncate
	Delete
)

// A Break says which operation fails and how.
type Break struct {
	Op    Op
	File  string // how the file's name ends: "-wal", ".db"
	After int    // so many of them go well first
	Times int    // so many fail; 0: until Heal
	Kept  bool   // the operation takes effect all the same
}

// A Disk is a file layer under a name of its own. Its methods may be called from any goroutine.
type Disk struct {
	name string
	os   vfs.VFSFilename

	mu       sync.Mutex
	dead     bool
	breaks   *Break
	seen     int // operations that fit breaks
	broke    int
	onBreak  func()
	capacity int64 // 0: no limit
	sizes    map[string]int64
	record   bool
	events   []event
}

// NewDisk makes a disk and registers it for as long as the test runs.
func NewDisk(t testing.TB) *Disk {
	t.Helper()
	under, ok := vfs.Find("os").(vfs.VFSFilename)
	if !ok {
		t.Fatal("the driver's own file layer is not what it was")
	}
	var b [8]byte
	rand.Read(b[:])
	d := &Disk{name: "faults-" + hex.EncodeToString(b[:]), os: under, sizes: map[string]int64{}}
	vfs.Register(d.name, d)
	t.Cleanup(func() { vfs.Unregister(d.name) })
	return d
}

// Name is what db.Config.VFS takes.
func (d *Disk) Name() string { return d.name }

// Break makes operations fail from now on; it replaces an earlier one.
func (d *Disk) Break(b Break) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.breaks, d.seen, d.broke = &b, 0, 0
}

// OnBreak has fn called, on the goroutine of the operation, just before one fails.
func (d *Disk) OnBreak(fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onBreak = fn
}

// Broke is how many operations have failed since Break.
func (d *Disk) Broke() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broke
}

// Heal makes everything go well again, and takes away a limit of size.
func (d *Disk) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.breaks, d.capacity = nil, 0
}

// Kill makes every later change fail without effect: what a killed process would have written is never written.
func (d *Disk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
}

// Revive lets the next process use the disk.
func (d *Disk) Revive() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead, d.breaks = false, nil
}

// Fill leaves room for so many bytes more than the files have now.
func (d *Disk) Fill(room int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = room
	for _, n := range d.sizes {
		d.capacity += n
	}
	d.capacity = max(d.capacity, 1)
}

var errDead = errors.New("the process is dead")

// before decides about an operation. do says whether it takes effect, err what is told.
func (d *Disk) before(op Op, name string, end int64) (do bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return false, vfs.SystemError(errDead, sqlite3.IOERR_WRITE) // not a failed sync: nobody is left to hear of one
	}
	if op == Write && d.capacity > 0 && end > d.sizes[name] {
		used := end - d.sizes[name]
		for _, n := range d.sizes {
			used += n
		}
		if used > d.capacity {
			d.broke++
			return false, failure(op, name, syscall.ENOSPC)
		}
	}
	b := d.breaks
	if b == nil || b.Op != op || !strings.HasSuffix(name, b.File) {
		return true, nil
	}
	if d.seen++; d.seen <= b.After || b.Times > 0 && d.seen > b.After+b.Times {
		return true, nil
	}
	d.broke++
	if d.onBreak != nil {
		d.onBreak()
	}
	return b.Kept, failure(op, name, syscall.EIO)
}

// failure is an error in the form that the driver's own layer gives it: without a code of SQLite's, also for a full disk.
func failure(op Op, name string, why syscall.Errno) error {
	return &fs.PathError{Op: [...]string{"", "write", "fdatasync", "truncate", "remove"}[op], Path: name, Err: why}
}

// Open is not called: SQLite's driver prefers OpenFilename.
func (d *Disk) Open(name string, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	return d.os.Open(name, flags)
}

// OpenFilename opens a file of the real file layer behind this one.
func (d *Disk) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	f, flags, err := d.os.OpenFilename(name, flags)
	if err != nil || name == nil {
		return f, flags, err
	}
	base := filepath.Base(name.String())
	size, err := f.Size()
	if err != nil {
		f.Close()
		return nil, flags, err
	}
	d.mu.Lock()
	d.sizes[base] = size
	d.mu.Unlock()
	// The driver syncs the directory with the first sync of a journal that it may have created.
	journal := flags&(vfs.OPEN_MAIN_JOURNAL|vfs.OPEN_SUPER_JOURNAL|vfs.OPEN_WAL) != 0 && flags&vfs.OPEN_CREATE != 0
	return &file{File: f, disk: d, name: base, dir: journal}, flags, nil
}

// Delete removes a file.
func (d *Disk) Delete(name string, syncDir bool) error {
	base := filepath.Base(name)
	do, broken := d.before(Delete, base, 0)
	if do {
		d.note(event{op: Delete, file: base})
		upto := d.now()
		if err := d.os.Delete(name, syncDir); err != nil && broken == nil {
			return err
		}
		if syncDir {
			d.note(event{op: Sync, file: base, upto: upto, dir: true})
		}
		d.mu.Lock()
		delete(d.sizes, base)
		d.mu.Unlock()
	}
	return broken
}

// Access asks about a file.
func (d *Disk) Access(name string, flags vfs.AccessFlag) (bool, error) {
	return d.os.Access(name, flags)
}

// FullPathname makes a name absolute.
func (d *Disk) FullPathname(name string) (string, error) { return d.os.FullPathname(name) }

// file is one open file of a Disk.
type file struct {
	vfs.File
	disk *Disk
	name string
	dir  bool // the next sync is the directory's too
}

// SharedMemory is the real file's: the index of the write-ahead log is made anew after a crash, so nothing of it is stored.
func (f *file) SharedMemory() vfs.SharedMemory {
	if shared, ok := f.File.(vfs.FileSharedMemory); ok {
		return shared.SharedMemory()
	}
	return nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	do, broken := f.disk.before(Write, f.name, off+int64(len(p)))
	if do {
		f.disk.note(event{op: Write, file: f.name, at: off, data: p})
		if n, err := f.File.WriteAt(p, off); err != nil && broken == nil {
			return n, err
		}
		f.disk.mu.Lock()
		f.disk.sizes[f.name] = max(f.disk.sizes[f.name], off+int64(len(p)))
		f.disk.mu.Unlock()
	}
	if broken != nil {
		return 0, broken
	}
	return len(p), nil
}

func (f *file) Truncate(size int64) error {
	do, broken := f.disk.before(Truncate, f.name, 0)
	if do {
		f.disk.note(event{op: Truncate, file: f.name, at: size})
		if err := f.File.Truncate(size); err != nil && broken == nil {
			return err
		}
		f.disk.mu.Lock()
		f.disk.sizes[f.name] = size
		f.disk.mu.Unlock()
	}
	return broken
}

func (f *file) Sync(flags vfs.SyncFlag) error {
	do, broken := f.disk.before(Sync, f.name, 0)
	if do {
		upto := f.disk.now()
		if err := f.File.Sync(flags); err != nil && broken == nil {
			return err
		}
		f.disk.note(event{op: Sync, file: f.name, upto: upto, dir: f.dir})
		f.dir = false
	}
	return broken
}
