package retention

import (
	"errors"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// Classes of what is disposed of: fixed words, they are stored and on record.
const (
	classContent  = "content"
	classMetadata = "metadata"
	classAudit    = "audit-details"
)

// States of a disposal: fixed codes, they are stored.
const (
	begun    = 1 // decided and on record; keys may still be there
	keyless  = 2 // keys destroyed, rows on their way
	finished = 3 // certified
)

// A disposal is one row of the work: of a month and class, of all of it (scope "") or of one channel.
type disposal struct {
	class  string
	period seal.Period
	scope  string // "", or a channel, with "/rejected" behind it for what it refused
	state  int

	begunAt, doneAt                 time.Time
	by, policy, note                string
	holds                           int64
	keys                            string // ids of destroyed keys, by space
	place                           db.ID  // cursor
	messages, bytes, others, tokens int64
	certificate                     int64
}

// resource is the disposal's name on record.
func (d *disposal) resource() string {
	name := d.class + "/" + d.period.String()
	if d.scope != "" {
		name += "/" + d.scope
	}
	return name
}

const (
	disposalColumns = `class, period, scope, state, begun_at, done_at, begun_by, policy, holds, note, key_ids, place, messages, bytes,
		others, tokens, certificate`
	listDisposals = `SELECT ` + disposalColumns + ` FROM disposal WHERE organisation = $1 ORDER BY period, class, scope`
	// One channel's part of a month may go in several turns, as holds end and deliveries are settled.
	openDisposal = `INSERT INTO disposal (organisation, class, period, scope, state, begun_at, begun_by, policy, holds, note)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (organisation, class, period, scope) DO UPDATE SET
		state = excluded.state, begun_at = excluded.begun_at, begun_by = excluded.begun_by, policy = excluded.policy,
		holds = excluded.holds, note = excluded.note, done_at = 0, key_ids = '', place = NULL, messages = 0, bytes = 0, others = 0,
		tokens = 0, certificate = -1`
	destroyedKeys = `UPDATE disposal SET state = 2, key_ids = $1
		WHERE organisation = $2 AND class = $3 AND period = $4 AND scope = $5 AND state < 3`
	moveDisposal = `UPDATE disposal SET place = $1, messages = messages + $2, bytes = bytes + $3, others = others + $4, tokens = tokens + $5
		WHERE organisation = $6 AND class = $7 AND period = $8 AND scope = $9 AND state < 3`
	showCounts = `SELECT messages, bytes, others, tokens FROM disposal
		WHERE organisation = $1 AND class = $2 AND period = $3 AND scope = $4`
	closeDisposal = `UPDATE disposal SET state = 3, done_at = $1, certificate = $2
		WHERE organisation = $3 AND class = $4 AND period = $5 AND scope = $6 AND state < 3`
)

// errMoved: another replica did this disposal's work meanwhile.
var errMoved = errors.New("another replica carries out the policy")

func (k *Keeper) disposals(tx *db.Tx) (list []disposal, err error) {
	rows, err := tx.Query(listDisposals, int64(k.c.Organisation))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var d disposal
		var period, begunAt, doneAt int64
		if err := rows.Scan(&d.class, &period, &d.scope, &d.state, &begunAt, &doneAt, &d.by, &d.policy, &d.holds, &d.note, &d.keys,
			&d.place, &d.messages, &d.bytes, &d.others, &d.tokens, &d.certificate); err != nil {
			return nil, err
		}
		d.period, d.begunAt, d.doneAt = seal.Period(period), moment(begunAt), moment(doneAt)
		list = append(list, d)
	}
	return list, rows.Err()
}

func (k *Keeper) open(tx *db.Tx, d *disposal) error {
	d.begunAt = tx.Now()
	_, err := tx.Exec(openDisposal, int64(k.c.Organisation), d.class, int64(d.period), d.scope, d.state, d.begunAt.UnixMicro(), d.by,
		d.policy, d.holds, d.note)
	return err
}

// move notes a batch in the transaction that deletes it.
func (k *Keeper) move(tx *db.Tx, d *disposal, place db.ID, messages, bytes, others, tokens int64) error {
	var at any
	if !place.IsZero() {
		at = place
	}
	return one(tx.Exec(moveDisposal, at, messages, bytes, others, tokens, int64(k.c.Organisation), d.class, int64(d.period), d.scope))
}

// one makes sure that a guarded change found its row.
func one(n int64, err error) error {
	if err == nil && n != 1 {
		err = errMoved
	}
	return err
}

const (
	makeState = `INSERT INTO retention_state (organisation, policy, seen_at, checked_at) VALUES ($1, $2, $3, 0) ON CONFLICT DO NOTHING`
	showState = `SELECT policy, seen_at, checked_at FROM retention_state WHERE organisation = $1`
	newPolicy = `UPDATE retention_state SET policy = $1, seen_at = $2 WHERE organisation = $3`
	// A policy that was seen by a clock that was ahead is known since now.
	setChecked = `UPDATE retention_state SET checked_at = $1, seen_at = CASE WHEN seen_at > $1 THEN $1 ELSE seen_at END
		WHERE organisation = $2`
	takeLease = `UPDATE retention_state SET holder = $1, lease_until = $2
		WHERE organisation = $3 AND (lease_until <= $4 OR holder = $1)`
	keepLease = `UPDATE retention_state SET lease_until = $1 WHERE organisation = $2 AND holder = $3`
	giveLease = `UPDATE retention_state SET lease_until = 0 WHERE organisation = $1 AND holder = $2`
)

// leaseTime is how long a replica that died keeps the others from going on.
const leaseTime = 2 * time.Minute

// take makes this replica the one that disposes. On SQLite there is no other: an old lease is a dead process's.
func (k *Keeper) take(tx *db.Tx) error {
	now, err := tx.DatabaseTime()
	if err != nil {
		return err
	}
	if _, err := tx.Exec(makeState, int64(k.c.Organisation), "", tx.Now().UnixMicro()); err != nil {
		return err
	}
	free := now.UnixMicro()
	if tx.Engine() == db.SQLite {
		free = 1 << 62
	}
	return one(tx.Exec(takeLease, k.c.Replica, now.Add(leaseTime).UnixMicro(), int64(k.c.Organisation), free))
}

// keep prolongs the lease, and fails when it is another's.
func (k *Keeper) keep(tx *db.Tx) error {
	now, err := tx.DatabaseTime()
	if err != nil {
		return err
	}
	return one(tx.Exec(keepLease, now.Add(leaseTime).UnixMicro(), int64(k.c.Organisation), k.c.Replica))
}
