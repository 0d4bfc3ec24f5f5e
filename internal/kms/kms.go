// Package kms holds root keys that live in a key management service: the transit engine of OpenBao or HashiCorp Vault (Transit),
// and AWS KMS (NewAWS). Each wraps and unwraps data keys for package seal, whose Root it satisfies, and hands nothing else out.
//
// What is wrapped is bound to what is said about it (seal's associated data). Transit's rewrap knows no associated data, so a
// digest of them goes in front of the key before it is encrypted, and is checked when it comes back; AWS KMS has an encryption
// context for it. A call ends within its time limit, is repeated a few times where that can help, and its errors tell what to see
// to. They never repeat a token, nor what the service wrote.
//
// Both were written from the public API texts and tested against doubles that were written from the same texts (httptest, with
// refusals, outages, slowness and garbage). Neither has met the real service in our tests; a start of Lazaret, and "lazaret key
// check", wrap and unwrap once for real, and "lazaret key status" says when that last went well.
package kms

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"
)

// Limits of a call.
const (
	DefaultTimeout = 10 * time.Second // of one try
	tries          = 3
	firstPause     = 200 * time.Millisecond // doubled after each try
	maxAnswer      = 1 << 20
)

var (
	// ErrUnreachable means that the service gave no answer, or none that is its own: later it may.
	ErrUnreachable = errors.New("the key management service cannot be reached")
	// ErrDenied means that it does not let us: a matter of tokens, roles and policies there.
	ErrDenied = errors.New("the key management service refuses")
	// ErrNoKey means that it has no such key, or that the key may not be used.
	ErrNoKey = errors.New("the key management service has no such key in use")
	// ErrNotOurs means that what was to be unwrapped was not wrapped by this key for this purpose, or was changed.
	ErrNotOurs = errors.New("the wrapped key was changed, or belongs to another root or another key's name")
)

// bind puts a digest of the associated data in front of a key.
func bind(key, aad []byte) []byte {
	sum := sha256.Sum256(aad)
	return append(sum[:], key...)
}

// unbind takes it off, and refuses where it is that of something else.
func unbind(bound, aad []byte) ([]byte, error) {
	sum := sha256.Sum256(aad)
	if len(bound) <= len(sum) || subtle.ConstantTimeCompare(bound[:len(sum)], sum[:]) != 1 {
		return nil, ErrNotOurs
	}
	return bound[len(sum):], nil
}

// again says whether an error may be gone at the next try.
func again(err error) bool { return errors.Is(err, ErrUnreachable) }

// repeat calls f until it succeeds, fails for good, has been tried often enough, or ctx ends.
func repeat(ctx context.Context, f func() error) (err error) {
	pause := firstPause
	for n := range tries {
		if n > 0 {
			t := time.NewTimer(pause)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return fmt.Errorf("%w: %w", err, ctx.Err())
			}
			pause *= 2
		}
		if err = f(); err == nil || !again(err) || ctx.Err() != nil {
			return err
		}
	}
	return err
}
