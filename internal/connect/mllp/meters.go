package mllp

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

// meters count a source's connections. Reasons are the server's fixed words, so that no peer can make up a label.
type meters struct {
	set     *metrics.Set
	channel string
	open    *metrics.Gauge
	stray   *metrics.Counter
}

func newMeters(set *metrics.Set, channel string) meters {
	if set == nil {
		set = metrics.NewSet()
	}
	return meters{
		set: set, channel: channel,
		open:  set.GetOrCreateGauge(fmt.Sprintf(`lazaret_mllp_connections{channel=%q}`, channel), nil),
		stray: set.GetOrCreateCounter(fmt.Sprintf(`lazaret_mllp_stray_bytes_total{channel=%q}`, channel)),
	}
}

func (m meters) ended(why mllp.Reason) { m.reason("lazaret_mllp_connections_ended_total", why) }

func (m meters) refused(why mllp.Reason) { m.reason("lazaret_mllp_connections_refused_total", why) }

func (m meters) reason(name string, why mllp.Reason) {
	m.set.GetOrCreateCounter(fmt.Sprintf(`%s{channel=%q,reason=%q}`, name, m.channel, string(why))).Inc()
}
