package main

import (
	"fmt"
)

// A tally is what one destination of the demo has done, from the service's own counters.
type tally struct {
	waiting, sent, filtered, skipped, retried int64
}

// tally reads the counters of the destination of a receiver; channel and feed have the same name.
func (d *demo) tally(r demoReceiver) tally {
	deliveries := func(result string) int64 {
		return int64(d.service.metrics.GetOrCreateCounter(
			fmt.Sprintf(`lazaret_deliveries_total{channel=%q,destination=%q,result=%q}`, r.feed, r.name, result)).Get())
	}
	t := tally{sent: deliveries("sent"), filtered: deliveries("filtered"), skipped: deliveries("error")}
	// An attempt that failed is followed by another, or by the message being set aside.
	d.service.metrics.GetOrCreateHistogram(fmt.Sprintf(`lazaret_attempt_seconds{channel=%q,destination=%q,taken="false"}`, r.feed, r.name)).
		VisitNonZeroBuckets(func(_ string, n uint64) { t.retried += int64(n) })
	t.retried -= min(t.retried, t.skipped)
	t.waiting = int64(d.service.metrics.GetOrCreateGauge(
		fmt.Sprintf(`lazaret_queue_depth{channel=%q,destination=%q}`, r.feed, r.name), nil).Get())
	return t
}

func (d *demo) accepted(result string) (n int64) {
	for _, channel := range []string{"adt", "oru"} {
		n += int64(d.service.metrics.GetOrCreateCounter(fmt.Sprintf(`lazaret_messages_total{channel=%q,result=%q}`, channel, result)).Get())
	}
	return n
}

func (d *demo) waiting() (n int64) {
	for _, r := range demoReceivers() {
		n += d.tally(r).waiting
	}
	return n
}

// draw shows where everything is: the hospital, the service, each receiver.
func (d *demo) draw() {
	const width = 24
	sent := int64(d.hospital.news().Sent)
	kept := d.accepted("accepted")
	whole := max(sent, kept)
	if d.o.once {
		whole = int64(d.o.count)
	}
	lines := []string{
		"",
		fmt.Sprintf("  %-12s %s %7s sent", "hospital", bar(sent, whole, width), thousands(sent)),
		fmt.Sprintf("  %-12s %s %7s safe on disk and acknowledged, %s refused", "lazaret", bar(kept, whole, width), thousands(kept), thousands(d.accepted("rejected"))),
	}
	plain := fmt.Sprintf("%s sent, %s kept", thousands(sent), thousands(kept))
	for i, r := range demoReceivers() {
		t := d.tally(r)
		done := t.sent + t.filtered + t.skipped
		text := fmt.Sprintf("  %-12s %s %7s delivered", "→ "+r.name, bar(done, done+t.waiting, width), thousands(t.sent))
		for _, part := range []struct {
			n    int64
			what string
		}{{t.filtered, "filtered"}, {t.skipped, "skipped"}, {t.retried, "retried"}, {t.waiting, "waiting"}} {
			if part.n > 0 {
				text += fmt.Sprintf(", %s %s", thousands(part.n), part.what)
			}
		}
		if d.receivers[i].news().Away {
			text += "  (down)"
		}
		lines = append(lines, text)
		plain += fmt.Sprintf("; %s %s", r.name, thousands(t.sent))
	}
	d.screen.draw(append(lines, ""), plain)
}

// summary is what is left on standard output.
func (d *demo) summary() {
	took := d.p.now().Sub(d.start)
	d.p.printf("%s received and kept, %s refused at the door, in %s\n", thousands(d.accepted("accepted")), thousands(d.accepted("rejected")), since(took))
	head := []string{"receiver", "sent", "filtered", "retried", "skipped", "waiting"}
	var rows [][]string
	for _, r := range demoReceivers() {
		t := d.tally(r)
		rows = append(rows, []string{r.name, thousands(t.sent), thousands(t.filtered), thousands(t.retried), thousands(t.skipped), thousands(t.waiting)})
	}
	d.p.print(columns(head, rows))
}
