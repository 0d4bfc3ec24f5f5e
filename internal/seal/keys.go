package seal

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"time"
)

// sealing gives the key that a slot seals with, one seal of it counted.
func (r *Ring) sealing(ctx context.Context, s slot) (*dataKey, error) {
	if k := (*r.active.Load())[s]; k != nil && k.take() {
		return k, nil
	}
	if !s.purpose.seals() {
		return nil, fmt.Errorf("%s is no purpose to seal for", s.purpose)
	}
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	defer r.unlock()
	k := (*r.active.Load())[s]
	if k != nil && k.take() {
		return k, nil // somebody was here first
	}
	if k == nil {
		var err error
		if k, err = r.newest(ctx, s); err != nil {
			return nil, err
		}
	}
	for {
		if k != nil {
			ok, err := r.reserve(ctx, k)
			if err != nil {
				return nil, err
			}
			if ok {
				break
			}
		}
		var err error
		if k, err = r.fresh(ctx, s); err != nil {
			return nil, err
		}
	}
	next := maps.Clone(*r.active.Load())
	next[s] = k
	r.active.Store(&next)
	return k, nil
}

// take counts one seal. false: what was reserved is used up.
func (k *dataKey) take() bool {
	for {
		n := k.used.Load()
		if n >= k.reserved.Load() {
			return false
		}
		if k.used.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// reserve counts a block of seals in the store, ahead of their use, so that a crash can only waste some and never repeat any,
// and takes the first for the caller. false: the key is spent. The caller holds the lock.
func (r *Ring) reserve(ctx context.Context, k *dataKey) (bool, error) {
	from, n, err := r.store.Reserve(ctx, k.id, r.block, r.limit)
	if err != nil {
		return false, fmt.Errorf("count seals of key %s: %w", k.id, err)
	}
	if n == 0 {
		return false, nil
	}
	// The number from is the caller's own. used goes first: until reserved follows, a take sees it beyond reserved and comes to
	// wait for the lock.
	k.used.Store(from + 1)
	k.reserved.Store(from + n)
	return true, nil
}

// newest finds the youngest key of a slot in the store, or nil. The caller holds the lock.
func (r *Ring) newest(ctx context.Context, s slot) (*dataKey, error) {
	ids, err := r.store.List(ctx, s.org, s.purpose)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	var last Wrapped
	for _, id := range ids {
		if id.Period() != s.period {
			continue
		}
		w, err := r.store.Get(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", id, err)
		}
		if last.Key == nil || w.Created.After(last.Created) {
			last = w
		}
	}
	if last.Key == nil {
		return nil, nil
	}
	return r.load(ctx, last)
}

// opening gives the key with this id, from memory or from the store.
func (r *Ring) opening(ctx context.Context, id KeyID) (*dataKey, error) {
	r.mu.RLock()
	k := r.byID[id]
	r.mu.RUnlock()
	if k != nil {
		return k, nil
	}
	if !id.Purpose().seals() {
		return nil, ErrOpen
	}
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	defer r.unlock()
	w, err := r.store.Get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", id, err)
	}
	return r.load(ctx, w)
}

// load unwraps a data key into memory, unless it is there. The caller holds the lock.
func (r *Ring) load(ctx context.Context, w Wrapped) (*dataKey, error) {
	r.mu.RLock()
	k := r.byID[w.ID]
	r.mu.RUnlock()
	if k != nil {
		return k, nil
	}
	raw, err := r.unwrap(ctx, w)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	return r.keep(w.ID, raw)
}

func (r *Ring) keep(id KeyID, raw []byte) (*dataKey, error) {
	aead, err := newAEAD(raw)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", id, err)
	}
	k := &dataKey{id: id, aead: aead}
	r.mu.Lock()
	r.byID[id] = k
	r.mu.Unlock()
	return k, nil
}

// fresh draws a new data key for a slot; it is in the store before it is used. The caller holds the lock.
func (r *Ring) fresh(ctx context.Context, s slot) (*dataKey, error) {
	var serial [9]byte
	if _, err := io.ReadFull(r.rand, serial[:]); err != nil {
		return nil, fmt.Errorf("draw a key's serial: %w", err)
	}
	raw, err := r.draw(ctx, makeID(s, serial))
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	return r.keep(makeID(s, serial), raw)
}

// draw makes the raw key and puts it into the store, wrapped.
func (r *Ring) draw(ctx context.Context, id KeyID) ([]byte, error) {
	raw := make([]byte, keySize)
	rand.Read(raw) // never fails: crypto/rand ends the program instead
	root := r.roots.Load().current
	w := Wrapped{ID: id, Created: r.now().UTC().Truncate(time.Microsecond), Root: root.ID()}
	var err error
	if w.Key, err = root.Wrap(ctx, raw, w.aad()); err != nil {
		return nil, fmt.Errorf("wrap key %s: %w: root %s: %w", id, ErrRoot, w.Root, err)
	}
	if err := r.store.Put(ctx, w); err != nil {
		return nil, fmt.Errorf("store key %s: %w", id, err)
	}
	r.mu.Lock()
	r.made = append(r.made, id)
	r.mu.Unlock()
	return raw, nil
}

func (r *Ring) unwrap(ctx context.Context, w Wrapped) ([]byte, error) {
	root, err := r.roots.Load().of(w)
	if err != nil {
		return nil, err
	}
	raw, err := root.Unwrap(ctx, w.Key, w.aad())
	if err != nil {
		return nil, fmt.Errorf("key %s: %w: root %s: %w", w.ID, ErrRoot, w.Root, err)
	}
	if len(raw) != keySize {
		clear(raw)
		return nil, fmt.Errorf("key %s: %w", w.ID, ErrKeyDamaged)
	}
	return raw, nil
}

// of finds the root that wrapped a key.
func (s *rootSet) of(w Wrapped) (Root, error) {
	if s.current.ID() == w.Root {
		return s.current, nil
	}
	for _, r := range s.former {
		if r.ID() == w.Root {
			return r, nil
		}
	}
	return nil, fmt.Errorf("key %s: %w: it was wrapped by root %s and this is root %s; name the root key that belongs to the key store, or give the other as a former one",
		w.ID, ErrRoot, w.Root, s.current.ID())
}

// lock waits for its turn to change keys, as long as ctx lasts.
func (r *Ring) lock(ctx context.Context) error {
	select {
	case r.miss <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.closed.Load() {
		<-r.miss
		return ErrClosed
	}
	return nil
}

func (r *Ring) unlock() { <-r.miss }
