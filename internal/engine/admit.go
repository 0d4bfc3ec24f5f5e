package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
)

// refusalKind says which rule a message broke. It is a label of the metric.
type refusalKind string

const (
	unreadable    refusalKind = "unreadable"
	wrongType     refusalKind = "type"
	wrongVersion  refusalKind = "version"
	wrongProcess  refusalKind = "processing id"
	tooLong       refusalKind = "size"
	tooFast       refusalKind = "rate"
	maxRateWait               = 5 * time.Second
	maxPeerLimits             = 10000 // peers whose rate is remembered
)

// A refusal says why a message is not taken: a code of HL7 table 0357 and words that repeat nothing of its content.
type refusal struct {
	kind      refusalKind
	code      string
	location  string // where in the message
	text      string
	truncated bool // only the beginning of the message is known
}

// slow makes a peer that is too fast wait, for it loses nothing by waiting for its answer, and refuses where that is not enough.
// It comes before all other rules: what is refused costs a commit too.
func (in *Intake) slow(ctx context.Context, p Peer) *refusal {
	r := in.channel.cfg.Admit.Rate
	if r == nil {
		return nil
	}
	now := in.channel.engine.cfg.Now()
	turn := in.limiter(p.Key(), r).ReserveN(now, 1)
	wait := turn.DelayFrom(now)
	if wait > maxRateWait {
		turn.CancelAt(now)
		return &refusal{kind: tooFast, code: "207", text: fmt.Sprintf("more than %d messages in %s; send again later", r.Messages, r.Per)}
	}
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// admit checks a legible message against what the channel takes.
func (in *Intake) admit(m *hl7.Message) *refusal {
	a := &in.channel.cfg.Admit
	name := in.channel.cfg.Name
	if a.MaxSize > 0 && len(m.Bytes()) > a.MaxSize {
		return &refusal{kind: tooLong, code: "207", text: fmt.Sprintf("the message is longer than %d bytes", a.MaxSize)}
	}
	if len(in.types) > 0 {
		code, event, structure := m.Type()
		matches := func(t typePattern) bool { return t.matches(code, event, structure) }
		if !slices.ContainsFunc(in.types, matches) {
			r := &refusal{kind: wrongType, code: "200", location: "MSH-9", text: fmt.Sprintf("channel %q takes %s", name, in.typeList())}
			if slices.ContainsFunc(in.types, func(t typePattern) bool { return t[0] == code }) {
				r.code = "201" // the type is taken, the event is not
			}
			return r
		}
	}
	if len(a.Versions) > 0 && !slices.Contains(a.Versions, m.Version()) {
		return &refusal{kind: wrongVersion, code: "203", location: "MSH-12", text: fmt.Sprintf("channel %q takes version %s", name, strings.Join(a.Versions, ", "))}
	}
	if len(a.ProcessingIDs) > 0 && !slices.Contains(a.ProcessingIDs, m.ProcessingID()) {
		return &refusal{kind: wrongProcess, code: "202", location: "MSH-11", text: fmt.Sprintf("channel %q takes processing ID %s", name, strings.Join(a.ProcessingIDs, ", "))}
	}
	return nil
}

func (in *Intake) typeList() string {
	names := make([]string, len(in.types))
	for i, t := range in.types {
		names[i] = t.String()
	}
	return strings.Join(names, ", ")
}

// limiter is the peer's own.
func (in *Intake) limiter(key string, r *Rate) *rate.Limiter {
	in.mu.Lock()
	defer in.mu.Unlock()
	l, ok := in.limits[key]
	if !ok {
		if len(in.limits) >= maxPeerLimits {
			clear(in.limits) // a flood of addresses: forgetting is better than growing
		}
		l = rate.NewLimiter(rate.Limit(float64(r.Messages)/r.Per.Seconds()), max(r.Burst, 1))
		in.limits[key] = l
	}
	return l
}

// reject keeps what was not taken, with why, and answers as the source says.
func (in *Intake) reject(ctx context.Context, p Peer, m *hl7.Message, block []byte, r refusal) ([]byte, error) {
	ch := in.channel
	e := ch.engine
	e.metrics.rejected(ch, r.kind)
	msg := &intake{Intake: in, id: e.db.NewID(), peer: p, m: m, block: block, status: Rejected, reason: r.text, typ: shownType(m)}
	if r.kind == tooFast {
		return in.answer(msg, r.ack(notKept(m))) // nothing is known to be wrong with it: not kept, to be sent again
	}
	if r.truncated {
		msg.flags |= flagTruncated
	}
	if err := msg.seal(ctx, msg.id.Time()); err != nil {
		return in.fault(msg, fmt.Errorf("seal: %w", err))
	}
	kept := true
	err := msg.commit(ctx, func(tx *db.Tx) (err error) {
		if kept, err = msg.withinQuota(tx); err != nil || !kept {
			return err
		}
		return msg.write(tx)
	})
	if err != nil {
		return in.fault(msg, err)
	}
	if !kept {
		e.metrics.overQuota(ch)
		in.noteOverQuota(msg)
	}
	switch ch.cfg.Unacceptable {
	case AnswerClose:
		return nil, fmt.Errorf("not acceptable (%s), and the source is set to close", r.kind)
	case AnswerAA:
		return in.answer(msg, hl7.Ack{Code: hl7.AA})
	case AnswerAR:
		return in.answer(msg, r.ack(hl7.AR))
	}
	switch r.kind {
	case wrongType, wrongVersion, wrongProcess:
		return in.answer(msg, r.ack(hl7.AR))
	}
	return in.answer(msg, r.ack(hl7.AE))
}

func (r refusal) ack(code hl7.AckCode) hl7.Ack {
	return hl7.Ack{Code: code, Text: r.text, Errors: []hl7.AckError{{Location: r.location, Code: r.code, Severity: "E", Text: r.text}}}
}

const (
	addUsage = `INSERT INTO rejected_usage (channel, day, peer, bytes) VALUES ($1, $2, $3, $4)
		ON CONFLICT (channel, day, peer) DO UPDATE SET bytes = rejected_usage.bytes + excluded.bytes`
	showUsage  = `SELECT bytes FROM rejected_usage WHERE channel = $1 AND day = $2 AND peer = $3`
	dropUsage  = `DELETE FROM rejected_usage WHERE channel = $1 AND day < $2`
	rowAllowed = 512 // what a rejected message costs beside its content
)

// withinQuota charges the message to its peer's day. false: the peer has used it up, and nothing more of it is kept.
func (msg *intake) withinQuota(tx *db.Tx) (bool, error) {
	ch := msg.channel
	quota := ch.cfg.Admit.RejectedQuota
	day, peer := tx.Now().Unix()/86400, msg.peer.Key()
	var used int64
	if err := tx.QueryRow(showUsage, []any{ch.number, day, peer}, &used); err != nil && err != db.ErrNoRows {
		return false, err
	}
	cost := int64(len(msg.content) + rowAllowed)
	if used+cost > quota {
		return false, nil
	}
	if used == 0 {
		if _, err := tx.Exec(dropUsage, ch.number, day-1); err != nil {
			return false, err
		}
	}
	_, err := tx.Exec(addUsage, ch.number, day, peer, cost)
	return true, err
}

// noteOverQuota puts on record, at most once a minute a peer, that refused messages are no longer kept.
func (in *Intake) noteOverQuota(msg *intake) {
	e := in.channel.engine
	if !in.limiter("quota "+msg.peer.Key(), &Rate{Messages: 1, Per: time.Minute, Burst: 1}).AllowN(e.cfg.Now(), 1) {
		return
	}
	e.log.Warn("a peer's quota of rejected messages is used up: further ones are answered and not kept",
		"channel", in.channel.cfg.Name, "peer", msg.peer.Key())
	err := e.db.Commit(context.Background(), 0, func(tx *db.Tx) error {
		return e.record(tx, audit.Entry{Event: audit.MessageRejected, Action: audit.Create, Result: audit.SeriousFailure,
			ResourceType: "channel", ResourceID: in.channel.cfg.Name, IP: msg.peer.Addr.Addr(), Details: []audit.Detail{
				audit.Text("peer", msg.peer.Key()), audit.Text("reason", "quota of rejected messages is used up; not kept")}})
	})
	if err != nil {
		e.log.Error("record that a quota is used up", "channel", in.channel.cfg.Name, "error", err)
	}
}
