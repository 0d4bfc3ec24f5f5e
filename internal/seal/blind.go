package seal

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"maps"
	"sync"
)

// BlindSize is the length of a blind value: HMAC-SHA-256 cut to 128 bits (FIPS 198-1, SP 800-107 section 5.3.3). An index may keep fewer.
const BlindSize = 16

type blindSlot struct {
	org    uint32
	field  uint16
	period Period
}

// A blindKey hands out keyed hashes; each is used by one goroutine at a time and put back.
type blindKey struct{ macs sync.Pool }

// Blind turns a normalised value into the one that is stored and searched for in its place, for an organisation, a field (from
// the list in codes.go) and a period (PeriodOf, or Lasting). It is for whoever writes: the period's key is made where there is
// none. Whoever looks for a value uses Seek.
func (r *Ring) Blind(ctx context.Context, org uint32, field uint16, period Period, normalised []byte) ([BlindSize]byte, error) {
	if r.shut.Load() {
		return [BlindSize]byte{}, fmt.Errorf("blind field %d: %w", field, ErrRootAway)
	}
	k := (*r.blind.Load())[blindSlot{org, field, period}]
	if k == nil {
		var err error
		if k, err = r.blindKey(ctx, blindSlot{org, field, period}, true); err != nil {
			return [BlindSize]byte{}, fmt.Errorf("blind field %d: %w", field, err)
		}
	}
	return k.sum(normalised), nil
}

// Seek is Blind for whoever searches: it makes no key. ErrKeyMissing: nothing was ever stored in this period, or it was disposed
// of; there is nothing to find.
func (r *Ring) Seek(ctx context.Context, org uint32, field uint16, period Period, normalised []byte) ([BlindSize]byte, error) {
	if r.shut.Load() {
		return [BlindSize]byte{}, fmt.Errorf("blind field %d: %w", field, ErrRootAway)
	}
	k := (*r.blind.Load())[blindSlot{org, field, period}]
	if k == nil {
		var err error
		if k, err = r.blindKey(ctx, blindSlot{org, field, period}, false); err != nil {
			return [BlindSize]byte{}, fmt.Errorf("blind field %d: %w", field, err)
		}
	}
	return k.sum(normalised), nil
}

func (k *blindKey) sum(v []byte) (out [BlindSize]byte) {
	m := k.macs.Get().(*blindMAC)
	m.h.Reset()
	m.h.Write(v)
	m.buf = m.h.Sum(m.buf[:0])
	copy(out[:], m.buf)
	k.macs.Put(m)
	return out
}

type blindMAC struct {
	h   hash.Hash
	buf []byte
}

// blindKey derives a field's key from the blind key of organisation and period.
func (r *Ring) blindKey(ctx context.Context, b blindSlot, create bool) (*blindKey, error) {
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	defer r.unlock()
	if k := (*r.blind.Load())[b]; k != nil {
		return k, nil
	}
	root, err := r.blindRoot(ctx, slot{b.org, BlindIndex, b.period}, create)
	if err != nil {
		return nil, err
	}
	info := binary.BigEndian.AppendUint16([]byte("lazaret blind v1 "), b.field)
	info = binary.BigEndian.AppendUint32(info, b.org)
	info = binary.BigEndian.AppendUint16(info, uint16(b.period))
	key, err := hkdf.Key(sha256.New, root[:], nil, string(info), keySize)
	if err != nil {
		return nil, fmt.Errorf("derive: %w", err)
	}
	k := &blindKey{macs: sync.Pool{New: func() any { return &blindMAC{h: hmac.New(sha256.New, key)} }}}
	next := maps.Clone(*r.blind.Load())
	next[b] = k
	r.blind.Store(&next)
	return k, nil
}

// blindRoot fetches the one blind key of organisation and period. It has a fixed id, so that of two replicas that make it at
// once, one is told that it exists and takes the other's. The caller holds the lock.
func (r *Ring) blindRoot(ctx context.Context, s slot, create bool) (*[keySize]byte, error) {
	if k := r.blinds[s]; k != nil {
		return k, nil
	}
	id := makeID(s, [9]byte{})
	for range 2 {
		w, err := r.store.Get(ctx, id)
		var raw []byte
		switch {
		case err == nil:
			raw, err = r.unwrap(ctx, w)
		case errors.Is(err, ErrKeyMissing) && create:
			raw, err = r.draw(ctx, id)
			if errors.Is(err, ErrKeyExists) {
				continue
			}
		default:
			err = fmt.Errorf("key %s: %w", id, err)
		}
		if err != nil {
			return nil, err
		}
		k := (*[keySize]byte)(raw)
		r.mu.Lock()
		r.blinds[s] = k
		r.mu.Unlock()
		return k, nil
	}
	return nil, fmt.Errorf("key %s: is in the store and is not: %w", id, ErrKeyDamaged)
}
