package hl7

import (
	"encoding/binary"
	"math/bits"
)

// Walk calls fn with every leaf of the message that is not empty, in order, until fn says false. Addresses are as deep as
// the message is: OBX(2)-5(1) for a field of one piece, PID(1)-3(2).4.1 where there are subcomponents. A line that is no
// segment is one leaf whose address has no segment name. raw is as from Raw. The message must not be changed meanwhile.
func (m *Message) Walk(fn func(p Path, raw []byte) bool) {
	reps := make(map[name]int)
	var p Path
	var last name
	for i := range m.segs {
		n := m.segs[i].name
		reps[n]++
		if i == 0 || n != last {
			p.Segment, last = n.String(), n
		}
		w := walker{fn: fn, path: p, text: m.text(i), mask: m.maskOf(i), sep: m.sep}
		w.path.SegmentRep = reps[n]
		if !w.segment(n) {
			return
		}
	}
}

// A walker goes through one segment in one pass. What kind of leaf a piece is shows only at the separator behind it: the
// first piece of a repetition is the whole of it unless a component or subcomponent follows.
type walker struct {
	fn         func(p Path, raw []byte) bool
	path       Path // of the piece under way: every level counted
	text, mask []byte
	sep        Separators
	at         int // where the piece under way begins
}

func (w *walker) segment(n name) bool {
	switch {
	case n == 0:
		return len(w.text) == 0 || w.fn(w.path, w.text[:len(w.text):len(w.text)])
	case len(w.text) < 4:
		return true
	}
	w.at = 4
	w.path.Field, w.path.Rep, w.path.Component, w.path.Subcomponent = 1, 1, 1, 1
	if n.header() && !w.header() {
		return false
	}
	field, rep := uint64(w.sep.Field)*everyOne, uint64(w.sep.Repetition)*everyOne
	component, subcomponent := uint64(w.sep.Component)*everyOne, uint64(w.sep.Subcomponent)*everyOne
	// A separator that the message does not have is zero here, and a zero byte in the text must not be taken for it.
	i := w.at
	for ; i <= len(w.mask)-8; i += 8 {
		word := binary.LittleEndian.Uint64(w.mask[i:])
		hits := matches(word, field) | matches(word, rep) | matches(word, component) | matches(word, subcomponent)
		for ; hits != 0; hits &= hits - 1 {
			if !w.separator(i + bits.TrailingZeros64(hits)/8) {
				return false
			}
		}
	}
	for ; i < len(w.mask); i++ {
		if !w.separator(i) {
			return false
		}
	}
	return w.leaf(len(w.mask), w.sep.Field)
}

// header takes the two fields of a header that are separators themselves.
func (w *walker) header() bool {
	p := w.path
	p.Component, p.Subcomponent = 0, 0
	if !w.fn(p, w.text[3:4:4]) {
		return false
	}
	end := 4 + next(w.mask[4:], w.sep.Field)
	p.Field = 2
	if end > 4 && !w.fn(p, w.text[4:end:end]) {
		return false
	}
	w.path.Field = 3
	w.at = min(end+1, len(w.mask))
	return true
}

// separator ends the piece under way at i, if there is a separator, and begins the next.
func (w *walker) separator(i int) bool {
	c := w.mask[i]
	if c == 0 {
		return true
	}
	p := &w.path
	switch c {
	case w.sep.Field:
		if !w.leaf(i, c) {
			return false
		}
		p.Field++
		p.Rep, p.Component, p.Subcomponent = 1, 1, 1
	case w.sep.Repetition:
		if !w.leaf(i, c) {
			return false
		}
		p.Rep++
		p.Component, p.Subcomponent = 1, 1
	case w.sep.Component:
		if !w.leaf(i, c) {
			return false
		}
		p.Component++
		p.Subcomponent = 1
	case w.sep.Subcomponent:
		if !w.leaf(i, c) {
			return false
		}
		p.Subcomponent++
	default:
		return true
	}
	w.at = i + 1
	return true
}

// leaf hands out the piece that the separator c ends at end.
func (w *walker) leaf(end int, c byte) bool {
	if w.at >= end {
		return true
	}
	p := w.path
	if p.Subcomponent == 1 && c != w.sep.Subcomponent {
		p.Subcomponent = 0
		if p.Component == 1 && c != w.sep.Component {
			p.Component = 0
		}
	}
	return w.fn(p, w.text[w.at:end:end])
}
