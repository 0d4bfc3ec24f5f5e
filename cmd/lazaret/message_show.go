package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/hl7/dictionary"
	"github.com/lazaret-health/lazaret/internal/engine"
)

func (p *program) messageShow(ctx context.Context, args []string) error {
	r := newRemote("message show")
	purpose, sent := r.String("purpose", defaultPurpose, ""), r.String("sent", "", "")
	raw := r.Bool("raw", false, "")
	ids, err := r.arguments(args, "ID")
	if err == nil {
		err = checkPurpose(r.flagSet, *purpose)
	}
	if out, ok := p.stdout.(*os.File); err == nil && *raw && ok && isTerminal(out) {
		err = usage("--raw would send the message's control characters to this terminal: pipe it, or leave --raw out", r.command)
	}
	if err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := c.Show(ctx, *purpose, ids[0])
	if err != nil {
		return err
	}
	content := d.Content
	if *sent != "" {
		if b, ok := d.Sent[*sent]; ok {
			content = b
		} else if !sentTo(d.Deliveries, *sent) {
			return fmt.Errorf("nothing was sent to %q yet", *sent)
		}
	}
	switch {
	case *raw:
		_, err := p.stdout.Write(content)
		return err
	case *r.json:
		return p.json(d)
	}
	names, err := dictionary.Open()
	if err != nil {
		return err
	}
	p.printf("%s  %s, taken by channel %s at %s\n", d.ID, clean(cmp.Or(d.Type, "not legible")), clean(d.Channel), stamp(d.AcceptedAt))
	if d.Reason != "" {
		p.printf("rejected: %s\n", clean(d.Reason))
	}
	p.print("\n" + tree(content, names))
	return nil
}

// sentTo says whether a destination has got the message as it came.
func sentTo(list []engine.Delivery, destination string) bool {
	return slices.ContainsFunc(list, func(d engine.Delivery) bool { return d.Destination == destination && d.State == "sent" })
}

// maxShownValue is how much of a value the tree shows; a document in OBX-5 is megabytes.
const maxShownValue = 200

// tree shows each value of a message below its segment, with the names of the message's version. What cannot be read as a
// message is shown as its beginning, escaped.
func tree(content []byte, names *dictionary.Dictionary) string {
	m, err := hl7.Parse(content)
	if err != nil {
		return fmt.Sprintf("not legible: %v\n%s\n", err, clean(shorten(string(content[:min(len(content), 4*maxShownValue)]))))
	}
	version, _ := names.Version(m.Version())
	var b strings.Builder
	segment, field := hl7.Path{}, hl7.Path{}
	m.Walk(func(p hl7.Path, _ []byte) bool {
		if p.Segment != segment.Segment || p.SegmentRep != segment.SegmentRep {
			segment, field = hl7.Path{Segment: p.Segment, SegmentRep: p.SegmentRep}, hl7.Path{}
			b.WriteString(segmentHead(m, version, segment))
		}
		if p.Segment == "" { // a line that is no segment has no fields
			b.WriteString("    " + clean(shorten(m.Get(p))) + "\n")
			return true
		}
		head := hl7.Path{Segment: p.Segment, SegmentRep: p.SegmentRep, Field: p.Field, Rep: p.Rep}
		if p.Component == 0 {
			b.WriteString(row(4, address(m, head), fieldName(version, p), m.Get(p)))
			return true
		}
		if head != field {
			field = head
			b.WriteString(row(4, address(m, head), fieldName(version, head), ""))
		}
		b.WriteString(row(8, part(p), partName(version, p), m.Get(p)))
		return true
	})
	return b.String()
}

func segmentHead(m *hl7.Message, v *dictionary.Version, p hl7.Path) string {
	text := p.Segment
	if p.Segment == "" {
		text = "(no segment)"
	} else if s, ok := v.Segment(p.Segment); ok {
		text += "  " + s.Name
	}
	if m.Count(p.Segment) > 1 && p.Segment != "" {
		text = fmt.Sprintf("%s(%d)%s", p.Segment, p.SegmentRep, strings.TrimPrefix(text, p.Segment))
	}
	return clean(text) + "\n"
}

// address is the field as a filter or a step would write it: PID-3(2), and no number for what there is only one of.
func address(m *hl7.Message, p hl7.Path) string {
	text := fmt.Sprintf("%s-%d", p.Segment, p.Field)
	if m.Count(p.Segment) > 1 {
		text = fmt.Sprintf("%s(%d)-%d", p.Segment, p.SegmentRep, p.Field)
	}
	if m.Repetitions(p) > 1 {
		text += fmt.Sprintf("(%d)", p.Rep)
	}
	return text
}

func part(p hl7.Path) string {
	if p.Subcomponent > 0 {
		return fmt.Sprintf(".%d.%d", p.Component, p.Subcomponent)
	}
	return fmt.Sprintf(".%d", p.Component)
}

func fieldName(v *dictionary.Version, p hl7.Path) string {
	f, _ := v.Field(p.Segment, p.Field)
	return f.Name
}

func partName(v *dictionary.Version, p hl7.Path) string {
	names, ok := v.Names(p.Segment, p.Field, p.Component, p.Subcomponent)
	if !ok || len(names) < 2 {
		return ""
	}
	return names[len(names)-1]
}

// row is one line of the tree. Values come last, for their length is anybody's guess.
func row(indent int, address, name, value string) string {
	text := fmt.Sprintf("%s%-12s %-36s %s", strings.Repeat(" ", indent), address, name, shorten(value))
	return clean(strings.TrimRight(text, " ")) + "\n"
}

func shorten(value string) string {
	if len(value) <= maxShownValue {
		return value
	}
	return fmt.Sprintf("%s … (%s bytes)", strings.ToValidUTF8(value[:maxShownValue], ""), thousands(int64(len(value))))
}
