package faults

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// A Receiver keeps a ledger of what it took, by control ID in the order of arrival. Its methods may be called from any goroutine.
type Receiver struct {
	mu      sync.Mutex
	ledger  []string
	first   map[string][sha256.Size]byte // of the bytes of each message as they first came
	changed []string                     // messages that came again with other bytes
	came    chan struct{}
}

// NewReceiver makes a receiver with an empty ledger.
func NewReceiver() *Receiver {
	return &Receiver{came: make(chan struct{}, 1), first: map[string][sha256.Size]byte{}}
}

// Take writes a message into the ledger.
func (r *Receiver) Take(block []byte) {
	id := ""
	if m, err := hl7.Parse(block); err == nil {
		id = m.ControlID()
	}
	sum := sha256.Sum256(block)
	r.mu.Lock()
	if was, again := r.first[id]; !again {
		r.first[id] = sum
	} else if was != sum {
		r.changed = append(r.changed, id)
	}
	r.ledger = append(r.ledger, id)
	r.mu.Unlock()
	select {
	case r.came <- struct{}{}:
	default:
	}
}

// Send takes everything: a Receiver can stand as an engine's Sender.
func (r *Receiver) Send(_ context.Context, block []byte) (engine.Reply, error) {
	r.Take(block)
	return engine.Reply{Taken: true, Code: "AA"}, nil
}

// Close does nothing.
func (r *Receiver) Close() error { return nil }

// Ledger is what came so far.
func (r *Receiver) Ledger() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ledger)
}

// Wait waits until so many different messages have come.
func (r *Receiver) Wait(t testing.TB, n int) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		different := map[string]bool{}
		for _, id := range r.Ledger() {
			different[id] = true
		}
		if len(different) >= n {
			return
		}
		select {
		case <-r.came:
		case <-deadline:
			t.Fatalf("the receiver has %d different messages, want %d", len(different), n)
		}
	}
}

// A Stored is what a database says about one delivery.
type Stored struct {
	ControlID string
	Marked    bool // as a possible duplicate
}

// MustBeOnceInOrder compares the ledger with the deliveries in the order of acceptance: each came, in that order, and only what
// is marked came again, with the bytes of the first time.
func (r *Receiver) MustBeOnceInOrder(t testing.TB, stored []Stored) {
	t.Helper()
	r.mu.Lock()
	for _, id := range r.changed {
		t.Errorf("message %s came again with other bytes", id)
	}
	r.mu.Unlock()
	place, marked := map[string]int{}, map[string]bool{}
	for i, s := range stored {
		place[s.ControlID], marked[s.ControlID] = i, s.Marked
	}
	times := map[string]int{}
	last := -1
	for _, id := range r.Ledger() {
		at, known := place[id]
		if !known {
			t.Errorf("the receiver got message %q, which is not stored", id)
			continue
		}
		if times[id]++; times[id] > 1 {
			continue
		}
		if at < last {
			t.Errorf("message %s came after one that was accepted later", id)
		}
		last = max(last, at)
	}
	for _, s := range stored {
		switch n := times[s.ControlID]; {
		case n == 0:
			t.Errorf("message %s never came", s.ControlID)
		case n > 1 && !s.Marked:
			t.Errorf("message %s came %d times and is not marked", s.ControlID, n)
		}
	}
}

// Only is a receiver with those entries of the ledger whose control ID fits.
func (r *Receiver) Only(fits func(id string) bool) *Receiver {
	some := NewReceiver()
	for _, id := range r.Ledger() {
		if fits(id) {
			some.ledger = append(some.ledger, id)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.changed {
		if fits(id) {
			some.changed = append(some.changed, id)
		}
	}
	return some
}

// Repeats is how many entries of the ledger name a message that had come before.
func (r *Receiver) Repeats() int {
	different := map[string]bool{}
	list := r.Ledger()
	for _, id := range list {
		different[id] = true
	}
	return len(list) - len(different)
}
