package seal

import (
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Password-based key derivation: Argon2id (RFC 9106) with the parameters of OWASP's password storage cheat sheet, and
// PBKDF2-HMAC-SHA-256 (SP 800-132) where Go's FIPS 140-3 module is on, for Argon2 lies outside it.
const (
	argonTime, argonMemory, argonThreads = 2, 19 << 10, 1 // memory in KiB
	pbkdf2Iterations                     = 600_000

	maxArgonTime, maxArgonMemory, maxArgonThreads = 64, 1 << 20, 16
	maxPBKDF2                                     = 50_000_000
	saltSize                                      = 16

	// MinPassphrase is in characters. A passphrase can be guessed at leisure by whoever has the key store.
	MinPassphrase = 16
)

const (
	kdfArgon2id = "argon2id"
	kdfPBKDF2   = "pbkdf2-sha256"
)

// passphraseFile is the root key under a key that is derived from a passphrase. Everything in it but the passphrase is here.
type passphraseFile struct {
	Version    int    `json:"version"`
	KDF        string `json:"kdf"`
	Time       uint32 `json:"time,omitempty"`
	Memory     uint32 `json:"memory_kib,omitempty"`
	Threads    uint8  `json:"threads,omitempty"`
	Iterations int    `json:"iterations,omitempty"`
	Salt       []byte `json:"salt"`
	Wrapped    []byte `json:"wrapped"` // the root key
}

// ErrPassphrase means that the passphrase is not the one.
var ErrPassphrase = errors.New("the passphrase does not open the root key")

// CreatePassphraseRoot makes a new root key, sealed by a passphrase, in a file beside the wrapped keys (PassphraseFile). It never
// overwrites.
func CreatePassphraseRoot(path, passphrase string) error {
	key := newRootKey()
	defer clear(key)
	text, err := sealByPassphrase(key, passphrase)
	if err == nil {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = writeNew(path, text)
		}
	}
	if err != nil {
		return fmt.Errorf("create root key: %w", err)
	}
	return nil
}

// PassphraseFile is where the sealed root key lies within a directory of keys.
func PassphraseFile(store string) string { return filepath.Join(store, "root.passphrase") }

// PassphraseRoot opens the root key that a passphrase seals.
func PassphraseRoot(path, passphrase string) (Root, error) {
	key, err := openByPassphrase(path, passphrase)
	if err != nil {
		return nil, fmt.Errorf("read root key: %w", err)
	}
	defer clear(key)
	return newLocalRoot(key)
}

// ChangePassphrase seals the root key by another passphrase, with the derivation that suits the present mode. The root key stays
// the same one, and so do all keys under it. A crash leaves the one file or the other.
func ChangePassphrase(path, before, after string) error {
	key, err := readByPassphrase(path, before, true)
	if err != nil {
		return fmt.Errorf("change passphrase: %w", err)
	}
	defer clear(key)
	text, err := sealByPassphrase(key, after)
	if err == nil {
		err = replaceFile(path, text)
	}
	if err != nil {
		return fmt.Errorf("change passphrase: %w", err)
	}
	return nil
}

func sealByPassphrase(key []byte, passphrase string) ([]byte, error) {
	if utf8.RuneCountInString(passphrase) < MinPassphrase {
		return nil, fmt.Errorf("a passphrase for the root key has at least %d characters; take six random words", MinPassphrase)
	}
	p := passphraseFile{Version: 1, Salt: make([]byte, saltSize)}
	rand.Read(p.Salt)
	if fips140.Enabled() {
		p.KDF, p.Iterations = kdfPBKDF2, pbkdf2Iterations
	} else {
		p.KDF, p.Time, p.Memory, p.Threads = kdfArgon2id, argonTime, argonMemory, argonThreads
	}
	kek, err := p.derive(passphrase)
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	aead, err := newAEAD(kek)
	if err != nil {
		return nil, err
	}
	p.Wrapped = aead.Seal(nil, nil, key, p.aad())
	text, err := json.Marshal(p)
	return append(text, '\n'), err
}

// aad binds the parameters, so that nobody weakens them unnoticed for the next change.
func (p *passphraseFile) aad() []byte {
	return fmt.Appendf(nil, "lazaret root passphrase v1 %s %d %d %d %d %x", p.KDF, p.Time, p.Memory, p.Threads, p.Iterations, p.Salt)
}

func (p *passphraseFile) derive(passphrase string) ([]byte, error) {
	switch {
	case len(p.Salt) < saltSize:
		return nil, ErrKeyDamaged
	case p.KDF == kdfArgon2id:
		if p.Time < 1 || p.Time > maxArgonTime || p.Memory < argonMemory || p.Memory > maxArgonMemory || p.Threads < 1 || p.Threads > maxArgonThreads {
			return nil, errors.New("its parameters are out of bounds: restore the file from your copy")
		}
		return argon2.IDKey([]byte(passphrase), p.Salt, p.Time, p.Memory, p.Threads, keySize), nil
	case p.KDF == kdfPBKDF2:
		if p.Iterations < pbkdf2Iterations || p.Iterations > maxPBKDF2 {
			return nil, errors.New("its parameters are out of bounds: restore the file from your copy")
		}
		return pbkdf2.Key(sha256.New, passphrase, p.Salt, p.Iterations, keySize)
	}
	return nil, fmt.Errorf("it is derived by %q, which this build does not know", p.KDF)
}

func openByPassphrase(path, passphrase string) ([]byte, error) {
	return readByPassphrase(path, passphrase, !fips140.Enabled())
}

// readByPassphrase: argon is false where the policy wants nothing outside the FIPS module.
func readByPassphrase(path, passphrase string, argon bool) ([]byte, error) {
	if err := checkPrivateDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: bring back the key store that belongs to the data", err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkPrivate(path, st, "chmod 600"); err != nil {
		return nil, err
	}
	var p passphraseFile
	if st.Size() > maxRootFile || json.NewDecoder(f).Decode(&p) != nil || p.Version != 1 {
		return nil, fmt.Errorf("%s is cut or changed: restore it from your copy", path)
	}
	if p.KDF == kdfArgon2id && !argon {
		return nil, errors.New(`the passphrase's key is derived by Argon2id, which lies outside the FIPS 140-3 module: run "lazaret key passphrase" once, which changes it to PBKDF2`)
	}
	kek, err := p.derive(passphrase)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer clear(kek)
	aead, err := newAEAD(kek)
	if err != nil {
		return nil, err
	}
	key, err := aead.Open(nil, nil, p.Wrapped, p.aad())
	if err != nil || len(key) != keySize {
		return nil, ErrPassphrase
	}
	return key, nil
}

// replaceFile puts a private file in the place of another, whole or not at all.
func replaceFile(path string, text []byte) error {
	dir := filepath.Dir(path)
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
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}
