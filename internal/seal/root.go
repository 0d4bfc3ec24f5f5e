package seal

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// A Root wraps and unwraps data keys. It is the only thing that a key management service has to do for us. Those that live
// elsewhere are in package kms.
type Root interface {
	// Wrap encrypts a data key. aad is authenticated with it.
	Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error)
	// Unwrap is the reverse. It fails for another aad.
	Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error)
	// ID names the root key for ever, without telling anything about it. It is kept beside each key that was wrapped.
	ID() string
}

// A Rewrapper is a Root that can put a wrapped key under the newest version of itself without showing it to us.
type Rewrapper interface {
	Rewrap(ctx context.Context, wrapped, aad []byte) ([]byte, error)
}

// localRoot wraps with a key in this process's memory, wherever it came from: AES-256-GCM with random nonces. It wraps data keys
// only, a few a month and organisation, so that the bound of random nonces is out of reach. The raw key is kept for a recovery
// copy; the expanded one beside it is no less of a secret.
type localRoot struct {
	aead cipher.AEAD
	key  [keySize]byte
	id   string
}

// localPrefix begins the id of every root key that is in our own hands. The id follows from the key, not from where it lies, so
// that a key may move from a file to a credential, or come back from a recovery copy.
const localPrefix = "file-"

func newLocalRoot(key []byte) (*localRoot, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	id, err := localID(key)
	if err != nil {
		return nil, err
	}
	return &localRoot{aead: aead, key: [keySize]byte(key), id: localPrefix + hex.EncodeToString(id)}, nil
}

// localIDSize is long enough that two keys never share an id by chance, and tells nothing about the key.
const localIDSize = 8

func localID(key []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, key, nil, "lazaret root id v1", localIDSize)
}

func (r *localRoot) Wrap(_ context.Context, plaintext, aad []byte) ([]byte, error) {
	return r.aead.Seal(nil, nil, plaintext, aad), nil
}

func (r *localRoot) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	out, err := r.aead.Open(nil, nil, wrapped, aad)
	if err != nil {
		return nil, errors.New("the wrapped key was changed, or belongs to another root or another key's name")
	}
	return out, nil
}

func (r *localRoot) ID() string { return r.id }

// String is the id: no verb prints the key.
func (r *localRoot) String() string   { return r.id }
func (r *localRoot) GoString() string { return r.id }

// IsLocal says whether a root key of this id is in our own hands, so that a recovery copy of it can and must be made.
func IsLocal(rootID string) bool { return strings.HasPrefix(rootID, localPrefix) }

// newRootKey draws a root key.
func newRootKey() []byte {
	key := make([]byte, keySize)
	rand.Read(key)
	return key
}
