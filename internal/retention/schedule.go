package retention

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
)

// What keeps the schedule from destroying by mistake.
const (
	notice   = 24 * time.Hour      // a new policy is announced, and carried out the day after at the earliest
	longest  = 35 * 24 * time.Hour // after a longer break a person has to start it: the clock may have jumped
	again    = 5 * time.Minute     // what was begun and interrupted goes on after this; a dead replica's lease has run out then
	backward = time.Hour           // a clock that went back by more waits for a person too
)

// ErrWaits means that the schedule does nothing until a person has looked.
var ErrWaits = errors.New("the schedule waits for a person")

func (p *Policy) digest() string {
	sum := sha256.Sum256([]byte(p.text()))
	return hex.EncodeToString(sum[:])
}

// Run finishes what was begun before, carries out the policy once a day and whenever Start asks, until ctx ends. It returns an
// error only when the database takes no more writes.
func (k *Keeper) Run(ctx context.Context) error {
	system := Actor{Program: "retention schedule"}
	err := k.work(ctx, system, func() error {
		if err := k.announce(ctx); err != nil {
			return err
		}
		return k.unfinished(ctx, system)
	})
	if err != nil {
		return err
	}
	for {
		wait, goOn := k.untilNext(k.c.Now()), false
		if k.Progress().Error != "" && wait > again {
			wait, goOn = again, true
		}
		timer := time.NewTimer(wait)
		var err error
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case who := <-k.asked:
			err = k.work(ctx, who, func() error { return k.carryOut(ctx, who) })
		case <-timer.C:
			err = k.work(ctx, system, func() error {
				if goOn {
					return k.unfinished(ctx, system)
				}
				return k.scheduled(ctx, system)
			})
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

// unfinished goes on with what was decided. Where nothing is, it is not even a run.
func (k *Keeper) unfinished(ctx context.Context, who Actor) error {
	kn, err := k.readKnown(ctx)
	if err != nil {
		return err
	}
	open := len(kn.keys) > 0
	for _, d := range kn.rows {
		open = open || d.state != finished
	}
	if !open {
		return nil
	}
	return k.dispose(ctx, who, true)
}

// untilNext is the time to the next daily run.
func (k *Keeper) untilNext(now time.Time) time.Duration {
	now = now.UTC()
	next := now.Truncate(24 * time.Hour).Add(k.c.At)
	if !next.After(now) {
		next = next.Add(24 * time.Hour)
	}
	return next.Sub(now)
}

// work runs something as a run, with progress. It passes on only what must end the process.
func (k *Keeper) work(ctx context.Context, who Actor, run func() error) error {
	k.note(func(p *Progress) {
		*p = Progress{Number: p.Number + 1, Running: true, By: who.String(), Started: k.c.Now()}
	})
	err := run()
	k.note(func(p *Progress) {
		p.Running, p.Step, p.Ended = false, "", k.c.Now()
		if err != nil && ctx.Err() == nil {
			p.Error = err.Error()
		}
	})
	switch {
	case err == nil || ctx.Err() != nil:
		return nil
	case errors.Is(err, db.ErrStopped):
		return err
	case errors.Is(err, ErrWaits):
		k.c.Log.Warn("retention waits", "why", err, "next", `look at "lazaret retention plan", then start it with "lazaret retention run"`)
	default:
		k.c.Log.Error("retention: the run ended early; the next one goes on", "error", err)
	}
	return nil
}

// Start asks for a run by a person. ErrConflict while one is under way.
func (k *Keeper) Start(who Actor) error {
	if k.Progress().Running {
		return fmt.Errorf("a run is under way: %w", ErrConflict)
	}
	select {
	case k.asked <- who:
		return nil
	default:
		return fmt.Errorf("a run is asked for already: %w", ErrConflict)
	}
}

// carryOut is a run that a person has asked for: whoever did has seen the plan.
func (k *Keeper) carryOut(ctx context.Context, who Actor) error {
	if err := k.dispose(ctx, who, false); err != nil {
		return err
	}
	return k.checked(ctx)
}

// scheduled is the daily run, and its brakes.
func (k *Keeper) scheduled(ctx context.Context, who Actor) error {
	if err := k.c.Keys.Refresh(ctx); err != nil {
		return fmt.Errorf("let go of keys that others destroyed: %w", err)
	}
	if err := k.announce(ctx); err != nil {
		return err
	}
	_, seen, checked, err := k.state(ctx)
	if err != nil {
		return err
	}
	now := k.c.Now()
	last := checked
	if last.Before(seen) {
		last = seen
	}
	switch since := now.Sub(last); {
	case since < -backward:
		return fmt.Errorf("the clock is %s behind the last run: %w", (-since).Round(time.Minute), ErrWaits)
	case since > longest:
		return fmt.Errorf("the last run was %d days ago: %w", int(since.Hours()/24), ErrWaits)
	case now.Sub(seen) < notice:
		return nil // announced; tomorrow
	}
	if err := k.dispose(ctx, who, false); err != nil {
		return err
	}
	return k.checked(ctx)
}

// announce notes a policy that is new, and logs what it will do.
func (k *Keeper) announce(ctx context.Context) error {
	digest := k.c.Policy.digest()
	was, _, _, err := k.state(ctx)
	if err != nil || was == digest {
		return err
	}
	err = k.c.DB.Commit(ctx, 0, func(tx *db.Tx) error {
		if _, err := tx.Exec(makeState, int64(k.c.Organisation), "", tx.Now().UnixMicro()); err != nil {
			return err
		}
		_, err := tx.Exec(newPolicy, digest, tx.Now().UnixMicro(), int64(k.c.Organisation))
		return err
	})
	if err != nil {
		return fmt.Errorf("note the policy: %w", err)
	}
	if k.c.Policy.shortest().Keeps() && k.c.Policy.AuditDetails.Keeps() {
		return nil
	}
	k.c.Log.Warn("a new retention policy: it is carried out in a day at the earliest", "content", k.c.Policy.Content,
		"metadata", k.c.Policy.Metadata, "next", `see what would go with "lazaret retention plan"`)
	return nil
}

func (k *Keeper) state(ctx context.Context) (policy string, seen, checked time.Time, err error) {
	var seenAt, checkedAt int64
	err = k.c.DB.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRow(showState, []any{int64(k.c.Organisation)}, &policy, &seenAt, &checkedAt)
	})
	if errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	if err != nil {
		return "", seen, checked, fmt.Errorf("read when the policy was carried out: %w", err)
	}
	return policy, moment(seenAt), moment(checkedAt), nil
}

func (k *Keeper) checked(ctx context.Context) error {
	return k.c.DB.Commit(ctx, 0, func(tx *db.Tx) error {
		_, err := tx.Exec(setChecked, tx.Now().UnixMicro(), int64(k.c.Organisation))
		return err
	})
}
