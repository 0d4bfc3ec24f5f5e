package seal

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A Root wraps and unwraps data keys. It is the only thing that a key management service has to do for us.
type Root interface {
	// Wrap encrypts a data key. aad is authenticated with it.
	Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error)
	// Unwrap is the reverse. It fails for another aad.
	Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error)
	// ID names the root key for ever, without telling anything about it. It is kept beside each key that was wrapped.
	ID() string
}

// A root key file is two lines of text: a remark for whoever finds it, and the key.
const (
	rootFileRemark = "# Lazaret root key. Whoever has it opens everything; who loses it loses everything. Keep a copy apart from the data.\n"
	rootFilePrefix = "lazaret-root-v1:"
	maxRootFile    = 4096
)

// fileRoot wraps with a key from a file: AES-256-GCM with random nonces. It wraps data keys only, a few a month and organisation,
// so that the bound of random nonces is out of reach.
type fileRoot struct {
	aead cipher.AEAD
	id   string
}

// CreateFileRoot makes a new root key in a file of mode 0600, in a directory of its own of mode 0700 (made if it is not there).
// It never overwrites: there, a file is an error that matches fs.ErrExist. When it returns nil the key is on stable storage.
func CreateFileRoot(path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("create root key: %w", err)
		}
	}()
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := checkPrivateDir(dir); err != nil {
		return err
	}
	key := make([]byte, keySize)
	rand.Read(key)
	defer clear(key)
	text := append([]byte(rootFileRemark+rootFilePrefix), base64.StdEncoding.AppendEncode(nil, key)...)
	text = append(text, '\n')
	defer clear(text)

	// Written under another name and linked: a crash leaves a whole root key or none, and link refuses what exists.
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

func openFileRoot(path string) (*fileRoot, error) {
	if err := checkPrivateDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
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
	if err := checkPrivate(path, st, "chmod 600"); err != nil {
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
	_, line, ok := bytes.Cut(text, []byte(rootFilePrefix))
	if !ok {
		return nil, fmt.Errorf("%s has no line %s…: restore it from your copy", path, rootFilePrefix)
	}
	line, _, ended := bytes.Cut(line, []byte("\n"))
	key := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	defer clear(key)
	m, err := base64.StdEncoding.Strict().Decode(key, line)
	if err != nil || m != keySize || !ended {
		return nil, fmt.Errorf("%s is cut or changed: restore it from your copy", path)
	}
	return newFileRoot(key[:keySize])
}

func newFileRoot(key []byte) (*fileRoot, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	id, err := hkdf.Key(sha256.New, key, nil, "lazaret root id v1", 8)
	if err != nil {
		return nil, err
	}
	return &fileRoot{aead: aead, id: "file-" + hex.EncodeToString(id)}, nil
}

func (r *fileRoot) Wrap(_ context.Context, plaintext, aad []byte) ([]byte, error) {
	return r.aead.Seal(nil, nil, plaintext, aad), nil
}

func (r *fileRoot) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	out, err := r.aead.Open(nil, nil, wrapped, aad)
	if err != nil {
		return nil, errors.New("the wrapped key was changed, or belongs to another root or another key's name")
	}
	return out, nil
}

func (r *fileRoot) ID() string { return r.id }

// String is the id: no verb prints the key.
func (r *fileRoot) String() string   { return r.id }
func (r *fileRoot) GoString() string { return r.id }
