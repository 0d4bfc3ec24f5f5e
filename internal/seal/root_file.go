package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A root key file is two lines of text: a remark for whoever finds it, and the key.
const (
	rootFileRemark = "# Lazaret root key. Whoever has it opens everything; who loses it loses everything. Keep a copy apart from the data.\n"
	rootFilePrefix = "lazaret-root-v1:"
	maxRootFile    = 4096
)

// CreateFileRoot makes a new root key in a file of mode 0600, in a directory of its own of mode 0700 (made if it is not there).
// It never overwrites: there, a file is an error that matches fs.ErrExist. When it returns nil the key is on stable storage.
func CreateFileRoot(path string) error {
	key := newRootKey()
	defer clear(key)
	if err := writeRootFile(path, key); err != nil {
		return fmt.Errorf("create root key: %w", err)
	}
	return nil
}

func rootText(key []byte) []byte {
	text := append([]byte(rootFileRemark+rootFilePrefix), base64.StdEncoding.AppendEncode(nil, key)...)
	return append(text, '\n')
}

func writeRootFile(path string, key []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	text := rootText(key)
	defer clear(text)
	return writeNew(path, text)
}

// writeNew makes a private file that was not there. Written under another name and linked: a crash leaves the whole file or
// none, and link refuses what exists.
func writeNew(path string, text []byte) error {
	dir := filepath.Dir(path)
	if err := checkPrivateDir(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s is there already and is never overwritten: %w", path, fs.ErrExist)
		}
		return err
	}
	return syncDir(dir)
}

// FileRoot reads a root key from a file. It refuses one that others may read or that belongs to somebody else, and a directory
// that others may enter.
func FileRoot(path string) (Root, error) {
	r, err := openFileRoot(path)
	if err != nil {
		return nil, fmt.Errorf("read root key: %w", err)
	}
	return r, nil
}

func openFileRoot(path string) (*localRoot, error) {
	if err := checkPrivateDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return readRootFile(path, func(st fs.FileInfo) error { return checkPrivate(path, st, "chmod 600") })
}

// CredentialRoot reads a root key that the service manager hands over (systemd.exec(5), LoadCredential and
// LoadCredentialEncrypted): dir is $CREDENTIALS_DIRECTORY. The content is that of a root key file. The directory is the service
// manager's to protect; a file that everybody may read is refused all the same.
func CredentialRoot(dir, name string) (Root, error) {
	r, err := openCredential(dir, name)
	if err != nil {
		return nil, fmt.Errorf("read root key from credential %s: %w", name, err)
	}
	return r, nil
}

func openCredential(dir, name string) (*localRoot, error) {
	if dir == "" {
		return nil, errors.New("the service manager has handed over no credentials: run as a systemd unit with LoadCredentialEncrypted=" + name)
	}
	if name == "" || name != filepath.Base(name) || name == "." || name == ".." {
		return nil, errors.New("a credential's name is no path")
	}
	path := filepath.Join(dir, name)
	return readRootFile(path, func(st fs.FileInfo) error {
		if m := st.Mode().Perm(); m&0o007 != 0 {
			return fmt.Errorf("%s has mode %04o, so that everybody may use it", path, m)
		}
		return nil
	})
}

func readRootFile(path string, check func(fs.FileInfo) error) (*localRoot, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: put the installation's root key back; a new one opens nothing that was sealed before", err)
		}
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat() // of what was opened, not of what bears the name by now
	if err != nil {
		return nil, err
	}
	if err := check(st); err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxRootFile {
		return nil, fmt.Errorf("%s is no root key file", path)
	}
	text := make([]byte, st.Size())
	defer clear(text)
	if _, err := io.ReadFull(f, text); err != nil {
		return nil, err
	}
	key, err := parseRootText(text)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	defer clear(key)
	return newLocalRoot(key)
}

func parseRootText(text []byte) ([]byte, error) {
	_, line, ok := bytes.Cut(text, []byte(rootFilePrefix))
	if !ok {
		return nil, errors.New("has no line " + rootFilePrefix + "…: restore it from your copy")
	}
	line, _, ended := bytes.Cut(line, []byte("\n"))
	key := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	m, err := base64.StdEncoding.Strict().Decode(key, line)
	if err != nil || m != keySize || !ended {
		clear(key)
		return nil, errors.New("is cut or changed: restore it from your copy")
	}
	return key[:keySize], nil
}

// While a root key file is being changed for a new one, the new one lies beside it under nextEnding; once everything is wrapped
// by the new one it takes the old one's name, and the old one waits under formerEnding to be erased.
const (
	nextEnding   = ".next"
	formerEnding = ".former"
)

// FileRoots reads a root key file as FileRoot does, and beside it what a change of the root that was broken off has left:
// former is the other root, which some data keys may still be under. Then the change has to be finished (Ring.Rewrap,
// FinishFileRoot).
func FileRoots(path string) (current, former Root, err error) {
	if next, err := openFileRoot(path + nextEnding); err == nil {
		old, err := FileRoot(path)
		return next, old, err
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read root key that is to come: %w", err)
	}
	if current, err = FileRoot(path); err != nil {
		return nil, nil, err
	}
	old, err := openFileRoot(path + formerEnding)
	switch {
	case err == nil:
		return current, old, nil
	case errors.Is(err, fs.ErrNotExist):
		return current, nil, nil
	}
	return nil, nil, fmt.Errorf("read former root key: %w", err)
}

// NextFileRoot makes the root key that is to follow the one in path, or finds the one that an earlier try has made.
func NextFileRoot(path string) (Root, error) {
	err := CreateFileRoot(path + nextEnding)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return FileRoot(path + nextEnding)
}

// FinishFileRoot lets the next root key take its place and erases the former one. Nothing may be wrapped by that any more.
func FinishFileRoot(path string) error {
	if err := finishFileRoot(path); err != nil {
		return fmt.Errorf("put the new root key in its place: %w", err)
	}
	return nil
}

func finishFileRoot(path string) error {
	dir := filepath.Dir(path)
	if _, err := os.Lstat(path + nextEnding); err == nil {
		// The link may be there from a try that was broken off, of the same file.
		if err := os.Link(path, path+formerEnding); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := syncDir(dir); err != nil {
			return err
		}
		if err := os.Rename(path+nextEnding, path); err != nil {
			return err
		}
		if err := syncDir(dir); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := eraseFile(path + formerEnding); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(dir)
}
