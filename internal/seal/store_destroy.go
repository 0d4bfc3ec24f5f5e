package seal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Disposal tells which keys of a slot were destroyed. It names keys and holds none.
type Disposal struct {
	Org     uint32    `json:"organisation"`
	Purpose Purpose   `json:"purpose"`
	Period  Period    `json:"period"`
	At      time.Time `json:"at"` // when it began, UTC
	Keys    []KeyID   `json:"keys"`
}

type goneFile struct {
	Version   int       `json:"version"`
	Purpose   string    `json:"purpose"`
	Period    string    `json:"period"`
	Destroyed time.Time `json:"destroyed"`
	Keys      []string  `json:"keys"`
}

func (d *dirStore) gonePath(s slot) string {
	return filepath.Join(d.orgDir(s.org), fmt.Sprintf("%02x%04x.gone", uint8(s.purpose), uint16(s.period)))
}

// gone says whether the keys of the slot that id belongs to were destroyed, wholly or up to a crash.
func (d *dirStore) gone(id KeyID) (bool, error) {
	_, err := os.Lstat(d.gonePath(slot{id.Org(), id.Purpose(), id.Period()}))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Destroy first writes down what will go, so that whatever comes between, no key of the slot opens or is made any more, and a
// repetition knows all of them. Then each file is overwritten, synced and unlinked. Overwriting reaches the old place on most
// file systems and not on all (copies on write, flash): what remains there is still under the root key.
func (d *dirStore) Destroy(ctx context.Context, org uint32, p Purpose, period Period, now time.Time) (Disposal, error) {
	s := slot{org, p, period}
	unlock, err := d.lock(ctx)
	if err != nil {
		return Disposal{}, err
	}
	defer unlock()
	out, err := d.readGone(s)
	if errors.Is(err, fs.ErrNotExist) {
		if out, err = d.mark(s, now); err != nil {
			return Disposal{}, err
		}
	} else if err != nil {
		return Disposal{}, err
	}
	names, err := d.filesOf(s)
	if err != nil {
		return Disposal{}, err
	}
	for _, name := range names {
		if err := d.erase(filepath.Join(d.orgDir(org), name)); err != nil {
			return Disposal{}, fmt.Errorf("erase a key's file: %w", err)
		}
	}
	if err := d.step("sync directory"); err != nil {
		return Disposal{}, err
	}
	return out, syncDir(d.orgDir(org))
}

// mark writes the list of what goes. The caller holds the lock.
func (d *dirStore) mark(s slot, now time.Time) (Disposal, error) {
	if err := d.makeOrgDir(s.org); err != nil {
		return Disposal{}, err
	}
	names, err := d.filesOf(s)
	if err != nil {
		return Disposal{}, err
	}
	out := Disposal{s.org, s.purpose, s.period, now.UTC().Truncate(time.Microsecond), nil}
	file := goneFile{1, s.purpose.String(), s.period.String(), out.At, []string{}}
	for _, name := range names {
		if rest, ok := strings.CutSuffix(name, ".key"); ok && !strings.HasPrefix(name, tempPrefix) {
			id, err := ParseKeyID(fmt.Sprintf("%08x", s.org) + rest)
			if err != nil {
				continue
			}
			out.Keys, file.Keys = append(out.Keys, id), append(file.Keys, id.String())
		}
	}
	text, err := json.Marshal(file)
	if err != nil {
		return Disposal{}, err
	}
	return out, d.write(d.gonePath(s), text)
}

func (d *dirStore) readGone(s slot) (Disposal, error) {
	text, err := os.ReadFile(d.gonePath(s))
	if err != nil {
		return Disposal{}, err
	}
	out := Disposal{Org: s.org, Purpose: s.purpose, Period: s.period}
	var g goneFile
	if err := json.Unmarshal(text, &g); err != nil || g.Version != 1 {
		return out, nil // that they are gone holds without the list
	}
	out.At = g.Destroyed
	for _, k := range g.Keys {
		if id, err := ParseKeyID(k); err == nil {
			out.Keys = append(out.Keys, id)
		}
	}
	return out, nil
}

// filesOf names a slot's files, those that a crash has left half-written too.
func (d *dirStore) filesOf(s slot) (names []string, err error) {
	entries, err := os.ReadDir(d.orgDir(s.org))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	id := makeID(s, [9]byte{})
	prefix := id.String()[8:14]
	for _, e := range entries {
		name := strings.TrimPrefix(e.Name(), tempPrefix)
		if ext := filepath.Ext(name); strings.HasPrefix(name, prefix) && (ext == ".key" || ext == ".count") {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (d *dirStore) erase(path string) error {
	if err := d.step("overwrite"); err != nil {
		return err
	}
	if err := overwrite(path); err != nil {
		return err
	}
	if err := d.step("unlink"); err != nil {
		return err
	}
	return os.Remove(path)
}

func (d *dirStore) Disposals(ctx context.Context, org uint32) (list []Disposal, err error) {
	unlock, err := d.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	entries, err := os.ReadDir(d.orgDir(org))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".gone")
		n, perr := strconv.ParseUint(name, 16, 24)
		if !ok || perr != nil || len(name) != 6 {
			continue
		}
		one, rerr := d.readGone(slot{org, Purpose(n >> 16), Period(n)})
		if rerr != nil {
			return nil, rerr
		}
		list = append(list, one)
	}
	return list, err
}

func (d *dirStore) Organisations(ctx context.Context) (list []uint32, err error) {
	unlock, err := d.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	entries, err := os.ReadDir(d.dir)
	for _, e := range entries {
		if n, perr := strconv.ParseUint(e.Name(), 16, 32); e.IsDir() && len(e.Name()) == 8 && perr == nil {
			list = append(list, uint32(n))
		}
	}
	slices.Sort(list)
	return list, err
}
