package engine

import (
	"fmt"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// meters counts what happens. Labels are names from the configuration and fixed words; nothing of a message is in them.
type meters struct{ set *metrics.Set }

func newMeters(set *metrics.Set) *meters { return &meters{set: set} }

func (m *meters) count(name, labels string) {
	m.set.GetOrCreateCounter(name + "{" + labels + "}").Inc()
}

// door holds the meters of a channel's main corridor, so that no message pays for a look-up by name.
type door struct {
	accepted, duplicate *metrics.Counter
	bytes               *metrics.Counter
	took                *metrics.Histogram
}

func (m *meters) door(channel string) door {
	return door{
		accepted:  m.set.GetOrCreateCounter(fmt.Sprintf(`lazaret_messages_total{channel=%q,result="accepted"}`, channel)),
		duplicate: m.set.GetOrCreateCounter(fmt.Sprintf(`lazaret_messages_total{channel=%q,result="duplicate"}`, channel)),
		bytes:     m.set.GetOrCreateCounter(fmt.Sprintf(`lazaret_message_bytes_total{channel=%q}`, channel)),
		took:      m.set.GetOrCreateHistogram(fmt.Sprintf(`lazaret_accept_seconds{channel=%q}`, channel)),
	}
}

func (d *door) count(msg *intake, took time.Duration) {
	if msg.isAgain {
		d.duplicate.Inc()
	} else {
		d.accepted.Inc()
	}
	d.bytes.Add(len(msg.block))
	d.took.Update(took.Seconds())
}

func (m *meters) rejected(ch *channel, why refusalKind) {
	m.count("lazaret_messages_total", fmt.Sprintf(`channel=%q,result="rejected"`, ch.cfg.Name))
	m.count("lazaret_rejected_total", fmt.Sprintf(`channel=%q,reason=%q`, ch.cfg.Name, string(why)))
}

func (m *meters) failed(ch *channel) {
	m.count("lazaret_messages_total", fmt.Sprintf(`channel=%q,result="not kept"`, ch.cfg.Name))
}

func (m *meters) overQuota(ch *channel) {
	m.count("lazaret_rejected_not_kept_total", fmt.Sprintf(`channel=%q`, ch.cfg.Name))
}

func (m *meters) refusedConnection(ch *channel, why string) {
	m.count("lazaret_connections_refused_total", fmt.Sprintf(`channel=%q,reason=%q`, ch.cfg.Name, why))
}

func (m *meters) attempt(q *queue, good bool, took time.Duration) {
	m.set.GetOrCreateHistogram(fmt.Sprintf(`lazaret_attempt_seconds{channel=%q,destination=%q,taken="%t"}`,
		q.channel.cfg.Name, q.cfg.Name, good)).Update(took.Seconds())
}

// String is the state as users read it.
func (s State) String() string {
	switch s {
	case Pending:
		return "pending"
	case Started:
		return "started"
	case Sent:
		return "sent"
	case Filtered:
		return "filtered"
	case Failed:
		return "error"
	}
	return fmt.Sprintf("state %d", int(s))
}

func (m *meters) settled(q *queue, s State) {
	name := s.String()
	if s == Pending {
		name = "refused"
	}
	m.count("lazaret_deliveries_total", fmt.Sprintf(`channel=%q,destination=%q,result=%q`, q.channel.cfg.Name, q.cfg.Name, name))
}

// watch shows how long a queue is, and how much of it is in memory: at lookAhead, a queue by patient looks no further past those
// that wait.
func (m *meters) watch(q *queue) {
	m.set.GetOrCreateGauge(fmt.Sprintf(`lazaret_queue_depth{channel=%q,destination=%q}`, q.channel.cfg.Name, q.cfg.Name),
		func() float64 { return float64(q.depth.Load()) })
	m.set.GetOrCreateGauge(fmt.Sprintf(`lazaret_queue_in_memory{channel=%q,destination=%q}`, q.channel.cfg.Name, q.cfg.Name),
		func() float64 { return float64(q.inMem.Load()) })
}
