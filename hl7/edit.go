package hl7

import (
	"bytes"
	"fmt"
	"slices"
)

// An EditError says why an element cannot be changed so. It holds no content.
type EditError struct {
	Path   Path
	Reason string
}

func (e *EditError) Error() string {
	if e.Path.Segment == "" {
		return "hl7: change the message: " + e.Reason
	}
	return fmt.Sprintf("hl7: change %s: %s", e.Path, e.Reason)
}

// Set makes value, a UTF-8 text, the value of an element. It is escaped as Escape does and written in the message's
// character set, so that no byte of it can begin another element, a segment or a frame. The whole element is replaced, with
// the parts it had; what is missing before it (components, repetitions, fields, and the segment, which is appended) is
// made. With a wildcard, every segment and every repetition there is gets the value. A value of two quotes is null, as in
// SetNull.
//
// A value that the character set does not have is a *CharsetError, and a place that cannot be set an *EditError; either
// way the message stays as it was.
func (m *Message) Set(p Path, value string) error {
	if m.sep.Escape == 0 && Escape(m.sep, value) != value {
		return &EditError{p, "the value holds a separator, and MSH-2 declares no character to escape it with"}
	}
	raw, err := m.encode(Escape(m.sep, value))
	if err != nil {
		return fmt.Errorf("set %s: %w", p, err)
	}
	if p.Field == 0 {
		return &EditError{p, "a segment is no value; address a field of it, or use SetRaw"}
	}
	return m.replace(p, raw)
}

// SetNull makes an element null, the two characters "": the receiver is to delete its value (2.5.3).
func (m *Message) SetNull(p Path) error {
	if p.Field == 0 {
		return &EditError{p, "a segment cannot be null"}
	}
	return m.replace(p, []byte(`""`))
}

// SetRaw makes raw, which is in wire form already, the content of an element. It makes what is missing as Set does. raw may
// hold the separators of levels below the element (a whole field its repetitions, a component its subcomponents), and is
// refused with an *EditError where it would break out of the element: with a separator above that, CR, LF, the bytes that
// frame MLLP, or half a character that would swallow the separator behind it.
func (m *Message) SetRaw(p Path, raw []byte) error {
	if p.Field == 0 {
		return m.replaceSegments(p, raw)
	}
	return m.replace(p, raw)
}

func (m *Message) replace(p Path, raw []byte) error {
	if err := m.checkPlace(p); err != nil {
		return err
	}
	if err := m.checkRaw(p, raw); err != nil {
		return err
	}
	if p.SegmentRep == Any {
		return m.replaceEvery(p, raw)
	}
	i, ok := m.find(p.Segment, p.SegmentRep)
	if !ok {
		if p.Rep == Any || len(raw) == 0 {
			return nil
		}
		if p.Rep < 0 {
			return &EditError{p, fewerRepetitions}
		}
		have := m.Count(p.Segment)
		if rep := max(p.SegmentRep, 1); p.SegmentRep < 0 || rep != have+1 {
			return &EditError{p, fmt.Sprintf("the message has %d such segments; only the next can be made", have)}
		}
		if err := m.AppendSegment([]byte(p.Segment + string(m.sep.Field))); err != nil {
			return err
		}
		i = len(m.segs) - 1
	}
	if p.Rep < 0 && p.Rep != Any {
		f, ok := m.field(i, p.Field)
		if ok {
			_, ok = nth(m.maskOf(i), f, m.sep.Repetition, p.Rep)
		}
		if !ok {
			return &EditError{p, fewerRepetitions}
		}
	}
	changes, err := m.changes(i, p)
	if err == nil {
		m.apply(i, changes, raw)
	}
	return err
}

// replaceEvery changes every segment of the name, or none.
func (m *Message) replaceEvery(p Path, raw []byte) error {
	var err error
	each := func(fn func(i int, changes []change)) {
		m.eachSegment(p, func(i, _ int) {
			if err != nil {
				return
			}
			var changes []change
			if changes, err = m.changes(i, p); err == nil {
				fn(i, changes)
			}
		})
	}
	if m.charset.masks() { // nothing else can be refused so late
		each(func(int, []change) {})
	}
	each(func(i int, changes []change) { m.apply(i, changes, raw) })
	return err
}

const fewerRepetitions = "there are fewer repetitions, and counting from the end makes none"

// checkPlace refuses addresses that mean nothing, or would change how the whole message is read.
func (m *Message) checkPlace(p Path) error {
	switch {
	case len(m.segs) == 0:
		return &EditError{p, "there is no message"}
	case !validSegment(p.Segment):
		return &EditError{p, "a segment's name is a capital letter and two letters or digits"}
	case p.Field < 1 || p.Field > maxPlace || p.Component < 0 || p.Component > maxPlace || p.Subcomponent < 0 || p.Subcomponent > maxPlace:
		return &EditError{p, fmt.Sprintf("fields, components and subcomponents count from 1 to %d", maxPlace)}
	case p.Component == 0 && p.Subcomponent != 0:
		return &EditError{p, "a subcomponent without its component"}
	case p.Rep > maxRep || p.SegmentRep > maxRep:
		return &EditError{p, fmt.Sprintf("repetitions count to %d", maxRep)}
	}
	if n, _ := nameOfString(p.Segment); n.header() && p.Field <= 2 {
		return &EditError{p, "the first two fields of a header are the separators of everything behind them"}
	}
	if p.Rep > 1 && m.sep.Repetition == 0 || p.Component > 1 && m.sep.Component == 0 || p.Subcomponent > 1 && m.sep.Subcomponent == 0 {
		return &EditError{p, "MSH-2 declares no separator for it"}
	}
	return nil
}

func validSegment(s string) bool {
	if len(s) != 3 || s[0] < 'A' || s[0] > 'Z' {
		return false
	}
	for _, c := range []byte(s[1:]) {
		if !('A' <= c && c <= 'Z' || '0' <= c && c <= '9') {
			return false
		}
	}
	return true
}

// checkRaw refuses wire bytes that would not stay inside the element.
func (m *Message) checkRaw(p Path, raw []byte) error {
	if err := m.checkBytes(p, raw); err != nil {
		return err
	}
	if !m.closed(raw) {
		return &EditError{p, "the bytes end in half a character, or without shifting back to ASCII"}
	}
	mask := m.maskText(raw)
	forbidden := []byte{m.sep.Field}
	if p.Rep != 0 || p.Component != 0 {
		forbidden = append(forbidden, m.sep.Repetition)
	}
	if p.Component != 0 {
		forbidden = append(forbidden, m.sep.Component)
	}
	if p.Subcomponent != 0 {
		forbidden = append(forbidden, m.sep.Subcomponent)
	}
	for _, c := range forbidden {
		if c != 0 && bytes.IndexByte(mask, c) >= 0 {
			return &EditError{p, "the bytes hold a separator above the element's own level"}
		}
	}
	return nil
}

// checkBytes refuses what can stand nowhere in a message.
func (m *Message) checkBytes(p Path, raw []byte) error {
	for _, c := range raw {
		if breaks(c) && !(c == 0x1B && m.charset == charsetISO2022JP) {
			return &EditError{p, "the bytes end a segment or a frame, or shift to another character set"}
		}
	}
	if m.utf16 != utf16None && !bytes.Equal(raw, m.utf16.decode(nil, m.utf16.encode(nil, raw))) {
		return &EditError{p, "the message is UTF-16, and the bytes are not valid UTF-8 to be written so"}
	}
	return nil
}

// checkSegment refuses bytes that are not exactly one segment.
func (m *Message) checkSegment(p Path, raw []byte) error {
	switch {
	case len(m.segs) == 0:
		return &EditError{p, "there is no message"}
	case readName(raw, m.sep.Field) == 0:
		return &EditError{p, "a segment begins with a name of three letters or digits and the message's field separator"}
	}
	// It would end this message for the reader, and begin another or a batch.
	if _, envelope := partKind(raw); envelope && string(raw[:3]) != p.Segment {
		return &EditError{p, "MSH and the segments of batches begin something new; a message has none but its first"}
	}
	if err := m.checkBytes(p, raw); err != nil {
		return err
	}
	return nil
}

func (m *Message) replaceSegments(p Path, raw []byte) error {
	if err := m.checkSegment(p, raw); err != nil {
		return err
	}
	if !p.HasWildcard() {
		if _, ok := m.find(p.Segment, p.SegmentRep); !ok {
			return &EditError{p, "there is no such segment; use AppendSegment"}
		}
	}
	text := slices.Clone(raw)
	n := readName(text, m.sep.Field)
	var err error
	m.eachSegment(p, func(i, _ int) {
		if i == 0 && (n != nameMSH || !sameSeparators(text, m.text(0), m.sep.Field)) {
			err = &EditError{p, "the first segment stays MSH, with the separators it has"}
			return
		}
		m.segs[i].name = n
		m.moved()
		m.own(i, text)
	})
	return err
}

func sameSeparators(a, b []byte, field byte) bool {
	return bytes.Equal(separatorsPart(a, field), separatorsPart(b, field))
}

// separatorsPart is MSH up to the end of MSH-2.
func separatorsPart(b []byte, field byte) []byte {
	if len(b) < 4 {
		return b
	}
	if i := bytes.IndexByte(b[4:], field); i >= 0 {
		return b[:4+i]
	}
	return b
}

// A change puts raw into a segment's text in place of [at:end), behind the separators that were missing.
type change struct {
	span
	fields, reps, components, subcomponents int
}

// changes are the places of segment i that p means, found in one pass over the text: a field with many thousand
// repetitions costs as much as it is long.
func (m *Message) changes(i int, p Path) ([]change, error) {
	mask := m.maskOf(i)
	var changes []change
	if p.Rep == Any {
		f, ok := m.field(i, p.Field)
		if !ok {
			return nil, nil
		}
		m.eachRep(i, f, p.Field, func(_ int, r span) {
			c := change{span: r}
			m.descend(mask, &c, p)
			changes = append(changes, c)
		})
	} else {
		c := change{}
		n := p.Field
		first := span{min(4, len(mask)), len(mask)}
		if m.segs[i].name.header() {
			n--
		}
		switch {
		case len(mask) < 4:
			c.span, c.fields = span{len(mask), len(mask)}, n
		default:
			m.step(mask, &c, first, m.sep.Field, n, &c.fields)
		}
		if p.Rep != 0 || p.Component != 0 {
			rep := p.Rep
			if rep == 0 {
				rep = 1
			}
			m.step(mask, &c, c.span, m.sep.Repetition, rep, &c.reps)
		}
		m.descend(mask, &c, p)
		changes = append(changes, c)
	}
	if n := len(changes); n > 0 && changes[n-1].missing() > 0 && changes[n-1].at == len(mask) && !m.closed(m.text(i)) {
		return nil, &EditError{p, "the segment ends in half a character, or without shifting back to ASCII; nothing can be put behind that"}
	}
	return changes, nil
}

// closed says whether a separator put behind b is one.
func (m *Message) closed(b []byte) bool {
	if !m.charset.masks() {
		return true
	}
	mask := m.maskText(append(slices.Clone(b), m.sep.Field))
	return mask[len(b)] == m.sep.Field
}

// descend goes from a repetition to the component and subcomponent of an address.
func (m *Message) descend(mask []byte, c *change, p Path) {
	if p.Component != 0 {
		m.step(mask, c, c.span, m.sep.Component, p.Component, &c.components)
	}
	if p.Subcomponent != 0 {
		m.step(mask, c, c.span, m.sep.Subcomponent, p.Subcomponent, &c.subcomponents)
	}
}

// step narrows c to the n-th piece of s, or to its end and the number of separators that are missing there.
func (m *Message) step(mask []byte, c *change, s span, separator byte, n int, missing *int) {
	if piece, ok := nth(mask, s, separator, n); ok {
		c.span = piece
		return
	}
	*missing = n - pieces(mask, s, separator)
	c.span = span{s.end, s.end}
}

func (c *change) missing() int { return c.fields + c.reps + c.components + c.subcomponents }

// apply rewrites segment i with changes that lie in order and do not overlap.
func (m *Message) apply(i int, changes []change, raw []byte) {
	text := m.text(i)
	n := len(text)
	for k := range changes {
		n += changes[k].missing() + len(raw)
	}
	out := make([]byte, 0, n)
	at := 0
	for k := range changes {
		c := &changes[k]
		out = append(out, text[at:c.at]...)
		at = c.end
		if len(raw) == 0 && c.missing() > 0 {
			continue // nothing is put where nothing was
		}
		out = appendRepeated(out, m.sep.Field, c.fields)
		out = appendRepeated(out, m.sep.Repetition, c.reps)
		out = appendRepeated(out, m.sep.Component, c.components)
		out = appendRepeated(out, m.sep.Subcomponent, c.subcomponents)
		out = append(out, raw...)
	}
	m.own(i, append(out, text[at:]...))
}

func appendRepeated(b []byte, c byte, n int) []byte {
	for range n {
		b = append(b, c)
	}
	return b
}

// own gives segment i new content, and looks again at what MSH says if it is that.
func (m *Message) own(i int, text []byte) {
	m.keep(&m.segs[i], owned{text: text, mask: m.maskText(text), term: m.terminator(i)})
	if i == 0 && !m.override {
		if c := m.declaredCharset(); c != m.charset {
			m.setCharset(c)
		}
	}
}

// Delete empties an element. An address that ends in a repetition, as PID-3(2), takes the repetition out; one that is a
// whole segment takes the segment out. With a wildcard, all are meant. What is absent is deleted already.
func (m *Message) Delete(p Path) error {
	if p.Field == 0 {
		return m.deleteSegments(p)
	}
	if err := m.checkPlace(p); err != nil {
		return err
	}
	m.eachSegment(p, func(i, _ int) {
		f, ok := m.field(i, p.Field)
		if !ok {
			return
		}
		switch {
		case p.Rep == Any && p.Component == 0:
			m.apply(i, []change{{span: f}}, nil)
		case p.Rep == Any:
			m.deleteInReps(i, f, p)
		case p.Rep != 0 && p.Component == 0:
			m.deleteRep(i, f, p.Rep)
		default:
			if s, ok := m.within(i, f, &p); ok && s.at < s.end {
				m.apply(i, []change{{span: s}}, nil)
			}
		}
	})
	return nil
}

func (m *Message) deleteInReps(i int, f span, p Path) {
	var changes []change
	m.eachRep(i, f, p.Field, func(_ int, r span) {
		q := p
		q.Rep = 1
		if s, ok := m.within(i, r, &q); ok && s.at < s.end {
			changes = append(changes, change{span: s})
		}
	})
	if len(changes) > 0 {
		m.apply(i, changes, nil)
	}
}

// deleteRep takes a repetition out, with the separator behind it or else the one before.
func (m *Message) deleteRep(i int, f span, rep int) {
	r, ok := nth(m.maskOf(i), f, m.sep.Repetition, rep)
	if !ok || f.at == f.end {
		return
	}
	switch {
	case r.end < f.end:
		r.end++
	case r.at > f.at:
		r.at--
	}
	m.apply(i, []change{{span: r}}, nil)
}

func (m *Message) deleteSegments(p Path) error {
	n, ok := nameOfString(p.Segment)
	if !ok || len(m.segs) == 0 {
		return nil
	}
	first, found := m.find(p.Segment, p.SegmentRep)
	switch {
	case !found:
		return nil
	case first == 0:
		return &EditError{p, "a message cannot be without its MSH"}
	case p.SegmentRep != Any:
		m.segs = slices.Delete(m.segs, first, first+1)
	default:
		m.segs = slices.DeleteFunc(m.segs, func(s segment) bool { return s.name == n })
	}
	m.edited = true
	m.moved()
	return nil
}
