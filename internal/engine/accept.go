package engine

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// An Intake is the way in of one channel: parse, admit, seal, commit, answer.
type Intake struct {
	channel *channel
	types   []typePattern
	door    door

	mu     sync.Mutex
	limits map[string]*rate.Limiter // a peer; guarded by mu
}

// Status is what became of a message at the door.
type Status int

// Statuses of a message.
const (
	Accepted Status = 1
	Rejected Status = 2
)

// Flags of a message.
const (
	flagReusedControlID = 1 << iota // this sender used the same MSH-10 for other content within the duplicate window
	flagTruncated                   // too long: only its beginning was read, so it can never be sent
)

// Flags of a delivery.
const (
	flagPossibleDuplicate = 1 << iota // an attempt whose outcome was not known came before
	flagResend                        // asked for by a person
	flagBarrier                       // names more patients than are listed: it waits for all, and all wait for it
	flagStored                        // its bytes lie in attempt, for they differ from those that came
)

var (
	messages = db.NewTable("message",
		col("number", db.Int), col("id", db.UUID), col("organisation", db.Int), col("channel", db.Int), col("revision", db.Int),
		col("accepted_at", db.Int), col("status", db.Int), col("type", db.Text), col("size", db.Int), col("peer", db.Text),
		col("flags", db.Int), col("reason", db.Text), col("header", db.Bytes))
	contents   = db.NewTable("content", col("number", db.Int), col("sealed", db.Bytes))
	deliveries = db.NewTable("delivery",
		col("queue", db.Int), col("number", db.Int), col("message", db.Int), col("state", db.Int), col("attempts", db.Int),
		col("next_at", db.Int), col("started_at", db.Int), col("settled_at", db.Int), col("revision", db.Int), col("flags", db.Int),
		col("keys", db.Bytes), col("outcome", db.Text))
)

func col(name string, kind db.Kind) db.Column { return db.Column{Name: name, Kind: kind} }

// intake is one message on its way in.
type intake struct {
	*Intake
	id     db.ID
	peer   Peer
	m      *hl7.Message // nil when it is not legible
	block  []byte
	status Status
	reason string // why it was rejected, in words that repeat nothing of it
	typ    string // ADT^A01, as far as it is fit to be shown
	flags  int

	content, header []byte // sealed
	tokens          []token
	duplicate       dupKey // zero: not looked for
	keys            []byte // order keys, packed
	orderFlags      int    // flagBarrier, if there are more patients than order keys

	number  int64 // set by write
	isAgain bool  // set by write: this is a duplicate, and nothing was stored
	kept    db.ID // set by write: under which id it, or what it repeats, is stored
}

// Accept takes one message and returns its answer. It is the main corridor: who it is was settled by the transport.
func (in *Intake) Accept(ctx context.Context, p Peer, block []byte) ([]byte, error) {
	e := in.channel.engine
	start := e.cfg.Now()
	// A stop of the source may not cut a message that is already here.
	ctx = context.WithoutCancel(ctx)
	m, refused := in.parse(block)
	if slow := in.slow(ctx, p); slow != nil {
		refused = slow
	}
	if refused == nil {
		refused = in.admit(m)
	}
	if refused != nil {
		return in.reject(ctx, p, m, block, *refused)
	}
	msg := &intake{Intake: in, id: e.db.NewID(), peer: p, m: m, block: block, status: Accepted, typ: shownType(m)}
	if err := msg.seal(ctx, msg.id.Time()); err != nil {
		return in.fault(msg, fmt.Errorf("seal: %w", err))
	}
	if err := msg.commit(ctx, msg.write); err != nil {
		return in.fault(msg, err)
	}
	in.door.count(msg, e.cfg.Now().Sub(start))
	if !msg.isAgain {
		for _, q := range in.channel.queues {
			q.arrived()
		}
	}
	return in.answer(msg, hl7.Ack{Code: hl7.AA})
}

// parse reads the message's structure. What is not legible is refused with its place, never with its bytes.
func (in *Intake) parse(block []byte) (*hl7.Message, *refusal) {
	m, err := hl7.Parse(block)
	if err != nil {
		return nil, &refusal{kind: unreadable, code: "100", text: "the message is not legible: " + err.Error()}
	}
	if cs := in.channel.cfg.Charset; cs != "" {
		if err := m.OverrideCharset(cs); err != nil {
			return nil, &refusal{kind: unreadable, code: "207", text: "the source's character set is not known"}
		}
	}
	return m, nil
}

// seal prepares everything that does not need the transaction: it runs beside other messages, the commit does not. at is the
// id's time, so that the id alone tells the month whose keys a message lies under, also that of what is sent of it later.
func (msg *intake) seal(ctx context.Context, at time.Time) (err error) {
	ch := msg.channel
	e := ch.engine
	org := uint32(e.org)
	place := seal.Place{Table: seal.TableMessageContent, Column: seal.ColumnContent, Row: msg.id, Org: org}
	if msg.content, err = e.keys.Seal(ctx, seal.Message, place, at, msg.block); err != nil {
		return err
	}
	head := headerOf(msg.m)
	place = seal.Place{Table: seal.TableMessageHeader, Column: seal.ColumnContent, Row: msg.id, Org: org}
	if msg.header, err = e.keys.Seal(ctx, seal.Message, place, at, head.encode()); err != nil {
		return err
	}
	msg.tokens = append(msg.tokens, channelToken(ch.number))
	if msg.m == nil {
		return nil
	}
	msg.tokens = append(msg.tokens, typeToken(msg.typ))
	period := seal.PeriodOf(at)
	if id := normalControlID(head.ControlID); id != "" {
		v, err := e.keys.Blind(ctx, org, seal.FieldControlID, period, []byte(id))
		if err != nil {
			return err
		}
		msg.tokens = append(msg.tokens, blindToken(fieldControlID, v))
	}
	ids, overflow := patientIdentifiers(msg.m)
	for _, id := range ids {
		v, err := e.keys.Blind(ctx, org, seal.FieldPatientIdentifier, period, []byte(id))
		if err != nil {
			return err
		}
		msg.tokens = append(msg.tokens, blindToken(fieldPatient, v))
	}
	if msg.keys, msg.orderFlags, err = ch.orderKeys(ctx, ids, overflow); err != nil {
		return err
	}
	if window := ch.cfg.Admit.Duplicates; window > 0 && msg.status == Accepted && head.ControlID != "" {
		msg.duplicate, err = e.duplicateKey(ctx, ch, msg.peer, head.ControlID, msg.block, at, window)
		if err != nil {
			return err
		}
		msg.tokens = append(msg.tokens, msg.duplicate.token)
	}
	return nil
}

func (ch *channel) ordersByPatient() bool {
	for _, q := range ch.queues {
		if q.cfg.Order == OrderPatient && q.cfg.Enabled {
			return true
		}
	}
	return false
}

// commit stores the message and finds out about its fate when the database did not say.
func (msg *intake) commit(ctx context.Context, write func(*db.Tx) error) error {
	e := msg.channel.engine
	err := e.db.Commit(ctx, len(msg.content)+1024, write)
	if !errors.Is(err, db.ErrOutcomeUnknown) {
		return err
	}
	kept, lookErr := e.wasKept(ctx, msg.kept)
	switch {
	case lookErr != nil:
		return fmt.Errorf("%w; and it could not be looked up: %w", err, lookErr)
	case kept:
		return nil
	}
	return errNotKept
}

// errNotKept: the outcome was unknown, and a look showed that nothing was stored.
var errNotKept = errors.New("the database did not keep the message")

// wasKept looks a message up by its id, in a transaction of its own that waits for the line: whatever became of the other one
// is decided then.
func (e *Engine) wasKept(ctx context.Context, id db.ID) (kept bool, err error) {
	for try := range 4 {
		if try > 0 {
			select {
			case <-time.After(time.Duration(try) * 250 * time.Millisecond):
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}
		err = e.db.Commit(ctx, 0, func(tx *db.Tx) error {
			var n int64
			if err := tx.QueryRow(`SELECT count(*) FROM message WHERE id = $1`, []any{id}, &n); err != nil {
				return err
			}
			kept = n > 0
			return nil
		})
		if err == nil || errors.Is(err, db.ErrStopped) {
			return kept, err
		}
	}
	return false, err
}

// write is the message's part of a group. It may run again when the group is split.
func (msg *intake) write(tx *db.Tx) error {
	ch := msg.channel
	e := ch.engine
	msg.isAgain, msg.kept = false, msg.id
	flags := msg.flags
	if msg.duplicate.window > 0 {
		switch found, err := e.index.findDuplicate(tx, msg); {
		case err != nil:
			return err
		case found.again:
			msg.isAgain, msg.number, msg.kept = true, found.number, found.id
			return e.record(tx, audit.Entry{Event: audit.MessageDuplicate, Action: audit.Create, Result: audit.Success,
				ResourceType: "message", ResourceID: found.id.String(), IP: msg.peer.Addr.Addr(),
				Details: []audit.Detail{audit.Text("channel", ch.cfg.Name), audit.Text("peer", msg.peer.Key())}})
		case found.reused:
			flags |= flagReusedControlID
		}
	}
	line, err := tx.Line()
	if err != nil {
		return err
	}
	msg.number = line.Take(1)
	at := tx.Now().UnixMicro()
	var reason any
	if msg.reason != "" {
		reason = msg.reason
	}
	if err := tx.Insert(messages, msg.number, msg.id, e.org, ch.number, ch.revision, at, int(msg.status), msg.typ, len(msg.block),
		msg.peer.Key(), flags, reason, msg.header); err != nil {
		return err
	}
	if msg.content != nil {
		if err := tx.Insert(contents, msg.number, msg.content); err != nil {
			return err
		}
	}
	entry := audit.Entry{Event: audit.MessageAccepted, Action: audit.Create, Result: audit.Success, ResourceType: "message",
		ResourceID: msg.id.String(), IP: msg.peer.Addr.Addr(), Details: []audit.Detail{
			audit.Text("channel", ch.cfg.Name), audit.Text("peer", msg.peer.Key()), audit.Text("type", msg.typ)}}
	if msg.status == Accepted {
		for _, q := range ch.queues {
			if q.cfg.Enabled {
				if err := q.insert(tx, msg.number, msg.number, msg.keys, msg.orderFlags); err != nil {
					return err
				}
			}
		}
	} else {
		entry.Event, entry.Result = audit.MessageRejected, audit.SeriousFailure
		entry.Details = append(entry.Details, audit.Text("reason", msg.reason))
	}
	if err := e.index.add(tx, msg); err != nil {
		return err
	}
	return e.record(tx, entry)
}

// record appends an entry about this organisation to the audit log, in the transaction of the act.
func (e *Engine) record(tx *db.Tx, entry audit.Entry) error {
	entry.Org = uint32(e.org)
	_, err := e.audit.Append(tx, entry)
	return err
}

// answer builds the acknowledgement that the sender asked for. In enhanced mode (MSH-15 or MSH-16 valued, HL7 v2.5.1 section
// 2.9.3) it is the accept acknowledgement, and MSH-15 says whether the sender wants one at all.
func (in *Intake) answer(msg *intake, a hl7.Ack) ([]byte, error) {
	e := in.channel.engine
	a.ControlID, a.Time = answerID(msg.id), e.cfg.Now()
	if msg.isAgain {
		a.ControlID = answerID(msg.kept) // the first one's answer again
	}
	if msg.m == nil {
		return hl7.NewAckRaw(msg.block, a), nil
	}
	if hl7.WantsEnhanced(msg.m) {
		a.Enhanced = true
		when, _ := hl7.AckConditions(msg.m)
		good := a.Code == hl7.AA
		if when == "NE" || when == "ER" && good || when == "SU" && !good {
			return nil, nil
		}
	}
	return hl7.NewAck(msg.m, a), nil
}

// answerID is MSH-10 of an answer: 20 characters, the most that versions before 2.7 allow, out of the message's own id.
func answerID(id db.ID) string {
	return base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:])[:20]
}

// fault answers what we could not keep: AR (CE in enhanced mode), send again. Where the outcome stays unknown, saying anything
// could be a lie, so the connection is closed without an answer.
func (in *Intake) fault(msg *intake, err error) ([]byte, error) {
	e := in.channel.engine
	e.metrics.failed(in.channel)
	e.log.Error("a message was not kept", "channel", in.channel.cfg.Name, "peer", msg.peer.Key(), "error", err)
	if errors.Is(err, db.ErrOutcomeUnknown) || errors.Is(err, db.ErrStopped) {
		return nil, err
	}
	msg.isAgain = false
	return in.answer(msg, hl7.Ack{Code: notKept(msg.m), Text: "not kept: the receiver has a fault, send again",
		Errors: []hl7.AckError{{Code: "207", Text: "the receiver could not store the message"}}})
}

// notKept is the code for a message with which nothing is wrong: AR, and CE in enhanced mode, where CR says that the type, the
// version or the processing ID is not served (HL7 v2.5.1 sections 2.9.2.2 and 2.9.3.2).
func notKept(m *hl7.Message) hl7.AckCode {
	if m != nil && hl7.WantsEnhanced(m) {
		return hl7.AE
	}
	return hl7.AR
}

// TooLong answers a message of which only the beginning was read.
func (in *Intake) TooLong(ctx context.Context, p Peer, prefix []byte) []byte {
	m, _ := in.parse(prefix)
	answer, err := in.reject(context.WithoutCancel(ctx), p, m, prefix, refusal{kind: tooLong, code: "207", truncated: true,
		text: "the message is longer than this source reads"})
	if err != nil {
		return nil
	}
	return answer
}

// Refused notes that a connection was turned away. The audit entry comes at most once a minute a peer, so that a port scanner
// does not write the log full; the metric counts each.
func (in *Intake) Refused(p Peer, why string) {
	ch := in.channel
	e := ch.engine
	e.metrics.refusedConnection(ch, why)
	if !in.limiter("refused "+p.Key(), &Rate{Messages: 1, Per: time.Minute, Burst: 1}).AllowN(e.cfg.Now(), 1) {
		return
	}
	err := e.db.Commit(context.Background(), 0, func(tx *db.Tx) error {
		return e.record(tx, audit.Entry{Event: audit.ConnectionRefused, Action: audit.Execute, Result: audit.SeriousFailure,
			ResourceType: "channel", ResourceID: ch.cfg.Name, IP: p.Addr.Addr(), Details: []audit.Detail{audit.Text("reason", why)}})
	})
	if err != nil {
		e.log.Error("record a refused connection", "channel", ch.cfg.Name, "error", err)
	}
}

// shownType is MSH-9 as far as it looks like a message type: it is stored and shown in the clear.
func shownType(m *hl7.Message) string {
	if m == nil {
		return ""
	}
	code, event, _ := m.Type()
	return plainCode(code) + "^" + plainCode(event)
}

func plainCode(s string) string {
	if len(s) > 3 {
		return "?"
	}
	for _, c := range []byte(s) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return "?"
		}
	}
	return s
}

func normalControlID(s string) string { return strings.TrimSpace(s) }

// digest is what makes two messages the same one.
func digest(block []byte) [32]byte { return sha256.Sum256(block) }
