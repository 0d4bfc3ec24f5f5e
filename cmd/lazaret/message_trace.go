package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/internal/engine"
)

func (p *program) messageTrace(ctx context.Context, args []string) error {
	r := newRemote("message trace")
	ids, err := r.arguments(args, "ID")
	if err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	t, err := c.Trace(ctx, ids[0])
	if err != nil {
		return err
	}
	if *r.json {
		return p.json(t)
	}
	p.print(drawTrace(t))
	return nil
}

// drawTrace draws the way of a message, and below it what is on record.
func drawTrace(t engine.Trace) string {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(clean(fmt.Sprintf(format, args...)) + "\n") }
	line("%s  %s  %s, %s bytes", t.ID, cmp.Or(t.Type, "not legible"), cmp.Or(t.ControlID, "no control ID"), thousands(int64(t.Size)))
	if t.From != "" || t.To != "" {
		line("from %s to %s", cmp.Or(t.From, "-"), cmp.Or(t.To, "-"))
	}
	line("")
	line("%s  %s by channel %s, from %s", stamp(t.AcceptedAt), t.Status, t.Channel, t.Peer)
	for _, note := range append(slices.Clone(t.Notes), t.Reason) {
		if note != "" {
			line("   %s", note)
		}
	}
	for i, d := range t.Deliveries {
		fork, stem := "├─", "│ "
		if i == len(t.Deliveries)-1 {
			fork, stem = "└─", "  "
		}
		line(" %s→ %s: %s", fork, d.Destination, deliveryText(d, t.AcceptedAt))
		for _, note := range append(slices.Clone(d.Notes), d.Outcome) {
			if note != "" {
				line(" %s     %s", stem, note)
			}
		}
	}
	if len(t.Entries) == 0 {
		return b.String()
	}
	line("")
	line("on record:")
	var rows [][]string
	for _, e := range t.Entries {
		rows = append(rows, []string{fmt.Sprint(e.Sequence), stamp(e.Time), clean(e.Event), clean(e.Result), clean(strings.TrimSpace(e.OSUser + " " + e.Purpose)), clean(details(e.Details))})
	}
	b.WriteString(columns([]string{"entry", "time", "event", "result", "who, why", "details"}, rows))
	return b.String()
}

func deliveryText(d engine.Delivery, accepted time.Time) string {
	text := d.State
	if !d.SettledAt.IsZero() {
		text += fmt.Sprintf(" at %s, %s after it came", d.SettledAt.Local().Format("15:04:05.000"), since(d.SettledAt.Sub(accepted)))
	}
	switch {
	case d.Attempts > 1:
		text += fmt.Sprintf(", %d attempts", d.Attempts)
	case d.Attempts == 1:
		text += ", 1 attempt"
	}
	if d.SettledAt.IsZero() && !d.NextAt.IsZero() {
		text += ", next at " + d.NextAt.Local().Format("15:04:05.000")
	}
	return text
}

func details(m map[string]any) string {
	var parts []string
	for k, v := range m {
		parts = append(parts, fmt.Sprintf("%s=%v", k, v))
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}
