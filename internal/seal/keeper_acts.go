package seal

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Status is all that is said about keys.
type Status struct {
	Root      RootState         `json:"root"`
	Recovery  Recovery          `json:"recovery"`
	Recovered bool              `json:"recovery_confirmed"`
	Local     bool              `json:"recovery_needed"` // the root key is in our hands, so that a recovery copy is our matter
	Keys      []KeyRecord       `json:"keys"`
	Disposals []Disposal        `json:"disposals"`
	Work      Work              `json:"work"`
	Host      map[string]string `json:"host,omitempty"` // what the program says of its process: locked memory, core dumps, FIPS
}

// Status tells what there is.
func (k *Keeper) Status(ctx context.Context) (s Status, err error) {
	s = Status{Root: k.c.Ring.RootState(), Work: k.Work(), Keys: []KeyRecord{}, Disposals: []Disposal{}}
	if s.Recovery, err = ReadRecovery(k.c.Dir); err != nil {
		return s, err
	}
	s.Local = IsLocal(s.Root.ID)
	s.Recovered = s.Recovery.Covers(s.Root.ID)
	orgs, err := k.c.Ring.Organisations(ctx)
	if err != nil {
		return s, err
	}
	for _, org := range orgs {
		keys, err := k.c.Ring.Keys(ctx, org)
		if err != nil {
			return s, err
		}
		gone, err := k.c.Ring.Disposals(ctx, org)
		if err != nil {
			return s, err
		}
		s.Keys, s.Disposals = append(s.Keys, keys...), append(s.Disposals, gone...)
	}
	return s, nil
}

// Check asks the root key to wrap and unwrap, now.
func (k *Keeper) Check(ctx context.Context, who Actor) error {
	err := k.c.Ring.Probe(ctx)
	if rec := k.c.Record.RecordKeyAct(ctx, who, Act{What: ActChecked, Root: k.c.Ring.RootState().ID, Failed: err != nil}); rec != nil {
		return errors.Join(err, rec)
	}
	return err
}

// RotateRoot begins to put all data keys under a new root key. Work tells how far it is.
func (k *Keeper) RotateRoot(_ context.Context, who Actor) error {
	return k.start(job{who, ActRotated, false})
}

// Renew retires the data keys of all organisations, so that fresh ones seal from now on. With reseal, old records are sealed anew
// under them, in the background.
func (k *Keeper) Renew(ctx context.Context, who Actor, reseal bool) (retired int, err error) {
	if k.Work().Busy() {
		return 0, fmt.Errorf("%w: %s", ErrBusy, k.Work().What)
	}
	orgs, err := k.c.Ring.Organisations(ctx)
	if err != nil {
		return 0, err
	}
	for _, org := range orgs {
		ids, err := k.c.Ring.Renew(ctx, org)
		a := Act{What: ActRenewed, Org: org, Keys: ids, Count: int64(len(ids)), Failed: err != nil}
		if err := errors.Join(err, k.c.Record.RecordKeyAct(ctx, who, a)); err != nil {
			return retired, err
		}
		retired += len(ids)
	}
	if reseal {
		err = k.start(job{who, ActResealed, false})
	}
	return retired, err
}

// Shred destroys an organisation's keys of a purpose and a month that is over. It is on record before, and after with the names of
// the keys: the certificate.
func (k *Keeper) Shred(ctx context.Context, who Actor, org uint32, p Purpose, period Period) ([]KeyID, error) {
	if period == Lasting || period >= PeriodOf(k.c.Now()) {
		return nil, fmt.Errorf("shred %s %s: %w", p, period, ErrNotOver)
	}
	a := Act{What: ActShredding, Org: org, Purpose: p, Period: period}
	if err := k.c.Record.RecordKeyAct(ctx, who, a); err != nil {
		return nil, fmt.Errorf("nothing was destroyed, for it cannot be put on record: %w", err)
	}
	ids, err := k.c.Ring.Shred(ctx, org, p, period)
	a.What, a.Keys, a.Count, a.Failed = ActShredded, ids, int64(len(ids)), err != nil
	return ids, errors.Join(err, k.c.Record.RecordKeyAct(context.WithoutCancel(ctx), who, a))
}

// A Copy is a recovery copy as it is handed out, once.
type Copy struct {
	Shares []string `json:"shares,omitempty"`
	Age    string   `json:"age,omitempty"`
}

func (k *Keeper) rootNow() Root {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.root
}

// Copy makes a recovery copy of the root key: to age recipients where there are some, else n shares of which needed suffice. It
// counts when it was tried (Confirm).
func (k *Keeper) Copy(ctx context.Context, who Actor, needed, n int, recipients []string) (c Copy, err error) {
	root := k.rootNow()
	r := Recovery{Root: root.ID(), Made: k.c.Now().UTC().Truncate(time.Second)}
	if len(recipients) > 0 {
		var text []byte
		text, err = EncryptRoot(root, recipients)
		c.Age, r.How = string(text), "age"
	} else {
		c.Shares, err = SplitRoot(root, needed, n)
		r.How, r.Needed, r.Shares = "shares", needed, n
	}
	if err != nil {
		return Copy{}, err
	}
	if err := k.c.Record.RecordKeyAct(ctx, who, Act{What: ActCopied, Root: r.Root, Note: r.How}); err != nil {
		return Copy{}, err
	}
	return c, WriteRecovery(k.c.Dir, r)
}

// ErrOtherRoot means that a recovery copy is whole, and gives another root key than the one in use.
var ErrOtherRoot = errors.New("the copy is whole, but it is of another root key than the one in use")

// Confirm tries a recovery copy: the id of the root key that it gave, which the caller has brought back from it.
func (k *Keeper) Confirm(ctx context.Context, who Actor, given string) error {
	root := k.rootNow().ID()
	r, err := ReadRecovery(k.c.Dir)
	if err != nil {
		return err
	}
	if given != root {
		return errors.Join(ErrOtherRoot, k.c.Record.RecordKeyAct(ctx, who, Act{What: ActConfirmed, Root: root, Failed: true}))
	}
	if r.Root != root { // made elsewhere, or of before: it is one all the same
		r = Recovery{Root: root, How: "other", Made: k.c.Now().UTC().Truncate(time.Second)}
	}
	r.Confirmed = k.c.Now().UTC().Truncate(time.Second)
	if err := k.c.Record.RecordKeyAct(ctx, who, Act{What: ActConfirmed, Root: root, Note: r.How}); err != nil {
		return err
	}
	return WriteRecovery(k.c.Dir, r)
}
