package retention

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// What is to become of a month.
const (
	Kept       = "kept"       // nothing of it is past its time
	Goes       = "goes"       // its content goes now, keys first
	Partly     = "partly"     // content of some channels goes now; the month's keys stay
	Waits      = "waits"      // past its time, and something keeps it
	Unfinished = "unfinished" // its disposal has begun and is carried on; there is no way back
	Disposed   = "disposed"   // its content is gone, its metadata is there
	Last       = "last"       // its metadata goes now
)

// A Plan says what a run would do now, and why things stay.
type Plan struct {
	At     time.Time `json:"at"`
	Policy Policy    `json:"policy"`
	Months []Month   `json:"months"` // oldest first
	Audit  []string  `json:"audit_details,omitempty"`
	Holds  int       `json:"holds"` // active ones
	Due    bool      `json:"due"`   // a run would do something
}

// A Month of messages, as the plan has it.
type Month struct {
	Period    string    `json:"period"`
	State     string    `json:"state"`
	Messages  int64     `json:"messages"`
	Estimated bool      `json:"estimated,omitempty"` // nothing is due, so nobody counted
	Content   int64     `json:"content"`             // messages whose content is there
	Bytes     int64     `json:"bytes"`               // of that, as it came
	Now       int64     `json:"now"`                 // messages whose content, or metadata, goes now
	Due       time.Time `json:"due,omitzero"`        // when all of its content, or then its metadata, may go; zero: never
	Disposed  time.Time `json:"disposed,omitzero"`
	Groups    []Group   `json:"groups,omitempty"`
	Why       []string  `json:"why,omitempty"`

	period  seal.Period
	holding *holding
	since   int64
	note    string
}

// A Group is what of a month came through one channel.
type Group struct {
	Channel  string    `json:"channel"`
	Rejected bool      `json:"rejected,omitempty"`
	Keep     Span      `json:"keep"`
	Due      time.Time `json:"due,omitzero"`
	Messages int64     `json:"messages"`
	Content  int64     `json:"content"`
	Held     int64     `json:"held,omitempty"`
	Bytes    int64     `json:"bytes"`
}

func (g *Group) scope() string {
	if g.Rejected {
		return g.Channel + "/rejected"
	}
	return g.Channel
}

func (g *Group) due(now time.Time) bool { return !g.Due.IsZero() && !g.Due.After(now) }

// known is what was disposed of before.
type known struct {
	rows map[string]disposal      // by resource
	keys map[string]seal.Disposal // of the key store, by purpose and month
}

func (k *Keeper) readKnown(ctx context.Context) (kn known, err error) {
	kn = known{map[string]disposal{}, map[string]seal.Disposal{}}
	var list []disposal
	err = k.c.DB.Read(ctx, func(tx *db.Tx) error {
		list, err = k.disposals(tx)
		return err
	})
	if err != nil {
		return kn, fmt.Errorf("read the disposals: %w", err)
	}
	for _, d := range list {
		kn.rows[d.resource()] = d
	}
	gone, err := k.c.Keys.Disposals(ctx, k.c.Organisation)
	if err != nil {
		return kn, fmt.Errorf("ask the key store for what it destroyed: %w", err)
	}
	for _, g := range gone {
		kn.keys[g.Purpose.String()+"/"+g.Period.String()] = g
	}
	return kn, nil
}

// Plan looks at everything and changes nothing.
func (k *Keeper) Plan(ctx context.Context) (Plan, error) { return k.plan(ctx, true) }

// plan without all looks for what was begun only, and walks through no month.
func (k *Keeper) plan(ctx context.Context, all bool) (Plan, error) {
	now := k.c.Now()
	plan := Plan{At: now, Policy: k.c.Policy, Months: []Month{}}
	kn, err := k.readKnown(ctx)
	if err != nil {
		return plan, err
	}
	holds, err := k.Holds(ctx, false)
	if err != nil {
		return plan, err
	}
	plan.Holds = len(holds)
	err = k.c.Messages.MessagePeriods(ctx, func(p seal.Period, messages int64) {
		plan.Months = append(plan.Months, Month{Period: p.String(), Messages: messages, Estimated: true, Content: messages, period: p})
	})
	if err != nil {
		return plan, err
	}
	for _, d := range kn.rows { // all its rows are gone, and no certificate was written
		if d.class == classMetadata && d.state != finished && !slices.ContainsFunc(plan.Months, func(m Month) bool { return m.period == d.period }) {
			plan.Months = append(plan.Months, Month{Period: d.period.String(), period: d.period})
		}
	}
	slices.SortFunc(plan.Months, func(a, b Month) int { return int(a.period) - int(b.period) })
	for i := range plan.Months {
		m := &plan.Months[i]
		if k.planMonth(m, kn, holds, now) && all {
			if err := k.count(ctx, m, now); err != nil {
				return plan, err
			}
		}
		plan.Due = plan.Due || m.State == Goes || m.State == Partly && m.Now > 0 || m.State == Unfinished || m.State == Last
	}
	audits, err := k.auditMonths(ctx, kn, holds, now)
	if err != nil {
		return plan, err
	}
	for _, p := range audits {
		plan.Audit = append(plan.Audit, p.String())
		plan.Due = true
	}
	return plan, nil
}

// planMonth says what can be said without looking at each message. counts: the rest must be counted.
func (k *Keeper) planMonth(m *Month, kn known, holds []Hold, now time.Time) (counts bool) {
	policy := &k.c.Policy
	end := (m.period + 1).Start()
	content := kn.rows[classContent+"/"+m.Period]
	meta := kn.rows[classMetadata+"/"+m.Period]
	key, keyGone := kn.keys[seal.Message.String()+"/"+m.Period]
	switch {
	case content.state == finished && meta.state == begun:
		m.State, m.Content, m.Now = Last, 0, m.Messages
		return false
	case content.state == finished:
		m.State, m.Content, m.Disposed, m.Due = Disposed, 0, content.doneAt, policy.Metadata.Until(end)
		if m.Due.IsZero() || m.Due.After(now) {
			return false
		}
		for _, h := range holds {
			if h.touches(m.period) {
				// Whom the month's messages were about nobody can tell any more, so any hold that may touch them counts.
				m.State = Waits
				m.Why = append(m.Why, "metadata: hold "+h.ID.String())
			}
		}
		if m.State == Disposed {
			m.State, m.Now = Last, m.Messages
		}
		return false
	case content.state == begun || content.state == keyless:
		m.State, m.Now = Unfinished, m.Messages
		m.Why = append(m.Why, "begun "+content.begunAt.Format(time.DateTime)+" by "+content.by)
		return false
	case keyGone:
		m.State, m.Now = Unfinished, m.Messages
		m.note = "the month's keys were destroyed before, on " + key.At.Format(time.RFC3339) + ": by hand, or this is an older copy of the database"
		m.Why = append(m.Why, m.note)
		return false
	}
	if first := policy.shortest().Until(end); first.IsZero() || first.After(now) {
		m.State, m.Due = Kept, policy.longest().Until(end)
		return false
	}
	m.State = Kept
	return true
}

// count walks through a month of which something may be past its time.
func (k *Keeper) count(ctx context.Context, m *Month, now time.Time) (err error) {
	policy := &k.c.Policy
	if m.holding, err = k.holdsOn(ctx, m.period); err != nil {
		return err
	}
	type key struct {
		channel  string
		rejected bool
	}
	groups := map[key]*Group{}
	heldBy := map[db.ID]int64{}
	m.Messages, m.Content, m.Bytes, m.Estimated = 0, 0, 0, false
	err = k.c.Messages.WalkMessages(ctx, m.period, func(number int64, id db.ID, channel string, rejected, content bool, size int64) {
		g := groups[key{channel, rejected}]
		if g == nil {
			g = &Group{Channel: channel, Rejected: rejected, Keep: policy.of(channel, rejected), Due: policy.due(m.period, channel, rejected)}
			groups[key{channel, rejected}] = g
		}
		g.Messages++
		m.Messages++
		if !content {
			return
		}
		g.Content++
		g.Bytes += size
		m.Content++
		m.Bytes += size
		if h, held := m.holding.on(number, id, channel); held {
			g.Held++
			heldBy[h.ID]++
		}
	})
	if err != nil {
		return err
	}
	allDue, anyDue := true, false
	var held int64
	for _, g := range groups {
		m.Groups = append(m.Groups, *g)
		held += g.Held
		if g.due(now) {
			anyDue = true
			m.Now += g.Content - g.Held
		} else {
			allDue = false
		}
		switch {
		case g.Due.IsZero():
			m.Why = append(m.Why, g.scope()+" is kept for good")
		case !g.due(now):
			m.Why = append(m.Why, g.scope()+" is kept until "+g.Due.Format(time.DateOnly))
		}
		if g.Due.After(m.Due) {
			m.Due = g.Due
		}
	}
	slices.SortFunc(m.Groups, func(a, b Group) int {
		if a.scope() < b.scope() {
			return -1
		}
		return 1
	})
	for _, g := range m.Groups {
		if g.Due.IsZero() {
			m.Due = time.Time{}
		}
	}
	for id, n := range heldBy {
		m.Why = append(m.Why, fmt.Sprintf("%d under hold %s", n, id))
	}
	waiting := int64(0)
	if anyDue {
		m.since, err = k.c.Messages.Undelivered(ctx, m.period, func(channel, destination string, known bool, deliveries int64) {
			waiting += deliveries
			why := fmt.Sprintf("%d not delivered to %s of %s", deliveries, destination, channel)
			if !known {
				why += ", which the configuration no longer has: bring it back, or they wait for ever"
			}
			m.Why = append(m.Why, why)
		})
		if err != nil {
			return err
		}
	}
	slices.Sort(m.Why)
	switch {
	case !anyDue:
		m.State, m.Now = Kept, 0
	case allDue && held == 0 && waiting == 0:
		m.State, m.Now = Goes, m.Messages
	case m.Now-waiting > 0 || m.Now > 0 && !allDue:
		m.State = Partly // those that wait may be another channel's
	case held > 0 || waiting > 0:
		m.State, m.Now = Waits, 0
	default:
		m.State = Kept // what was due of it is gone already
	}
	return nil
}

// auditMonths lists the months whose sealed audit details are past their time.
func (k *Keeper) auditMonths(ctx context.Context, kn known, holds []Hold, now time.Time) (list []seal.Period, err error) {
	keys, err := k.c.Keys.Keys(ctx, k.c.Organisation)
	if err != nil {
		return nil, fmt.Errorf("list the keys of audit details: %w", err)
	}
	months := map[seal.Period]bool{}
	for _, key := range keys {
		if key.Purpose == seal.AuditDetail {
			months[key.Period] = true
		}
	}
	for _, d := range kn.rows {
		if d.class == classAudit && d.state < finished {
			months[d.period] = true
		}
	}
	for p := range months {
		due := k.c.Policy.AuditDetails.Until((p + 1).Start())
		unfinished := kn.rows[classAudit+"/"+p.String()].state
		if unfinished == 0 && (due.IsZero() || due.After(now) || slices.ContainsFunc(holds, func(h Hold) bool { return h.touches(p) })) {
			continue
		}
		list = append(list, p)
	}
	slices.Sort(list)
	return list, nil
}
