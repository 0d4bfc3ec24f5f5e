package hl7

import "bytes"

// A span is a part of one segment's text.
type span struct{ at, end int }

// nth is the n-th piece of mask[s.at:s.end] between separators. Negative n counts from the end; separator 0 never separates.
func nth(mask []byte, s span, separator byte, n int) (span, bool) {
	if separator == 0 {
		return s, n == 1 || n == -1
	}
	if n < 0 {
		n += pieces(mask, s, separator) + 1
		if n < 1 {
			return span{}, false
		}
	}
	at := s.at
	if n > 1 {
		after, _ := skip(mask[at:s.end], separator, n-1)
		if after < 0 {
			return span{}, false
		}
		at += after
	}
	return span{at, at + next(mask[at:s.end], separator)}, true
}

// pieces is one more than the number of separators.
func pieces(mask []byte, s span, separator byte) int {
	if separator == 0 {
		return 1
	}
	return bytes.Count(mask[s.at:s.end], []byte{separator}) + 1
}

// field is the place of a field in the segment at index i. MSH-1 is the separator itself (2.14.9.1), so that fields of a
// header count from there.
func (m *Message) field(i, n int) (span, bool) {
	mask := m.maskOf(i)
	s := &m.segs[i]
	switch {
	case s.name == 0 || len(mask) < 4 || n < 1:
		return span{}, false
	case !s.name.header():
		return nth(mask, span{4, len(mask)}, m.sep.Field, n)
	case n == 1:
		return span{3, 4}, true
	case i > 0 || n >= mshIndexed || s.own != 0:
		return nth(mask, span{4, len(mask)}, m.sep.Field, n-1)
	}
	at := m.msh[n]
	if at == 0 {
		return span{}, false
	}
	if n+1 < mshIndexed && m.msh[n+1] != 0 {
		return span{at, m.msh[n+1] - 1}, true
	}
	return nth(mask, span{at, len(mask)}, m.sep.Field, 1)
}

// literal says whether a field holds separators as such, and therefore nothing that they separate.
func (m *Message) literal(i, field int) bool { return field <= 2 && m.segs[i].name.header() }

// within is the part of the field f that an address means.
func (m *Message) within(i int, f span, p *Path) (span, bool) {
	if m.literal(i, p.Field) {
		return f, one(p.Rep) && one(p.Component) && one(p.Subcomponent)
	}
	if p.Rep == 0 && p.Component == 0 {
		return f, true
	}
	mask, ok := m.maskOf(i), true
	rep := p.Rep
	if rep == 0 || rep == Any {
		rep = 1
	}
	if f, ok = nth(mask, f, m.sep.Repetition, rep); !ok || p.Component == 0 {
		return f, ok
	}
	if f, ok = nth(mask, f, m.sep.Component, p.Component); !ok || p.Subcomponent == 0 {
		return f, ok
	}
	return nth(mask, f, m.sep.Subcomponent, p.Subcomponent)
}

func one(n int) bool { return n == 0 || n == 1 || n == -1 || n == Any }

// locate finds what an address means: the segment's index and the place in its text.
func (m *Message) locate(p *Path) (int, span, bool) {
	i, ok := m.find(p.Segment, p.SegmentRep)
	if !ok {
		return 0, span{}, false
	}
	if p.Field == 0 {
		return i, span{0, len(m.text(i))}, true
	}
	f, ok := m.field(i, p.Field)
	if !ok {
		return 0, span{}, false
	}
	s, ok := m.within(i, f, p)
	return i, s, ok
}

// Raw is the wire form of an element: escaped, and in the message's character set (UTF-8 where the message is UTF-16).
// It is false where the element is absent. A wildcard means the first. Raw allocates nothing; the caller must not write
// to what it returns.
func (m *Message) Raw(p Path) ([]byte, bool) {
	i, s, ok := m.locate(&p)
	if !ok {
		return nil, false
	}
	return m.text(i)[s.at:s.end:s.end], true
}

// Presence tells the ways of having no value apart.
type Presence uint8

const (
	// Absent: the segment or field ends before the element.
	Absent Presence = iota
	// Empty: the element's place is there, with nothing in it. It means the same as Absent (2.5.3): nothing is said.
	Empty
	// Null: the two characters "". The value is to be deleted (2.5.3).
	Null
	// Present: there is a value.
	Present
)

func (p Presence) String() string {
	switch p {
	case Absent:
		return "absent"
	case Empty:
		return "empty"
	case Null:
		return "null"
	default:
		return "present"
	}
}

// Presence says whether an element has a value. A wildcard means the first.
func (m *Message) Presence(p Path) Presence {
	raw, ok := m.Raw(p)
	switch {
	case !ok:
		return Absent
	case len(raw) == 0:
		return Empty
	case string(raw) == `""`:
		return Null
	}
	return Present
}

// Get is an element's text in UTF-8, with its escapes resolved; "" where it is absent, empty or null.
//
// An element that has parts (a field with components or repetitions, a component with subcomponents, a segment) comes with
// its separators, and then its escapes are kept: resolved, nobody could tell them from separators. Formatting escapes
// such as \.br\ and \H\ are kept always, and so are malformed ones. To copy an element as it is, use Raw and SetRaw.
//
// Bytes that are wrong in the message's character set come as stand-ins, U+10FE80 to U+10FEFF for the bytes 0x80 to 0xFF.
// Set turns them into the same bytes again, and CheckText says where they are.
func (m *Message) Get(p Path) string {
	i, s, ok := m.locate(&p)
	if !ok {
		return ""
	}
	raw := m.text(i)[s.at:s.end]
	if len(raw) == 0 || string(raw) == `""` {
		return ""
	}
	escapes := m.sep.Escape != 0 && !m.literal(i, p.Field)
	if plain(raw, m.sep.Escape, escapes) {
		return string(raw)
	}
	mask := m.maskOf(i)[s.at:s.end]
	if !escapes || bytes.IndexByte(mask, m.sep.Escape) < 0 || m.structured(mask, p) {
		return m.decode(raw)
	}
	if m.charset == charsetISO2022JP {
		return Unescape(m.sep, m.decode(raw)) // the other way round, an ESC that was escaped would begin a shift
	}
	return m.decode(unescape(nil, raw, mask, m.sep))
}

// plain says whether b is ASCII without escapes, which every character set but a few leaves as it is.
func plain(b []byte, escape byte, escapes bool) bool {
	for _, c := range b {
		if c >= 0x80 || c == 0x1B || c == escape && escapes {
			return false
		}
	}
	return true
}

// structured says whether an element has parts below the level of its address.
func (m *Message) structured(mask []byte, p Path) bool {
	has := func(c byte) bool { return c != 0 && bytes.IndexByte(mask, c) >= 0 }
	if p.Field == 0 {
		return true
	}
	if p.Subcomponent != 0 {
		return false
	}
	if has(m.sep.Subcomponent) {
		return true
	}
	if p.Component != 0 {
		return false
	}
	return has(m.sep.Component) || p.Rep == 0 && has(m.sep.Repetition)
}

// Repetitions says how many repetitions a field has: 0 where it is absent or empty. Of p, only segment and field count.
func (m *Message) Repetitions(p Path) int {
	i, s, ok := m.locate(&Path{Segment: p.Segment, SegmentRep: p.SegmentRep, Field: p.Field})
	if !ok || p.Field == 0 || s.at == s.end {
		return 0
	}
	if m.literal(i, p.Field) {
		return 1
	}
	return pieces(m.maskOf(i), s, m.sep.Repetition)
}

// Expand is what an address with wildcards means: the addresses without, in order, of every element that is there. An
// address without wildcards gives itself, or nothing where the element is absent.
func (m *Message) Expand(p Path) []Path {
	if !p.HasWildcard() {
		if _, _, ok := m.locate(&p); ok {
			return []Path{p}
		}
		return nil
	}
	var paths []Path
	m.eachSegment(p, func(i, rep int) {
		q := p
		q.SegmentRep = rep
		if p.Field == 0 {
			paths = append(paths, q)
			return
		}
		f, ok := m.field(i, p.Field)
		if !ok {
			return
		}
		if p.Rep != Any {
			if _, ok := m.within(i, f, &p); ok {
				paths = append(paths, q)
			}
			return
		}
		m.eachRep(i, f, p.Field, func(n int, r span) {
			q.Rep = n
			one := q
			one.Rep = 1
			if _, ok := m.within(i, r, &one); ok {
				paths = append(paths, q)
			}
		})
	})
	return paths
}

// eachSegment calls fn with the index of every segment that p's segment part means, and the SegmentRep that means it.
func (m *Message) eachSegment(p Path, fn func(i, rep int)) {
	if p.SegmentRep != Any {
		if i, ok := m.find(p.Segment, p.SegmentRep); ok {
			fn(i, p.SegmentRep)
		}
		return
	}
	n, ok := nameOfString(p.Segment)
	if !ok {
		return
	}
	rep := 0
	for i := 0; i < len(m.segs); i++ {
		if m.segs[i].name == n {
			rep++
			fn(i, rep)
		}
	}
}

// eachRep calls fn with every repetition of the field f, from 1; not at all for an empty field.
func (m *Message) eachRep(i int, f span, field int, fn func(n int, r span)) {
	if f.at == f.end {
		return
	}
	if m.literal(i, field) {
		fn(1, f)
		return
	}
	eachPiece(m.maskOf(i), f, m.sep.Repetition, func(n int, r span) bool { fn(n, r); return true })
}

// eachPiece calls fn with every piece between separators, from 1, and says whether fn wanted to go on.
func eachPiece(mask []byte, s span, separator byte, fn func(n int, piece span) bool) bool {
	for n := 1; ; n++ {
		i := -1
		if separator != 0 {
			i = bytes.IndexByte(mask[s.at:s.end], separator)
		}
		if i < 0 {
			return fn(n, s)
		}
		if !fn(n, span{s.at, s.at + i}) {
			return false
		}
		s.at += i + 1
	}
}
