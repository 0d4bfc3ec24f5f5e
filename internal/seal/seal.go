// Package seal turns values into sealed bytes that open only where they were sealed, and values that are searched for into
// blind ones. It is where "no readable PHI at rest" (promise 4) is kept.
//
// A root key (Root: a file, a passphrase, a credential; in package kms what lives elsewhere) wraps data keys; a data key belongs to one organisation,
// purpose and period (a month in UTC, or Lasting). Wrapped data keys lie in a Store of their own, never beside the data. A
// record is sealed by AES-256-GCM (NIST SP 800-38D) under a random nonce; the associated data are the fixed codes of table and
// column, the row, the organisation and the key's id, so that a sealed value that was moved does not open. Seals a key are
// counted, in the store and ahead of use, and end at Config.Limit (2^31 at most; SP 800-38D section 8.3 allows 2^32), after which the same
// period gets a fresh key.
//
// Blind values are HMAC-SHA-256 (FIPS 198-1) under a key derived by HKDF (RFC 5869) per field from a blind key of the
// organisation and period: equal values are equal within a field, a period and an organisation, and nowhere else. An old
// period's blind values die with its key.
//
// Everything here stays inside Go's FIPS 140-3 module. Data keys never leave this package. What it cannot do: Go gives no way to
// wipe a cipher's expanded key; Close wipes what is ours (raw keys) and lets go of the rest.
//
// Shred destroys a period's keys for good (NIST SP 800-88, cryptographic erase): the store keeps that they are gone, so that none is
// made again.
package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Overhead is how many bytes longer a sealed value is than what was sealed: 1 version, 16 key id, 12 nonce, 16 tag.
const Overhead = 1 + keyIDSize + nonceSize + tagSize

const (
	version   = 1
	nonceSize = 12
	tagSize   = 16
	header    = 1 + keyIDSize
	aadSize   = 1 + 2 + 2 + 16 + 4 + keyIDSize // version, table, column, row, organisation, key id
	keySize   = 32

	// maxLimit is half of what SP 800-38D section 8.3 allows for random nonces of 96 bits.
	maxLimit = 1 << 31
	// maxBlock is how many seals are reserved in the store at once: 2^20 is one fsync in a million seals, and a restart
	// throws away at most one two-thousandth of a key's life.
	maxBlock = 1 << 20
)

var (
	// ErrOpen means: changed, cut, or sealed for another place. Which of them cannot be told apart.
	ErrOpen = errors.New("sealed value does not open here: it was changed, cut, or sealed for another row, column or organisation")
	// ErrKeyMissing means that the store has no such data key: it was shredded, or the store is not the one that belongs to the data.
	ErrKeyMissing = errors.New("data key is not in the key store: it was shredded, or this is another installation's key store")
	// ErrKeyDamaged means that a key's record is there and illegible, or not what its name says.
	ErrKeyDamaged = errors.New("data key's record is damaged: restore it from the backup of the key store")
	// ErrRoot means that the root key could not wrap or unwrap: unreachable, or not the root that wrapped.
	ErrRoot = errors.New("root key does not wrap or unwrap")
	// ErrRootAway means that the root key has been out of reach for longer than Config.Grace: nothing seals or opens until it is back.
	ErrRootAway = errors.New("root key has been out of reach for too long; nothing is sealed or opened until it is back")
	// ErrKeyExists is what a Store answers to a second Put under one id.
	ErrKeyExists = errors.New("data key exists already")
	// ErrShredded means that the keys of an organisation, purpose and period were destroyed, and that nothing is sealed there again.
	ErrShredded = errors.New("the period's keys were destroyed and are not made again")
	// ErrClosed means that the ring was closed.
	ErrClosed = errors.New("key ring is closed")
)

// A Place is where a sealed value lives. It is authenticated, not stored: whoever opens has to know it.
type Place struct {
	Table, Column uint16   // from the lists in codes.go
	Row           [16]byte // the row's id
	Org           uint32   // the organisation's number
}

// DefaultGrace is how long a ring goes on without its root key.
const DefaultGrace = time.Hour

// Config is what a Ring needs. Root, Store, Now and Rand are required.
type Config struct {
	Root   Root
	Former []Root // wrapped some of the data keys, and unwraps them until Rewrap has put them under Root
	Store  Store
	Now    func() time.Time // a key's time of making
	Rand   io.Reader        // serial numbers of keys; keys and nonces are drawn by crypto/rand, as FIPS 140-3 asks
	Limit  uint64           // seals under one data key, at most and by default 2^31
	Grace  time.Duration    // how long to go on with the keys in memory while the root is out of reach; default DefaultGrace
}

// A Ring seals and opens. It may be used by any number of goroutines; the way of a record takes no lock that another record's
// way takes, as long as the keys are in memory.
type Ring struct {
	store  Store
	now    func() time.Time
	rand   io.Reader
	limit  uint64
	block  uint64
	grace  time.Duration
	closed atomic.Bool
	shut   atomic.Bool // the root key has been away for longer than grace

	// miss is held (one token) by whoever fetches or makes a key. It guards every change of the maps below; ctx ends a wait for it.
	miss   chan struct{}
	active atomic.Pointer[map[slot]*dataKey]       // the key each slot seals with now; copied on write
	blind  atomic.Pointer[map[blindSlot]*blindKey] // copied on write
	roots  atomic.Pointer[rootSet]                 // replaced under miss
	mu     sync.RWMutex                            // guards all below
	byID   map[KeyID]*dataKey                      // every data key in memory, for opening
	blinds map[slot]*[keySize]byte                 // blind keys' roots, raw: HKDF wants them for each new field
	made   []KeyID                                 // not yet on record
	seen   RootState
}

// A rootSet is the root key that wraps, and those that only unwrap any more.
type rootSet struct {
	current Root
	former  []Root
}

type slot struct {
	org     uint32
	purpose Purpose
	period  Period
}

// A dataKey is a cipher and its count. used may run past reserved: whoever got a number beyond it reserves more, or rolls.
type dataKey struct {
	id       KeyID
	aead     cipher.AEAD
	used     atomic.Uint64 // next number to hand out, within [.., reserved)
	reserved atomic.Uint64
}

// Open makes a ring over a root key and a store, and proves that they work together: it wraps and unwraps once, so that a root
// that is away is found now and not at the first message.
func Open(ctx context.Context, c Config) (*Ring, error) {
	switch {
	case c.Root == nil:
		return nil, errors.New("open key ring: Config.Root is missing")
	case c.Store == nil:
		return nil, errors.New("open key ring: Config.Store is missing")
	case c.Now == nil:
		return nil, errors.New("open key ring: Config.Now is missing")
	case c.Rand == nil:
		return nil, errors.New("open key ring: Config.Rand is missing")
	case c.Limit > maxLimit:
		return nil, fmt.Errorf("open key ring: Config.Limit is over 2^31, which random nonces do not bear")
	}
	if c.Limit == 0 {
		c.Limit = maxLimit
	}
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	r := &Ring{
		store: c.Store, now: c.Now, rand: c.Rand,
		limit: c.Limit, block: min(maxBlock, c.Limit), grace: c.Grace,
		miss:   make(chan struct{}, 1),
		byID:   map[KeyID]*dataKey{},
		blinds: map[slot]*[keySize]byte{},
	}
	r.roots.Store(&rootSet{c.Root, c.Former})
	r.active.Store(&map[slot]*dataKey{})
	r.blind.Store(&map[blindSlot]*blindKey{})
	if err := tryRoot(ctx, c.Root); err != nil {
		return nil, fmt.Errorf("open key ring: %w", err)
	}
	r.seen = RootState{ID: c.Root.ID(), Seen: c.Now()}
	return r, nil
}

// String names the ring's root and nothing else, whatever verb it is printed with.
func (r *Ring) String() string { return "key ring under root " + r.roots.Load().current.ID() }

// GoString is String: %#v shows no key either.
func (r *Ring) GoString() string { return r.String() }

// Close wipes the raw keys and lets go of the ciphers. Whatever is asked of the ring afterwards gets ErrClosed.
func (r *Ring) Close() {
	if r.closed.Swap(true) {
		return
	}
	r.miss <- struct{}{}
	defer func() { <-r.miss }()
	r.active.Store(&map[slot]*dataKey{})
	r.blind.Store(&map[blindSlot]*blindKey{})
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.blinds {
		clear(k[:])
	}
	clear(r.blinds)
	clear(r.byID)
}

// Seal seals plaintext for its place, under the organisation's key for this purpose and the period that at lies in (a lasting
// purpose has one key for all time). The result is Overhead bytes longer. The first seal of a slot makes its key, which is on
// stable storage before it is used.
func (r *Ring) Seal(ctx context.Context, purpose Purpose, p Place, at time.Time, plaintext []byte) ([]byte, error) {
	s := slot{p.Org, purpose, PeriodOf(at)}
	if purpose.Lasting() {
		s.period = Lasting
	}
	if r.shut.Load() {
		return nil, fmt.Errorf("seal for table %d, column %d: %w", p.Table, p.Column, ErrRootAway)
	}
	k, err := r.sealing(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("seal for table %d, column %d: %w", p.Table, p.Column, err)
	}
	// One allocation: the associated data stand behind the result, where the caller cannot see them.
	n := Overhead + len(plaintext)
	buf := make([]byte, n+aadSize)
	aad := buf[n:]
	putAAD(aad, p, &k.id)
	buf[0] = version
	copy(buf[1:], k.id[:])
	k.aead.Seal(buf[:header], nil, plaintext, aad)
	return buf[:n:n], nil
}

// Open opens what was sealed for this place. ErrOpen: it is not what was sealed here. ErrKeyMissing: its key is gone.
func (r *Ring) Open(ctx context.Context, p Place, sealed []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != version {
		return nil, fmt.Errorf("open table %d, column %d: %w", p.Table, p.Column, ErrOpen)
	}
	id := KeyID(sealed[1:header])
	if id.Org() != p.Org {
		return nil, fmt.Errorf("open table %d, column %d: %w", p.Table, p.Column, ErrOpen)
	}
	if r.shut.Load() {
		return nil, fmt.Errorf("open table %d, column %d: %w", p.Table, p.Column, ErrRootAway)
	}
	k, err := r.opening(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("open table %d, column %d: %w", p.Table, p.Column, err)
	}
	n := len(sealed) - Overhead
	buf := make([]byte, n+aadSize)
	aad := buf[n:]
	putAAD(aad, p, &id)
	out, err := k.aead.Open(buf[:0:n], nil, sealed[header:], aad)
	if err != nil {
		return nil, fmt.Errorf("open table %d, column %d: %w", p.Table, p.Column, ErrOpen)
	}
	return out[:n:n], nil
}

// KeyOf tells which key a sealed value needs, for disposal and for error reports. false: it is no sealed value.
func KeyOf(sealed []byte) (KeyID, bool) {
	if len(sealed) < Overhead || sealed[0] != version {
		return KeyID{}, false
	}
	return KeyID(sealed[1:header]), true
}

// putAAD writes the associated data: fixed widths, big endian, so that no two places write alike.
func putAAD(b []byte, p Place, id *KeyID) {
	b[0] = version
	binary.BigEndian.PutUint16(b[1:], p.Table)
	binary.BigEndian.PutUint16(b[3:], p.Column)
	copy(b[5:], p.Row[:])
	binary.BigEndian.PutUint32(b[21:], p.Org)
	copy(b[25:], id[:])
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(b)
}
