package seal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// ErrNotOver means that a period goes on: its keys still seal.
var ErrNotOver = errors.New("the period is not over: its keys are destroyed when its month has ended")

// Shred destroys the data keys of an organisation, purpose and period, which must be over. Afterwards nothing of it opens, here
// and in every copy of the data, and Seal and Blind give ErrShredded for it. It may be repeated: what a crash has left is
// finished, and the list is that of all keys that were ever destroyed for it.
//
// Other processes over the same store let go of the keys at their next Refresh.
func (r *Ring) Shred(ctx context.Context, org uint32, purpose Purpose, p Period) (destroyed []KeyID, err error) {
	if p == Lasting {
		return nil, fmt.Errorf("shred %s: lasting keys serve the audit log and the queues, and end with the installation", purpose)
	}
	if p >= PeriodOf(r.now()) {
		return nil, fmt.Errorf("shred %s %s: %w", purpose, p, ErrNotOver)
	}
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	defer r.unlock()
	// First from memory: whatever goes wrong in the store, this process is done with them.
	s := slot{org, purpose, p}
	r.forget(s)
	gone, err := r.store.Destroy(ctx, org, purpose, p, r.now())
	if err != nil {
		return nil, fmt.Errorf("shred %s %s: %w", purpose, p, err)
	}
	return gone.Keys, nil
}

// forget lets go of a slot's keys. The caller holds the lock.
func (r *Ring) forget(s slot) {
	if _, ok := (*r.active.Load())[s]; ok {
		next := maps.Clone(*r.active.Load())
		delete(next, s)
		r.active.Store(&next)
	}
	if s.purpose == BlindIndex {
		next := maps.Clone(*r.blind.Load())
		maps.DeleteFunc(next, func(b blindSlot, _ *blindKey) bool { return b.org == s.org && b.period == s.period })
		r.blind.Store(&next)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.byID, func(id KeyID, _ *dataKey) bool {
		return id.Org() == s.org && id.Purpose() == s.purpose && id.Period() == s.period
	})
	if k := r.blinds[s]; k != nil {
		clear(k[:])
		delete(r.blinds, s)
	}
}

// Refresh lets go of keys that another process has destroyed, and stops sealing with those that it has retired. Whoever shares
// a key store calls it now and then; Keeper does.
func (r *Ring) Refresh(ctx context.Context) error {
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock()
	held := map[slot]bool{}
	r.mu.RLock()
	for id := range r.byID {
		held[slot{id.Org(), id.Purpose(), id.Period()}] = true
	}
	for s := range r.blinds {
		held[s] = true
	}
	r.mu.RUnlock()
	orgs := map[uint32]bool{}
	for s := range held {
		orgs[s.org] = true
	}
	for org := range orgs {
		list, err := r.store.Disposals(ctx, org)
		if err != nil {
			return fmt.Errorf("look for destroyed keys: %w", err)
		}
		for _, g := range list {
			if s := (slot{g.Org, g.Purpose, g.Period}); held[s] {
				r.forget(s)
			}
		}
	}
	active := maps.Clone(*r.active.Load())
	for s, k := range active {
		if _, usable, err := r.store.Count(ctx, k.id); err != nil {
			return fmt.Errorf("look for retired keys: %w", err)
		} else if !usable {
			delete(active, s)
		}
	}
	r.active.Store(&active)
	return nil
}

// A KeyRecord is what is said about a data key. It holds no key.
type KeyRecord struct {
	ID      KeyID     `json:"id"`
	Purpose Purpose   `json:"purpose"`
	Period  Period    `json:"period"`
	Created time.Time `json:"created"`
	Root    string    `json:"root"`              // Root.ID of the root key that wraps it
	Seals   uint64    `json:"seals"`             // counted ahead, in blocks; at most this many were made. 0 for a blind index's key
	Spent   bool      `json:"spent,omitempty"`   // it opens and no longer seals: retired, at its limit, or its count is lost
	Damaged bool      `json:"damaged,omitempty"` // its record cannot be read; Created and Root are not known then
}

// Keys lists an organisation's keys by purpose, period and age.
func (r *Ring) Keys(ctx context.Context, org uint32) (list []KeyRecord, err error) {
	if r.closed.Load() {
		return nil, ErrClosed
	}
	for _, p := range Purposes() {
		ids, err := r.store.List(ctx, org, p)
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		for _, id := range ids {
			k, err := r.record(ctx, id)
			if errors.Is(err, ErrKeyMissing) { // destroyed meanwhile
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("list keys: %w", err)
			}
			list = append(list, k)
		}
	}
	slices.SortFunc(list, func(a, b KeyRecord) int {
		return cmp.Or(cmp.Compare(a.Purpose, b.Purpose), cmp.Compare(a.Period, b.Period), a.Created.Compare(b.Created))
	})
	return list, nil
}

func (r *Ring) record(ctx context.Context, id KeyID) (KeyRecord, error) {
	k := KeyRecord{ID: id, Purpose: id.Purpose(), Period: id.Period()}
	w, err := r.store.Get(ctx, id)
	if errors.Is(err, ErrKeyDamaged) {
		k.Damaged = true
		return k, nil
	}
	if err != nil {
		return k, err
	}
	k.Created, k.Root = w.Created, w.Root
	if id.Purpose().seals() {
		n, usable, err := r.store.Count(ctx, id)
		if err != nil {
			return k, err
		}
		k.Seals, k.Spent = n, !usable || n >= r.limit
	}
	return k, nil
}

// Disposals tells what was destroyed for an organisation.
func (r *Ring) Disposals(ctx context.Context, org uint32) ([]Disposal, error) {
	return r.store.Disposals(ctx, org)
}

// Organisations names those that the key store has keys of, or had.
func (r *Ring) Organisations(ctx context.Context) ([]uint32, error) {
	return r.store.Organisations(ctx)
}
