package seal

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// A Wrapped is a data key as it is kept: under the root key, with what it is for in its id.
type Wrapped struct {
	ID      KeyID
	Created time.Time // UTC, in microseconds
	Root    string    // Root.ID of the root key that wrapped it
	Key     []byte    // what Root.Wrap gave
}

// aad binds the wrapped bytes to all that is said about them.
func (w *Wrapped) aad() []byte {
	b := append([]byte("lazaret data key v1 "), w.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(w.Created.UnixMicro()))
	return append(b, w.Root...)
}

// A Store keeps wrapped data keys and counts their seals. It lies apart from the data and its backups. Several processes may use
// one at the same time. Whatever returns nil is on stable storage.
type Store interface {
	// Put keeps a new key; ErrKeyExists if there is one of this id, ErrShredded if its slot was destroyed.
	Put(ctx context.Context, w Wrapped) error
	// Get finds a key; ErrKeyMissing, ErrKeyDamaged.
	Get(ctx context.Context, id KeyID) (Wrapped, error)
	// List names the keys of an organisation and purpose, in any order.
	List(ctx context.Context, org uint32, p Purpose) ([]KeyID, error)
	// Reserve counts up to n more seals of a key, never beyond limit: the numbers from to from+got-1 are the caller's alone.
	// got is 0 when the key is spent, or when its count cannot be known.
	Reserve(ctx context.Context, id KeyID, n, limit uint64) (from, got uint64, err error)
	// Count tells how many seals of a key are reserved. usable is false where the key was retired or its count is lost.
	Count(ctx context.Context, id KeyID) (reserved uint64, usable bool, err error)
	// Retire ends a key's sealing; it goes on opening.
	Retire(ctx context.Context, id KeyID) error
	// Replace puts another wrapping of the same key in the place of the present one, whole or not at all; ErrKeyMissing.
	Replace(ctx context.Context, w Wrapped) error
	// Organisations names those that have keys, or had some.
	Organisations(ctx context.Context) ([]uint32, error)
	// Destroy destroys all keys of an organisation, purpose and period, and keeps new ones from being made. It may be repeated,
	// and finishes what a crash has left; each time it tells all keys that were destroyed, and when that began.
	Destroy(ctx context.Context, org uint32, p Purpose, period Period, now time.Time) (Disposal, error)
	// Disposals tells what was destroyed for an organisation.
	Disposals(ctx context.Context, org uint32) ([]Disposal, error)
}

// dirStore keeps each key in a file of its own:
//
//	ROOT/lock                         held while a file is made or a count moves
//	ROOT/<org>/<rest of the id>.key   {"version":1,"id":…,"purpose":…,"period":…,"created":…,"root":…,"wrapped":…}; replaced when the root is
//	ROOT/<org>/<rest of the id>.count {"version":1,"reserved":…,"retired":…}; replaced for each block of seals
//	ROOT/<org>/<purpose and period>.gone {"version":1,…,"destroyed":…,"keys":[…]}; these keys are, or are just being, destroyed
//
// <org> is the first 8 hexadecimal digits of the id, <rest of the id> the other 24. Files are written under another name, synced
// and renamed, and the directory is synced, in this order, before anything uses them. purpose and period repeat what the id says,
// for people. A count that is lost or damaged makes its key one that opens and no longer seals.
type dirStore struct {
	dir string
	// step is called before each system call that a crash may come before or after; tests make it fail.
	step func(what string) error
	// failed is the first rename or directory sync that went wrong. Which names last is unknown from then on, so nothing is read
	// or written. (A full disk shows earlier, in the write, and may be tried again.)
	failed atomic.Pointer[error]
}

type keyFile struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`
	Purpose string    `json:"purpose"`
	Period  string    `json:"period"`
	Created time.Time `json:"created"`
	Root    string    `json:"root"`
	Wrapped []byte    `json:"wrapped"`
}

type countFile struct {
	Version  int    `json:"version"`
	Reserved uint64 `json:"reserved"`
	Retired  bool   `json:"retired,omitempty"`
}

// DirStore keeps keys in a directory of mode 0700, which it makes if it is not there.
func DirStore(path string) (Store, error) {
	d, err := openDirStore(path)
	if err != nil {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	return d, nil
}

func openDirStore(path string) (*dirStore, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	if err := checkPrivateDir(path); err != nil {
		return nil, err
	}
	// What an earlier process renamed and could not sync is in the page cache alone: it has to last before it is used.
	for _, dir := range []string{filepath.Dir(filepath.Clean(path)), path} {
		if err := syncDir(dir); err != nil {
			return nil, err
		}
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := syncDir(filepath.Join(path, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return &dirStore{dir: path, step: func(string) error { return nil }}, nil
}

func (d *dirStore) orgDir(org uint32) string { return filepath.Join(d.dir, fmt.Sprintf("%08x", org)) }

func (d *dirStore) path(id KeyID, ext string) string {
	return filepath.Join(d.orgDir(id.Org()), id.String()[8:]+ext)
}

func (d *dirStore) Put(ctx context.Context, w Wrapped) error {
	text, err := keyText(w)
	if err != nil {
		return err
	}
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if gone, err := d.gone(w.ID); err != nil {
		return err
	} else if gone {
		return ErrShredded
	}
	if _, err := os.Lstat(d.path(w.ID, ".key")); err == nil {
		return ErrKeyExists
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.makeOrgDir(w.ID.Org()); err != nil {
		return err
	}
	// The count goes first: a key without one would never seal.
	if err := d.writeCount(w.ID, countFile{}); err != nil {
		return err
	}
	return d.write(d.path(w.ID, ".key"), text)
}

func keyText(w Wrapped) ([]byte, error) {
	return json.Marshal(keyFile{1, w.ID.String(), w.ID.Purpose().String(), w.ID.Period().String(), w.Created, w.Root, w.Key})
}

func (d *dirStore) Replace(ctx context.Context, w Wrapped) error {
	text, err := keyText(w)
	if err != nil {
		return err
	}
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if gone, err := d.gone(w.ID); err != nil {
		return err
	} else if gone {
		return ErrKeyMissing
	}
	if _, err := d.read(w.ID); err != nil {
		return err
	}
	return d.write(d.path(w.ID, ".key"), text)
}

func (d *dirStore) makeOrgDir(org uint32) error {
	err := os.Mkdir(d.orgDir(org), 0o700)
	if err == nil {
		return syncDir(d.dir)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (d *dirStore) Get(ctx context.Context, id KeyID) (Wrapped, error) {
	unlock, err := d.lock(ctx)
	if err != nil {
		return Wrapped{}, err
	}
	defer unlock()
	if gone, err := d.gone(id); err != nil {
		return Wrapped{}, err
	} else if gone { // also one that a crash has left
		return Wrapped{}, ErrKeyMissing
	}
	return d.read(id)
}

func (d *dirStore) read(id KeyID) (Wrapped, error) {
	text, err := os.ReadFile(d.path(id, ".key"))
	if errors.Is(err, fs.ErrNotExist) {
		return Wrapped{}, ErrKeyMissing
	}
	if err != nil {
		return Wrapped{}, err
	}
	var k keyFile
	if err := json.Unmarshal(text, &k); err != nil || k.Version != 1 || k.ID != id.String() || len(k.Wrapped) == 0 {
		return Wrapped{}, ErrKeyDamaged
	}
	return Wrapped{ID: id, Created: k.Created, Root: k.Root, Key: k.Wrapped}, nil
}

func (d *dirStore) List(ctx context.Context, org uint32, p Purpose) ([]KeyID, error) {
	unlock, err := d.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	entries, err := os.ReadDir(d.orgDir(org))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []KeyID
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".key")
		if !ok {
			continue
		}
		id, err := ParseKeyID(fmt.Sprintf("%08x", org) + name)
		if err == nil && id.Purpose() == p {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (d *dirStore) Reserve(ctx context.Context, id KeyID, n, limit uint64) (from, got uint64, err error) {
	unlock, err := d.lock(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer unlock()
	c, usable, err := d.readCount(id)
	if err != nil || !usable || c.Reserved >= limit {
		return 0, 0, err
	}
	got = min(n, limit-c.Reserved)
	if err := d.writeCount(id, countFile{Reserved: c.Reserved + got}); err != nil {
		return 0, 0, err
	}
	return c.Reserved, got, nil
}

func (d *dirStore) Count(ctx context.Context, id KeyID) (reserved uint64, usable bool, err error) {
	unlock, err := d.lock(ctx)
	if err != nil {
		return 0, false, err
	}
	defer unlock()
	c, usable, err := d.readCount(id)
	return c.Reserved, usable, err
}

func (d *dirStore) Retire(ctx context.Context, id KeyID) error {
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	c, usable, err := d.readCount(id)
	if err != nil || !usable { // it seals no more already
		return err
	}
	c.Retired = true
	return d.writeCount(id, c)
}

func (d *dirStore) readCount(id KeyID) (c countFile, usable bool, err error) {
	text, err := os.ReadFile(d.path(id, ".count"))
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	if err := json.Unmarshal(text, &c); err != nil || c.Version != 1 {
		return countFile{}, false, nil
	}
	return c, !c.Retired, nil
}

func (d *dirStore) writeCount(id KeyID, c countFile) error {
	c.Version = 1
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return d.write(d.path(id, ".count"), text)
}

// lock keeps other processes, and other goroutines, out. Readers take it too: a name that is not synced yet must not be used.
func (d *dirStore) lock(ctx context.Context) (unlock func(), err error) {
	if err := d.failed.Load(); err != nil {
		return nil, fmt.Errorf("key store is shut after a failed write; see to its disk, then restart: %w", *err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(d.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock key store: %w", err)
	}
	return func() { f.Close() }, nil
}

// write puts a whole file in its place, or nothing. The caller holds the lock, so a fixed temporary name serves, and what a
// crash left under it is overwritten.
func (d *dirStore) write(path string, text []byte) error {
	dir := filepath.Dir(path)
	temp := filepath.Join(dir, tempPrefix+filepath.Base(path))
	if err := d.step("write"); err != nil {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = d.step("sync")
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	err = d.step("rename")
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err == nil {
		err = d.step("sync directory")
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		d.failed.CompareAndSwap(nil, &err) // the name may stand and not last
	}
	return err
}
