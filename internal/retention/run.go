package retention

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// purposes are those whose keys of a month fall with its content: all that was taken out of messages too.
func purposes() []seal.Purpose {
	return []seal.Purpose{seal.Message, seal.Sensitive, seal.Identifiers, seal.Contact, seal.BlindIndex}
}

// dispose carries out the policy: first what was begun before, then what the plan says. unfinishedOnly leaves it at the first.
func (k *Keeper) dispose(ctx context.Context, who Actor, unfinishedOnly bool) error {
	err := k.c.DB.Commit(ctx, 0, k.take)
	if err != nil {
		return fmt.Errorf("carry out the policy: %w", err)
	}
	defer k.give(context.WithoutCancel(ctx))
	if err := k.closeParts(ctx, who); err != nil {
		return err
	}
	if err := k.shredAgain(ctx, who); err != nil {
		return err
	}
	plan, err := k.plan(ctx, !unfinishedOnly)
	if err != nil {
		return err
	}
	for i := range plan.Months {
		m := &plan.Months[i]
		switch {
		case m.State == Unfinished:
			err = k.finishMonth(ctx, who, m)
		case m.State == Last && (!unfinishedOnly || m.Disposed.IsZero()):
			err = k.dropMetadata(ctx, who, m)
		case unfinishedOnly:
		case m.State == Goes:
			if err = k.beginMonth(ctx, who, m); err == nil {
				err = k.finishMonth(ctx, who, m)
			}
		case m.State == Partly:
			err = k.dropParts(ctx, who, m, plan.At)
		}
		if errors.Is(err, errHoldAdded) || errors.Is(err, errQueuedAgain) {
			k.c.Log.Info("a month waits for the next run", "month", m.Period, "why", err)
			err = nil
		}
		if err != nil {
			return err
		}
	}
	kn, err := k.readKnown(ctx)
	if err != nil {
		return err
	}
	for _, text := range plan.Audit {
		p, err := seal.ParsePeriod(text)
		if err != nil {
			return err
		}
		row, there := kn.rows[classAudit+"/"+text]
		if unfinishedOnly && !there {
			continue
		}
		if err := k.disposeAudit(ctx, who, p, row); err != nil {
			return err
		}
	}
	return nil
}

// give lets another replica go on at once.
func (k *Keeper) give(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := k.c.DB.Commit(ctx, 0, func(tx *db.Tx) error {
		_, err := tx.Exec(giveLease, int64(k.c.Organisation), k.c.Replica)
		return err
	})
	if err != nil && !errors.Is(err, db.ErrStopped) {
		k.c.Log.Warn("the lease on disposal was not given back; it runs out", "error", err)
	}
}

// errQueuedAgain: somebody sent a message of the month again since the plan was made.
var errQueuedAgain = errors.New("a message of the month was queued again meanwhile")

// beginMonth decides a month's end. The transaction makes sure that what the plan found is still so.
func (k *Keeper) beginMonth(ctx context.Context, who Actor, m *Month) error {
	d := &disposal{class: classContent, period: m.period, state: begun, by: who.String(), policy: k.c.Policy.summary(), holds: int64(len(m.holding.list))}
	return k.begin(ctx, who, d, m.holding, m.since, audit.Int("messages", m.Messages), audit.Int("bytes", m.Bytes))
}

func (k *Keeper) begin(ctx context.Context, who Actor, d *disposal, hs *holding, since int64, more ...audit.Detail) error {
	err := k.c.DB.Commit(ctx, 2048, func(tx *db.Tx) error {
		if err := k.keep(tx); err != nil {
			return err
		}
		if hs != nil {
			if err := k.unchanged(tx, hs); err != nil {
				return err
			}
		}
		if d.class == classContent && d.scope == "" {
			if ok, err := k.c.Messages.BeginDisposal(tx, d.period, since); err != nil {
				return err
			} else if !ok {
				return errQueuedAgain
			}
		}
		if err := k.open(tx, d); err != nil {
			return err
		}
		if d.class == classContent && d.scope != "" {
			return nil // nothing that cannot be taken back has happened yet; the certificate tells what was deleted
		}
		_, err := k.c.Audit.Append(tx, who.entry(k.c.Organisation, audit.Entry{Event: audit.DisposalBegun, Action: audit.Delete,
			Result: audit.Success, ResourceType: "disposal", ResourceID: d.resource(), Details: append(d.details(), more...)}))
		return err
	})
	if err != nil {
		return fmt.Errorf("begin the disposal of %s: %w", d.resource(), err)
	}
	return nil
}

// finishMonth goes the rest of the way from wherever it stands: keys, rows, index, certificate. Each part may be repeated.
func (k *Keeper) finishMonth(ctx context.Context, who Actor, m *Month) error {
	d, err := k.find(ctx, classContent+"/"+m.Period)
	if err != nil {
		return err
	}
	if d == nil { // its keys were destroyed, and no row here says so
		d = &disposal{class: classContent, period: m.period, state: begun, by: who.String(), policy: k.c.Policy.summary(), note: m.note}
		// Whatever waits for delivery cannot be opened any more, so nothing waits in earnest.
		if err := k.begin(ctx, who, d, nil, 1<<62); err != nil {
			return err
		}
	}
	k.step("content of "+m.Period, d.messages, max(m.Messages, d.messages))
	if d.state == begun {
		if err := k.destroy(ctx, d, purposes()...); err != nil {
			return err
		}
	}
	p := newPace(k.c.Now, k.c.Sleep)
	for more := true; more; {
		err := p.batch(ctx, func(limit int) error {
			return k.c.Messages.DropContent(ctx, d.period, d.place, limit, nil, func(tx *db.Tx, next db.ID, goesOn bool, messages, bytes, attempts int64) error {
				if err := k.keep(tx); err != nil {
					return err
				}
				if err := k.move(tx, d, next, messages, bytes, attempts, 0); err != nil {
					return err
				}
				tx.OnCommit(func() {
					d.place, more = next, goesOn
					k.advance(int64(limit))
				})
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	if err := k.dropTokens(ctx, d, false, p); err != nil {
		return err
	}
	_, err = k.certify(ctx, who, d)
	return err
}

// destroy destroys the keys first, and then notes their ids. A crash in between repeats it, and the key store still knows them.
func (k *Keeper) destroy(ctx context.Context, d *disposal, list ...seal.Purpose) error {
	var ids []string
	for _, purpose := range list {
		keys, err := k.c.Keys.Shred(ctx, k.c.Organisation, purpose, d.period)
		if err != nil {
			return fmt.Errorf("destroy the keys of %s: %w", d.resource(), err)
		}
		for _, id := range keys {
			ids = append(ids, id.String())
		}
	}
	d.keys = strings.Join(ids, " ")
	err := k.c.DB.Commit(ctx, len(d.keys), func(tx *db.Tx) error {
		if err := k.keep(tx); err != nil {
			return err
		}
		return one(tx.Exec(destroyedKeys, d.keys, int64(k.c.Organisation), d.class, int64(d.period), d.scope))
	})
	if err != nil {
		return fmt.Errorf("note the destroyed keys of %s: %w", d.resource(), err)
	}
	d.state = keyless
	k.c.Log.Info("destroyed the keys of a month", "disposal", d.resource(), "keys", len(ids))
	return nil
}

func (k *Keeper) dropTokens(ctx context.Context, d *disposal, all bool, p *pace) error {
	n, err := k.c.Messages.DropTokens(ctx, d.period, all, p.wait)
	if err != nil {
		return err
	}
	return k.c.DB.Commit(ctx, 0, func(tx *db.Tx) error {
		return k.move(tx, d, d.place, 0, 0, 0, n)
	})
}

// dropParts deletes what is past its time of a month whose keys stay.
func (k *Keeper) dropParts(ctx context.Context, who Actor, m *Month, now time.Time) error {
	for _, g := range m.Groups {
		if !g.due(now) || g.Content == g.Held {
			continue
		}
		d := &disposal{class: classContent, period: m.period, scope: g.scope(), state: begun, by: who.String(),
			policy: k.c.Policy.summary(), holds: int64(len(m.holding.list))}
		if err := k.begin(ctx, who, d, m.holding, m.since); err != nil {
			return err
		}
		k.step("content of "+m.Period+" from "+g.scope(), 0, m.Messages)
		pick := func(number int64, id db.ID, channel string, rejected bool) bool {
			if channel != g.Channel || rejected != g.Rejected {
				return false
			}
			_, held := m.holding.on(number, id, channel)
			return !held
		}
		p := newPace(k.c.Now, k.c.Sleep)
		for more := true; more; {
			err := p.batch(ctx, func(limit int) error {
				return k.c.Messages.DropContent(ctx, d.period, d.place, limit, pick, func(tx *db.Tx, next db.ID, goesOn bool, messages, bytes, attempts int64) error {
					if err := k.keep(tx); err != nil {
						return err
					}
					if err := k.unchanged(tx, m.holding); err != nil {
						return err
					}
					if err := k.move(tx, d, next, messages, bytes, attempts, 0); err != nil {
						return err
					}
					tx.OnCommit(func() {
						d.place, more = next, goesOn
						k.advance(int64(limit))
					})
					return nil
				})
			})
			if err != nil {
				if errors.Is(err, errHoldAdded) { // what went until then is certified; the rest is looked at anew
					if _, err := k.certify(ctx, who, d); err != nil {
						return err
					}
				}
				return err
			}
		}
		if _, err := k.certify(ctx, who, d); err != nil {
			return err
		}
	}
	return nil
}

// closeParts certifies what a crash interrupted between a channel's batches. What was left is found by the plan.
func (k *Keeper) closeParts(ctx context.Context, who Actor) error {
	kn, err := k.readKnown(ctx)
	if err != nil {
		return err
	}
	for _, d := range kn.rows {
		if d.scope == "" || d.state == finished {
			continue
		}
		if _, err := k.certify(ctx, who, &d); err != nil {
			return err
		}
	}
	return nil
}

// shredAgain destroys keys of finished months that came back with an older copy of the key store, and certifies that.
func (k *Keeper) shredAgain(ctx context.Context, who Actor) error {
	kn, err := k.readKnown(ctx)
	if err != nil {
		return err
	}
	for _, d := range kn.rows {
		if _, gone := kn.keys[seal.Message.String()+"/"+d.period.String()]; gone || d.class != classContent || d.scope != "" || d.state != finished {
			continue
		}
		d.state, d.by, d.note = begun, who.String(), "the keys came back with an older copy of the key store, and were destroyed again"
		if err := k.begin(ctx, who, &d, nil, 1<<62); err != nil {
			return err
		}
		k.c.Log.Warn("keys that were destroyed are in the key store again; they are destroyed again", "month", d.period)
	}
	return nil
}

// dropMetadata deletes what is left of a month: that there were these messages, and their ways. The audit log's entries stay.
func (k *Keeper) dropMetadata(ctx context.Context, who Actor, m *Month) error {
	d, err := k.find(ctx, classMetadata+"/"+m.Period)
	if err != nil {
		return err
	}
	if d == nil {
		hs, err := k.holdsOn(ctx, m.period)
		if err != nil {
			return err
		}
		if len(hs.list) > 0 {
			return errHoldAdded
		}
		d = &disposal{class: classMetadata, period: m.period, state: begun, by: who.String(), policy: k.c.Policy.summary()}
		if err := k.begin(ctx, who, d, hs, 0); err != nil {
			return err
		}
	}
	k.step("metadata of "+m.Period, d.messages, max(m.Messages, d.messages))
	p := newPace(k.c.Now, k.c.Sleep)
	for more := true; more; {
		err := p.batch(ctx, func(limit int) error {
			return k.c.Messages.DropMetadata(ctx, d.period, limit, func(tx *db.Tx, goesOn bool, messages, deliveries int64) error {
				if err := k.keep(tx); err != nil {
					return err
				}
				if err := k.move(tx, d, db.ID{}, messages, 0, deliveries, 0); err != nil {
					return err
				}
				tx.OnCommit(func() {
					more = goesOn
					k.advance(messages)
				})
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	if err := k.dropTokens(ctx, d, true, p); err != nil {
		return err
	}
	_, err = k.certify(ctx, who, d)
	return err
}

// disposeAudit ends the sealed details of a month of the audit log. Its entries stay, and with them what they count.
func (k *Keeper) disposeAudit(ctx context.Context, who Actor, period seal.Period, d disposal) error {
	if d.state == 0 {
		hs, err := k.holdsOn(ctx, period)
		if err != nil {
			return err
		}
		if len(hs.list) > 0 {
			return nil
		}
		d = disposal{class: classAudit, period: period, state: begun, by: who.String(), policy: k.c.Policy.summary()}
		if err := k.begin(ctx, who, &d, hs, 0); err != nil {
			if errors.Is(err, errHoldAdded) {
				return nil
			}
			return err
		}
	}
	k.step("audit details of "+period.String(), 0, 0)
	if d.state == begun {
		if err := k.destroy(ctx, &d, seal.AuditDetail); err != nil {
			return err
		}
	}
	p := newPace(k.c.Now, k.c.Sleep)
	for from := int64(0); from >= 0; {
		err := p.batch(ctx, func(limit int) error {
			return k.c.DB.Commit(ctx, 64*limit, func(tx *db.Tx) error {
				if err := k.keep(tx); err != nil {
					return err
				}
				n, next, err := k.c.Audit.DropPrivate(tx, k.c.Organisation, period, from, limit)
				if err != nil {
					return err
				}
				tx.OnCommit(func() { from = next })
				return k.move(tx, &d, db.ID{}, 0, 0, n, 0)
			})
		})
		if err != nil {
			return err
		}
	}
	_, err := k.certify(ctx, who, &d)
	return err
}

// find reads one disposal that is not finished; nil: there is none.
func (k *Keeper) find(ctx context.Context, resource string) (*disposal, error) {
	kn, err := k.readKnown(ctx)
	if err != nil {
		return nil, err
	}
	if d, ok := kn.rows[resource]; ok && d.state != finished {
		return &d, nil
	}
	return nil, nil
}

func (k *Keeper) step(what string, done, total int64) {
	k.note(func(p *Progress) { p.Step, p.Done, p.Total = what, done, total })
}

func (k *Keeper) advance(n int64) {
	k.note(func(p *Progress) {
		p.Done += n
		if p.Total > 0 {
			p.Done = min(p.Done, p.Total)
		}
	})
}
