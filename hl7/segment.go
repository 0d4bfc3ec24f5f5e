package hl7

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
)

// A segment is a line of the message: where its content lies in buf, and where the next one begins. It holds no pointer, so
// that filling a list of them costs the garbage collector nothing.
type segment struct {
	at, end, next uint32
	name          name
	own           uint32 // 1 + place in Message.owned, once the segment is not as received any more
}

// maxMessage is the length that the offsets of a segment can say.
const maxMessage = 1<<32 - 1

// owned is a segment's new content. It is replaced and never written to, so that clones may share it.
type owned struct {
	text, mask, term []byte
}

// A name is the three characters of a segment's name, as a number that compares fast. 0: the line is no segment.
type name uint32

func nameOf(b []byte) name { return name(b[0])<<16 | name(b[1])<<8 | name(b[2]) }

func nameOfString(s string) (name, bool) {
	switch len(s) {
	case 0:
		return 0, true
	case 3:
		return name(s[0])<<16 | name(s[1])<<8 | name(s[2]), true
	}
	return 0, false
}

func (n name) String() string {
	if n == 0 {
		return ""
	}
	return string([]byte{byte(n >> 16), byte(n >> 8), byte(n)})
}

const (
	nameMSH = name('M')<<16 | name('S')<<8 | name('H')
	nameFHS = name('F')<<16 | name('H')<<8 | name('S')
	nameBHS = name('B')<<16 | name('H')<<8 | name('S')
)

// header says whether the segment's first field is the separator itself.
func (n name) header() bool { return n == nameMSH || n == nameFHS || n == nameBHS }

// readName is the name of the segment that begins at b: three letters or digits, then a field separator or the end.
func readName(b []byte, field byte) name {
	if len(b) < 3 || !alphanumeric(b[0]) || !alphanumeric(b[1]) || !alphanumeric(b[2]) {
		return 0
	}
	if len(b) > 3 && b[3] != field {
		return 0
	}
	return nameOf(b)
}

func alphanumeric(c byte) bool {
	return c-'A' <= 'Z'-'A' || c-'0' <= '9'-'0' || c-'a' <= 'z'-'a' // below the first, the difference wraps round
}

// split finds the segments of buf from at on.
//
// The standard's terminator is CR (2.5.4). LF and CRLF are taken as well, also mixed, and blank lines belong to the
// terminator before them. One LF is not: in a message that knows CR, an LF which no segment follows is a line break that
// somebody left in a text, and stays part of the field.
func (m *Message) split(at int) {
	b := m.buf
	if bytes.IndexByte(b[at:], '\n') < 0 {
		m.splitAt(at, '\r')
		return
	}
	if bytes.IndexByte(b[at:], '\r') < 0 {
		m.splitAt(at, '\n')
		return
	}
	cr := -1 // the next CR at or behind at; looked for again only once it is passed, or many LFs before it cost a square
	for at < len(b) {
		if cr < at {
			cr = len(b)
			if i := bytes.IndexByte(b[at:], '\r'); i >= 0 {
				cr = at + i
			}
		}
		end := cr
		for from := at; from < cr; {
			i := bytes.IndexByte(b[from:cr], '\n')
			if i < 0 {
				break
			}
			from += i + 1
			if m.beginsLine(b[from:]) {
				end = from - 1
				break
			}
		}
		next := end
		for next < len(b) && (b[next] == '\r' || b[next] == '\n') {
			next++
		}
		m.segs = append(m.segs, segmentAt(b, at, end, next, m.sep.Field))
		at = next
	}
}

// beginsLine says whether a segment, a blank line or nothing begins at b.
func (m *Message) beginsLine(b []byte) bool {
	if len(b) == 0 || b[0] == '\r' || b[0] == '\n' {
		return true
	}
	if len(b) > 3 {
		if b[3] == '\r' || b[3] == '\n' {
			b = b[:3]
		} else {
			b = b[:4]
		}
	}
	return readName(b, m.sep.Field) != 0 && 'A' <= b[0] && b[0] <= 'Z'
}

func (m *Message) splitAt(at int, terminator byte) {
	b, segs, field := m.buf, m.segs, m.sep.Field
	for at < len(b) {
		end, next := len(b), len(b)
		if i := bytes.IndexByte(b[at:], terminator); i >= 0 {
			end = at + i
			next = end + 1
			for next < len(b) && b[next] == terminator {
				next++
			}
		}
		segs = append(segs, segmentAt(b, at, end, next, field))
		at = next
	}
	m.segs = segs
}

func segmentAt(b []byte, at, end, next int, field byte) segment {
	return segment{at: uint32(at), end: uint32(end), next: uint32(next), name: readName(b[at:end], field)}
}

// text is the content of segment i, without its terminator.
func (m *Message) text(i int) []byte {
	s := &m.segs[i]
	if s.own != 0 {
		return m.owned[s.own-1].text
	}
	return m.buf[s.at:s.end:s.end]
}

// maskOf is text(i) for looking for separators in.
func (m *Message) maskOf(i int) []byte {
	s := &m.segs[i]
	switch {
	case s.own != 0:
		return m.owned[s.own-1].mask
	case m.mask != nil:
		return m.mask[s.at:s.end]
	}
	return m.buf[s.at:s.end]
}

func (m *Message) terminator(i int) []byte {
	s := &m.segs[i]
	if s.own != 0 {
		return m.owned[s.own-1].term
	}
	return m.buf[s.end:s.next]
}

// find is the index of a segment. rep counts from 1, or from the end where negative; 0 and Any mean the first.
func (m *Message) find(segment string, rep int) (int, bool) {
	n, ok := nameOfString(segment)
	if !ok {
		return 0, false
	}
	if rep == Any || rep == 0 {
		rep = 1
	}
	if rep > farRep || rep < -farRep {
		return m.findFar(n, rep)
	}
	if rep < 0 {
		for i := len(m.segs) - 1; i >= 0; i-- {
			if m.segs[i].name == n {
				if rep++; rep == 0 {
					return i, true
				}
			}
		}
		return 0, false
	}
	for i := range m.segs {
		if m.segs[i].name == n {
			if rep--; rep == 0 {
				return i, true
			}
		}
	}
	return 0, false
}

// farRep is how many segments of a name are counted each time one is looked for. Beyond, a message of a million segments
// whose reader asks for one after the other would cost the square of that, and so a list is made of where they are.
const farRep = 64

func (m *Message) findFar(n name, rep int) (int, bool) {
	at := m.places()[n]
	if rep < 0 {
		rep += len(at) + 1
	}
	if rep < 1 || rep > len(at) {
		return 0, false
	}
	return int(at[rep-1]), true
}

// places are the indexes of the segments of each name. Readers may make them at the same time; any of the results will do.
func (m *Message) places() map[name][]uint32 {
	if p := m.index.Load(); p != nil {
		return *p
	}
	p := make(map[name][]uint32)
	for i := range m.segs {
		n := m.segs[i].name
		p[n] = append(p[n], uint32(i))
	}
	m.index.Store(&p)
	return p
}

// moved forgets where segments are, after one came, went or got another name.
func (m *Message) moved() {
	if m.index.Load() != nil {
		m.index.Store(nil)
	}
}

// Count says how many segments of that name the message has.
func (m *Message) Count(segment string) int {
	n, ok := nameOfString(segment)
	if !ok {
		return 0
	}
	if p := m.index.Load(); p != nil {
		return len((*p)[n])
	}
	c := 0
	for i := range m.segs {
		if m.segs[i].name == n {
			c++
		}
	}
	return c
}

// A Segment is one line of a message.
type Segment struct {
	Name string // three characters; "" for a line that is no segment
	Raw  []byte // wire form, without the terminator
	Rep  int    // from 1: which segment of this name it is
}

// Segments are the message's lines, from 0 (MSH) on. The message must not be changed meanwhile.
func (m *Message) Segments() iter.Seq2[int, Segment] {
	return func(yield func(int, Segment) bool) {
		seen := make(map[name]int)
		for i := range m.segs {
			n := m.segs[i].name
			seen[n]++
			if !yield(i, Segment{Name: n.String(), Raw: m.text(i), Rep: seen[n]}) {
				return
			}
		}
	}
}

// InsertSegment puts a segment, in its wire form and without a terminator, before the one at index at, or behind the last
// where at is their number. Nothing can stand before MSH.
func (m *Message) InsertSegment(at int, raw []byte) error {
	if at < 1 || at > len(m.segs) {
		return fmt.Errorf("hl7: insert a segment at %d: the places are 1 to %d", at, len(m.segs))
	}
	p := Path{}
	if err := m.checkSegment(p, raw); err != nil {
		return err
	}
	term := m.usualTerminator()
	if last := at - 1; len(m.terminator(last)) == 0 {
		m.keep(&m.segs[last], owned{text: m.text(last), mask: m.maskOf(last), term: term})
	}
	text := slices.Clone(raw)
	s := segment{name: readName(text, m.sep.Field)}
	m.keep(&s, owned{text: text, mask: m.maskText(text), term: term})
	if p := m.index.Load(); p != nil && at == len(m.segs) {
		(*p)[s.name] = append((*p)[s.name], uint32(at)) // so that appending many does not make the list anew each time
	} else {
		m.moved()
	}
	m.segs = slices.Insert(m.segs, at, s)
	return nil
}

// keep makes o the content of s.
func (m *Message) keep(s *segment, o owned) {
	m.edited = true
	if s.own != 0 {
		m.owned[s.own-1] = &o
		return
	}
	m.owned = append(m.owned, &o)
	s.own = uint32(len(m.owned))
}

// AppendSegment puts a segment, in its wire form and without a terminator, behind the last.
func (m *Message) AppendSegment(raw []byte) error { return m.InsertSegment(len(m.segs), raw) }

// usualTerminator is what ends MSH, without blank lines: CR where the message is a lone MSH.
func (m *Message) usualTerminator() []byte {
	term := m.terminator(0)
	switch {
	case len(term) == 0:
		return []byte{'\r'}
	case len(term) > 1 && term[0] == '\r' && term[1] == '\n':
		return term[:2:2]
	}
	return term[:1:1]
}
