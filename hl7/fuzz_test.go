package hl7_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
)

// seeds are invented messages, each for one thing that went wrong in somebody's parser.
func seeds() []string {
	return []string{
		admit,
		"MSH|^~\\&|||||||ADT|1|P|2.1\r",
		"MSH|^~\\&#|A|B|C|D|||ORU^R01^ORU_R01|7|P|2.7\rOBX|1|TX|||cut off#\r",
		"MSH$*!/%$A$B$C$D$$$ADT*A01$1$P$2.5\rPID$1$$a*b%c!d\r",
		"MSH|^~&|no escape\rPID|1||a&b\r",
		"MSH|^\\&|no repetition\rPID|1||a~b\r",
		"MSH|^~\\\\&|doubled escape\rPID|1||a&b\r",
		"MSH||empty MSH-2\rPID|1||a^b\r",
		"MSH|^~\\&\rPID\rZZ\rlower|x\r\r\nOBX|1|TX|||line\nbreak\nNTE|1\r",
		"MSH|^~\\&|A\nPID|1\n\n\nOBX|1\r\nOBX|2\n",
		"MSH|^~\\&|||||||ADT^A01|1|P|2.3||||||~ISO IR87\rPID|1||||\x1b$B;3ED\x1b(B^\x1b$B2V;R\x1b(B\r",
		"MSH|^~\\&|||||||ADT^A01|1|P|2.3||||||GB 18030-2000\rPID|1||||\x81|\x81^\x81\x7c^b\r",
		"MSH|^~\\&|||||||ADT^A01|1|P|2.3||||||8859/1\rPID|1||||M\xfcller \x80\r",
		"MSH|^~\\&|||||||ADT^A01|1|P|2.3\rPID|1||||M\xfcller\r",
		"MSH|^~\\&|||||||ADT^A01|1|P|2.3||||||UNICODE UTF-8\rPID|1||||M\xfcller\U0010FE80\r",
		"\xfe\xff\x00M\x00S\x00H\x00|\x00^\x00~\x00\\\x00&\x00|\xd8\x00\x00\r",
		"FHS|^~\\&\rBHS|^~\\&\rMSH|^~\\&|A\rPID|1\rMSH|^~\\&|B\rBTS|2\rFTS|1\r",
		"junk\rMSH|^~\\&|||||||ADT^A01|CTL|P|2.3\r",
		"\\\\\\\\F\\X\\X4\\X41\\.br\\\\H\\",
	}
}

// FuzzParse: a legible message comes back byte for byte, and a second, slow parser finds the same leaves.
func FuzzParse(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		before := bytes.Clone(in)
		m, err := hl7.Parse(in)
		if err != nil {
			var syntax *hl7.SyntaxError
			if !errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(in) {
				t.Fatalf("refused with %#v", err)
			}
			return
		}
		if !bytes.Equal(m.Bytes(), before) {
			t.Fatal("an untouched message changed")
		}
		m.CheckText()
		type leaf struct {
			path hl7.Path
			raw  string
		}
		var leaves []leaf
		m.Walk(func(p hl7.Path, raw []byte) bool {
			got, ok := m.Raw(p)
			if !ok || !bytes.Equal(got, raw) {
				t.Fatalf("Walk and Raw disagree about %s: %q, %q", p, raw, got)
			}
			m.Get(p)
			leaves = append(leaves, leaf{p, string(raw)})
			return true
		})
		c := m.Clone()
		if err := c.Set(hl7.MustPath("ZZZ-1"), "x"); err == nil {
			if err := c.Delete(hl7.Path{Segment: "ZZZ", SegmentRep: -1}); err != nil {
				t.Fatal(err)
			}
			tail := bytes.TrimPrefix(c.Bytes(), before)
			if m.Count("ZZZ") == 0 && len(tail) > 2 {
				t.Fatalf("adding a segment and taking it away left %q", tail)
			}
		}
		if !bytes.Equal(in, before) || !bytes.Equal(m.Bytes(), before) {
			t.Fatal("editing a clone wrote to the message")
		}
		switch m.Charset() {
		case "UNICODE UTF-16", "ISO IR87", "SHIFT_JIS", "GB 18030-2000", "BIG-5":
			return // the slow parser does not know that separators may be halves of characters
		}
		want := slowParse(string(in))
		for i, l := range leaves {
			if i >= len(want) || want[i].path != l.path || want[i].raw != l.raw {
				t.Fatalf("leaf %d is %s %q; the slow parser has %+v", i, l.path, l.raw, want[min(i, len(want)-1)])
			}
		}
		if len(want) != len(leaves) {
			t.Fatalf("%d leaves; the slow parser has %d", len(leaves), len(want))
		}
	})
}

type slowLeaf struct {
	path hl7.Path
	raw  string
}

// slowParse is the standard read as plainly as can be: split, split, split. It takes what Parse took.
func slowParse(in string) (leaves []slowLeaf) {
	in = strings.TrimPrefix(in, "\xEF\xBB\xBF")
	in = strings.TrimLeft(in, "\r\n \t")
	m, err := hl7.Parse([]byte(in))
	if err != nil {
		return nil
	}
	sep := m.Separators()
	isName := func(s string) bool {
		if len(s) < 3 || len(s) > 3 && s[3] != sep.Field {
			return false
		}
		for _, c := range []byte(s[:3]) {
			if !('A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9') {
				return false
			}
		}
		return true
	}
	split := func(s string, c byte) []string {
		if c == 0 {
			return []string{s}
		}
		return strings.Split(s, string([]byte{c}))
	}
	hasCR := strings.Contains(in, "\r")
	var lines []string
	for _, byCR := range strings.Split(in, "\r") {
		current := ""
		for i, byLF := range strings.Split(byCR, "\n") {
			switch {
			case i == 0:
				current = byLF
			case !hasCR || byLF == "" || isName(byLF) && 'A' <= byLF[0] && byLF[0] <= 'Z':
				lines = append(lines, current)
				current = byLF
			default:
				current += "\n" + byLF
			}
		}
		lines = append(lines, current)
	}
	reps := make(map[string]int)
	for _, line := range lines {
		line = strings.TrimLeft(line, "\n")
		if line == "" {
			continue
		}
		if !isName(line) {
			reps[""]++
			leaves = append(leaves, slowLeaf{hl7.Path{SegmentRep: reps[""]}, line})
			continue
		}
		name := line[:3]
		reps[name]++
		p := hl7.Path{Segment: name, SegmentRep: reps[name]}
		if len(line) == 3 {
			continue
		}
		fields := split(line[4:], sep.Field)
		if name == "MSH" || name == "FHS" || name == "BHS" {
			fields = append([]string{line[3:4]}, fields...)
		}
		for i, field := range fields {
			p.Field = i + 1
			if field == "" {
				continue
			}
			if (name == "MSH" || name == "FHS" || name == "BHS") && i < 2 {
				p.Rep, p.Component, p.Subcomponent = 1, 0, 0
				leaves = append(leaves, slowLeaf{p, field})
				continue
			}
			for j, rep := range split(field, sep.Repetition) {
				comps := split(rep, sep.Component)
				for k, comp := range comps {
					subs := split(comp, sep.Subcomponent)
					for l, sub := range subs {
						p.Rep, p.Component, p.Subcomponent = j+1, k+1, l+1
						if len(subs) == 1 {
							p.Subcomponent = 0
							if len(comps) == 1 {
								p.Component = 0
							}
						}
						if sub != "" {
							leaves = append(leaves, slowLeaf{p, sub})
						}
					}
				}
			}
		}
	}
	return leaves
}

// FuzzEscape: what is escaped holds nothing dangerous, and comes back as it was; what is not escaped survives.
func FuzzEscape(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, truncation bool) {
		sep := hl7.Recommended()
		if truncation {
			sep.Truncation = '#'
		}
		e := hl7.Escape(sep, s)
		if i := strings.IndexAny(e, "|^~&\r\n\x0b\x1c\x1b"); i >= 0 {
			t.Fatalf("byte %d of the escaped text is dangerous: %q", i, e)
		}
		if back := hl7.Unescape(sep, e); back != s {
			t.Fatalf("%q was escaped as %q, and came back as %q", s, e, back)
		}
		if u := hl7.Unescape(sep, s); !strings.Contains(s, `\`) && u != s {
			t.Fatalf("%q without an escape became %q", s, u)
		}
		sep.Escape = 0
		if i := strings.IndexAny(hl7.Escape(sep, s), "|^~&\r\n\x0b\x1c\x1b"); i >= 0 {
			t.Fatalf("without an escape character, byte %d is dangerous", i)
		}
	})
}

// FuzzEdit: what was set is read back, in the message and after parsing it again, and no other field changed.
func FuzzEdit(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s), uint8(1), int8(0), uint8(3), int8(0), uint8(1), uint8(0), "a|b\r\x1c", false)
		f.Add([]byte(s), uint8(2), int8(2), uint8(5), int8(3), uint8(2), uint8(2), "Müller ^ 山田", false)
		f.Add([]byte(s), uint8(1), int8(-1), uint8(5), int8(0), uint8(0), uint8(0), "a~b^c&d", true)
		f.Add([]byte(s), uint8(1), int8(0), uint8(4), int8(1), uint8(0), uint8(0), "\x81|\x1b$B;3", true)
	}
	f.Fuzz(func(t *testing.T, in []byte, segment uint8, segmentRep int8, field uint8, rep int8, component, subcomponent uint8, value string, raw bool) {
		m, err := hl7.Parse(in)
		if err != nil {
			return
		}
		names := []string{"MSH", "ZZ1"}
		lineBreaks := false
		for _, s := range m.Segments() {
			names = append(names, s.Name)
			lineBreaks = lineBreaks || bytes.IndexByte(s.Raw, '\n') >= 0
		}
		p := hl7.Path{Segment: names[int(segment)%len(names)], SegmentRep: int(segmentRep), Field: int(field), Rep: int(rep),
			Component: int(component), Subcomponent: int(subcomponent)}
		if p.Segment == "MSH" && p.Field == 18 || lineBreaks {
			return // changes how everything else is read; or a break in a text may begin to look like a segment
		}
		before := m.Clone()
		if raw {
			err = m.SetRaw(p, []byte(value))
		} else {
			err = m.Set(p, value)
		}
		if err != nil {
			if !bytes.Equal(m.Bytes(), in) {
				t.Fatalf("refused with %v, and changed", err)
			}
			return
		}
		again, err := hl7.Parse(m.Bytes())
		if err != nil {
			t.Fatalf("after the edit: %v", err)
		}
		if p.Segment == "MSH" && again.Charset() != before.Charset() {
			return // a name in front of MSH-18 hid where that is, and does no more
		}
		switch {
		case p.Field == 0:
		case raw:
			if got, _ := m.Raw(p); string(got) != value {
				t.Fatalf("set %q, got %q", value, got)
			}
			if got, _ := again.Raw(p); string(got) != value {
				t.Fatalf("set %q, and after parsing again got %q", value, got)
			}
		case value != `""`:
			if got := m.Get(p); got != value {
				t.Fatalf("set %q, got %q", value, got)
			}
			if got := again.Get(p); got != value && isPlain([]byte(value)) {
				t.Fatalf("set %q, and after parsing again got %q", value, got)
			}
		}
		was, is := fields(before), fields(again)
		touched := hl7.Path{Segment: p.Segment, SegmentRep: p.SegmentRep, Field: p.Field}
		switch n := m.Count(p.Segment); {
		case p.SegmentRep == 0:
			touched.SegmentRep = 1
		case p.SegmentRep < 0:
			touched.SegmentRep = n + 1 + p.SegmentRep
		}
		if p.Field == 0 {
			return // another segment, which may have another name
		}
		for q, raw := range was {
			if q != touched && is[q] != raw {
				t.Fatalf("setting %s changed %s from %q to %q", p, q, raw, is[q])
			}
		}
		for q := range is {
			if _, ok := was[q]; !ok && q != touched {
				t.Fatalf("setting %s made %s", p, q)
			}
		}
	})
}

// fields are the values of each field of a message.
func fields(m *hl7.Message) map[hl7.Path]string {
	all := make(map[hl7.Path]string)
	m.Walk(func(p hl7.Path, raw []byte) bool {
		all[shallow(p)] += string(raw) + "\x00"
		return true
	})
	return all
}

// shallow is the field of a leaf.
func shallow(p hl7.Path) hl7.Path {
	return hl7.Path{Segment: p.Segment, SegmentRep: p.SegmentRep, Field: p.Field}
}

func isPlain(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 || c == 0x1b {
			return false
		}
	}
	return true
}

// FuzzPath: an address that is read is written the same way again.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"PID", "PID-3", "PID-3(2).4.2", "OBX(*)-5", "OBX(-1)-5(*).1", "ZZ1(3)", "pid-3", "PID-03", "PID-3[1]", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := hl7.ParsePath(s)
		if err != nil {
			var wrong *hl7.PathError
			if !errors.As(err, &wrong) || wrong.Column < 1 || wrong.Column > len(s)+1 {
				t.Fatalf("%q is refused with %#v", s, err)
			}
			return
		}
		if p.String() != s {
			t.Fatalf("%q is written as %q", s, p)
		}
	})
}

// FuzzSplitBatch: no byte is lost, and every message begins with MSH.
func FuzzSplitBatch(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var together []byte
		n := 0
		for part := range hl7.SplitBatch(in) {
			if part.Offset != len(together) || len(part.Raw) == 0 {
				t.Fatalf("a part at %d with %d bytes, behind %d", part.Offset, len(part.Raw), len(together))
			}
			together = append(together, part.Raw...)
			if part.Kind == hl7.StrayPart && n > 0 {
				t.Fatal("stray bytes behind the first part")
			}
			n++
		}
		if !bytes.Equal(together, in) {
			t.Fatal("splitting lost bytes")
		}
	})
}

// FuzzAck: whatever came, the answer is a message in one frame that acknowledges it.
func FuzzAck(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s), "text", "PID-3.1", "101")
	}
	f.Fuzz(func(t *testing.T, in []byte, text, location, code string) {
		a := hl7.Ack{Code: hl7.AE, Text: text, ControlID: "OWN", Time: time.Unix(0, 0).UTC(),
			Errors: []hl7.AckError{{Location: location, Code: code, Text: text, UserMessage: text}}}
		m, err := hl7.Parse(in)
		var out []byte
		if err == nil {
			out = hl7.NewAck(m, a)
		} else {
			out = hl7.NewAckRaw(in, a)
		}
		r, ackErr := hl7.ParseAck(out)
		if ackErr != nil || r.Code != hl7.AE {
			t.Fatalf("the answer %q is read as %+v, %v", out, r, ackErr)
		}
		if err == nil && r.ControlID != m.ControlID() {
			t.Fatalf("the message is %q, its answer acknowledges %q", m.ControlID(), r.ControlID)
		}
		answer, err := hl7.Parse(out)
		if err != nil {
			t.Fatal(err)
		}
		if answer.ControlID() != "OWN" || answer.Count("MSH") != 1 || answer.Count("MSA") != 1 {
			t.Fatalf("the answer is %q", out)
		}
		if answer.Charset() != "UNICODE UTF-16" && bytes.ContainsAny(out, "\x0b\x1c\n") {
			t.Fatalf("the answer breaks its frame: %q", out)
		}
	})
}
