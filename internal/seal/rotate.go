package seal

import (
	"context"
	"errors"
	"fmt"
	"maps"
)

// ChangeRoot makes another root key the one that wraps. The present one goes on unwrapping until DropFormer. Nothing is wrapped
// anew yet: Rewrap does that.
func (r *Ring) ChangeRoot(ctx context.Context, next Root) error {
	if err := tryRoot(ctx, next); err != nil {
		return fmt.Errorf("change root key: %w", err)
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock()
	was := r.roots.Load()
	if was.current.ID() == next.ID() {
		return nil
	}
	former := append([]Root{was.current}, was.former...)
	r.roots.Store(&rootSet{next, former})
	r.mu.Lock()
	r.seen = RootState{ID: next.ID(), Seen: r.now()}
	r.mu.Unlock()
	return nil
}

// DropFormer lets go of the roots that only unwrap. It refuses while a data key is still under one of them.
func (r *Ring) DropFormer(ctx context.Context) error {
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock()
	set := r.roots.Load()
	n, err := r.each(ctx, func(_, _ int, w Wrapped) error {
		if w.Root != set.current.ID() {
			return fmt.Errorf("key %s is still under root %s", w.ID, w.Root)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("drop former root keys: of %d keys looked at, %w", n, err)
	}
	r.roots.Store(&rootSet{set.current, nil})
	return nil
}

// Rewrap puts every data key that is under another root, and with renew also those under an older version of the present one,
// under the root of now. Each key's record is replaced whole, so that a crash leaves every key readable under the one or the
// other; whoever calls it again goes on where it ended. progress, where given, hears of each key. Records that are damaged or
// under a root that is not at hand are passed over, and named in the error at the end.
func (r *Ring) Rewrap(ctx context.Context, renew bool, progress func(done, total int)) (rewrapped int, err error) {
	var failed []error
	_, err = r.each(ctx, func(done, total int, w Wrapped) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		ok, err := r.rewrapOne(ctx, w, renew)
		switch {
		case errors.Is(err, ErrKeyMissing): // shredded meanwhile
		case err != nil:
			if failed = append(failed, err); len(failed) >= 10 {
				return errors.New("too many keys failed")
			}
		case ok:
			rewrapped++
		}
		if progress != nil {
			progress(done, total)
		}
		return nil
	})
	if err = errors.Join(append(failed, err)...); err != nil {
		return rewrapped, fmt.Errorf("wrap keys anew: %w", err)
	}
	return rewrapped, nil
}

func (r *Ring) rewrapOne(ctx context.Context, w Wrapped, renew bool) (bool, error) {
	set := r.roots.Load()
	same := w.Root == set.current.ID()
	if same && !renew {
		return false, nil
	}
	if in, ok := set.current.(Rewrapper); ok && same {
		key, err := in.Rewrap(ctx, w.Key, w.aad())
		if err != nil {
			return false, fmt.Errorf("key %s: %w: root %s: %w", w.ID, ErrRoot, w.Root, err)
		}
		w.Key = key
		return true, r.store.Replace(ctx, w)
	}
	raw, err := r.unwrap(ctx, w)
	if err != nil {
		return false, err
	}
	defer clear(raw)
	w.Root = set.current.ID()
	if w.Key, err = set.current.Wrap(ctx, raw, w.aad()); err != nil {
		return false, fmt.Errorf("key %s: %w: root %s: %w", w.ID, ErrRoot, w.Root, err)
	}
	return true, r.store.Replace(ctx, w)
}

// each calls f with every key's record. done counts from 1.
func (r *Ring) each(ctx context.Context, f func(done, total int, w Wrapped) error) (n int, err error) {
	orgs, err := r.store.Organisations(ctx)
	if err != nil {
		return 0, err
	}
	var ids []KeyID
	for _, org := range orgs {
		for _, p := range Purposes() {
			some, err := r.store.List(ctx, org, p)
			if err != nil {
				return 0, err
			}
			ids = append(ids, some...)
		}
	}
	for i, id := range ids {
		w, err := r.store.Get(ctx, id)
		switch {
		case errors.Is(err, ErrKeyMissing):
			continue
		case err != nil:
			return n, fmt.Errorf("key %s: %w", id, err)
		}
		if err := f(i+1, len(ids), w); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Renew retires every key of an organisation that seals, so that the next seal of each slot makes a fresh one. What was sealed
// goes on opening under the retired keys. Blind indexes keep theirs: nothing could be found again.
func (r *Ring) Renew(ctx context.Context, org uint32) (retired []KeyID, err error) {
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	defer r.unlock()
	for _, p := range Purposes() {
		if !p.seals() {
			continue
		}
		ids, err := r.store.List(ctx, org, p)
		if err != nil {
			return retired, fmt.Errorf("renew keys: %w", err)
		}
		for _, id := range ids {
			if _, usable, err := r.store.Count(ctx, id); err != nil {
				return retired, fmt.Errorf("renew key %s: %w", id, err)
			} else if !usable {
				continue
			}
			if err := r.store.Retire(ctx, id); err != nil {
				return retired, fmt.Errorf("retire key %s: %w", id, err)
			}
			retired = append(retired, id)
		}
	}
	next := maps.Clone(*r.active.Load())
	maps.DeleteFunc(next, func(s slot, _ *dataKey) bool { return s.org == org })
	r.active.Store(&next)
	return retired, nil
}

// Reseal seals a value anew, in the same place, under the key that its slot seals with now. again is nil where it lies under that
// already. ErrKeyMissing, ErrShredded: its key is gone.
func (r *Ring) Reseal(ctx context.Context, p Place, sealed []byte) (again []byte, err error) {
	id, ok := KeyOf(sealed)
	if !ok || !id.Purpose().seals() {
		return nil, fmt.Errorf("seal anew table %d, column %d: %w", p.Table, p.Column, ErrOpen)
	}
	s := slot{id.Org(), id.Purpose(), id.Period()}
	if k := (*r.active.Load())[s]; k != nil && k.id == id {
		return nil, nil
	}
	_, usable, err := r.store.Count(ctx, id)
	if err != nil || usable {
		return nil, err
	}
	plain, err := r.Open(ctx, p, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return r.Seal(ctx, s.purpose, p, s.period.Start(), plain)
}

// TakeMade gives the keys that were made since it was called last, for the record.
func (r *Ring) TakeMade() []KeyID {
	r.mu.Lock()
	defer r.mu.Unlock()
	made := r.made
	r.made = nil
	return made
}
