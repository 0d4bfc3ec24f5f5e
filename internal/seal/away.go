package seal

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"
)

// A RootState is what is known of the root key's health.
type RootState struct {
	ID   string    `json:"id"`
	Seen time.Time `json:"seen"`           // when it wrapped and unwrapped last
	Away time.Time `json:"away,omitzero"`  // since when it does not; zero: it does
	Shut bool      `json:"shut,omitempty"` // it has been away for longer than the grace: nothing seals or opens
	Why  string    `json:"why,omitempty"`  // the last failure; from the root, so it is for the operator's eyes
}

// RootState tells how the root key is.
func (r *Ring) RootState() RootState {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.seen
}

// Probe asks the root key to wrap and unwrap. While it cannot, the ring goes on with the data keys in memory, and new ones cannot
// be had; when that has lasted for longer than Config.Grace, it shuts: everything gives ErrRootAway until a probe succeeds.
func (r *Ring) Probe(ctx context.Context) error {
	root := r.roots.Load().current
	err := tryRoot(ctx, root)
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.seen = RootState{ID: root.ID(), Seen: now}
		r.shut.Store(false)
		return nil
	}
	if r.seen.Away.IsZero() {
		r.seen.Away = now
	}
	r.seen.Why = err.Error()
	if now.Sub(r.seen.Seen) > r.grace {
		r.seen.Shut = true
		r.shut.Store(true)
	}
	return err
}

func tryRoot(ctx context.Context, root Root) error {
	probe := make([]byte, keySize)
	rand.Read(probe)
	aad := []byte("lazaret root probe")
	w, err := root.Wrap(ctx, probe, aad)
	if err != nil {
		return fmt.Errorf("%w: root %s: %w", ErrRoot, root.ID(), err)
	}
	back, err := root.Unwrap(ctx, w, aad)
	if err != nil {
		return fmt.Errorf("%w: root %s: %w", ErrRoot, root.ID(), err)
	}
	if string(back) != string(probe) {
		return fmt.Errorf("%w: root %s gave back something else than it was given", ErrRoot, root.ID())
	}
	return nil
}
