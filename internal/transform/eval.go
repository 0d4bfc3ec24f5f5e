package transform

import (
	"iter"

	"github.com/lazaret-health/lazaret/hl7"
)

// A compiled expression is a tree of these functions, one kind for each type of value. Texts may be views of the message:
// they are valid until the evaluation ends, and nobody writes to them.
type (
	boolFn   func(*env) bool
	textFn   func(*env) []byte
	numberFn func(*env) float64
	dateFn   func(*env) stamp
)

// Bounds of one evaluation. To find the n-th segment, n are passed, so the cost of a loop grows with the square of its
// length: the work allowed is enough for one loop over 32,000 segments, about a second of it.
const (
	maxWork = 1 << 24
	maxText = 32 << 20 // bytes of a text that an expression makes

	// How many of them are passed in about the time that one look at an element takes.
	segmentsPassed    = 32
	repetitionsPassed = 8
)

// An env is what one evaluation knows.
type env struct {
	m          *hl7.Message
	sep        hl7.Separators
	frames     []frame  // the element at hand of each for, any, all, count and first around, outermost first
	items      [][]byte // the element at hand of each comparison with (*)
	due        []frame  // what a step is carried out on; here for its memory only
	work       int
	formatting formatting // of the texts read since it was last set
	err        error
}

// A frame is the element that a loop has at hand: a segment, and a repetition of a field of it (0: the loop is over segments).
type frame struct{ segment, rep int }

func (e *env) begin(m *hl7.Message) {
	e.m, e.sep = m, m.Separators()
	e.work, e.err = 0, nil
}

func (e *env) end() error {
	e.m = nil
	clear(e.items) // they are views of the message
	return e.err
}

// visit counts a look at an element by a loop or a (*); false ends the loop.
func (e *env) visit(p hl7.Path) bool {
	e.work += 1 + max(p.SegmentRep, 0)/segmentsPassed + max(p.Rep, 0)/repetitionsPassed
	if e.work > maxWork && e.err == nil {
		e.err = ErrTooMuchWork
	}
	return e.err == nil
}

// roomFor says whether a text of n bytes may be made.
func (e *env) roomFor(n int) bool {
	if n > maxText && e.err == nil {
		e.err = ErrTooLong
	}
	return e.err == nil
}

// text reads an element as UTF-8, unescaped: "" where it is absent, empty or null. Nearly all are plain ASCII without an
// escape; those are read where they stand. Backslash and tilde are other characters in some sets, and left to hl7.
func (e *env) text(p hl7.Path) []byte {
	raw, ok := e.m.Raw(p)
	if !ok || len(raw) == 0 || string(raw) == `""` {
		return nil
	}
	for _, c := range raw {
		if c < ' ' || c >= '~' || c == '\\' || c == e.sep.Escape {
			text := []byte(e.m.Get(p))
			e.formatting.note(raw, text, e.sep)
			return text
		}
	}
	return raw
}

// A boundPath is an address in an expression, and the loop whose element it means, if any.
type boundPath struct {
	path  hl7.Path
	frame int  // index into env.frames; -1: none
	rep   bool // the loop's repetition too, not only its segment
}

// in is the address with the element at hand filled in.
func (b boundPath) in(e *env) hl7.Path {
	p := b.path
	if b.frame >= 0 {
		p.SegmentRep = e.frames[b.frame].segment
		if b.rep {
			p.Rep = e.frames[b.frame].rep
		}
	}
	return p
}

// concrete goes over the elements that an address means: itself, or with (*) each segment and repetition that is there.
func (e *env) concrete(p hl7.Path) iter.Seq[hl7.Path] {
	return func(yield func(hl7.Path) bool) {
		if !p.HasWildcard() {
			yield(p) // not counted: as many as the configuration has of them
			return
		}
		for p := range eachPlace(e.m, p) {
			if !e.visit(p) || !yield(p) {
				return
			}
		}
	}
}

// eachPlace fills in the numbers where an address says (*). One without (*) gives itself, whether it is there or not.
func eachPlace(m *hl7.Message, p hl7.Path) iter.Seq[hl7.Path] {
	return func(yield func(hl7.Path) bool) {
		for p := range eachSegment(m, p) {
			if p.Rep != hl7.Any {
				if !yield(p) {
					return
				}
				continue
			}
			for rep := range m.Repetitions(p) {
				p.Rep = rep + 1
				if !yield(p) {
					return
				}
			}
		}
	}
}

// eachSegment fills in the segment's number where the address says (*).
func eachSegment(m *hl7.Message, p hl7.Path) iter.Seq[hl7.Path] {
	return func(yield func(hl7.Path) bool) {
		if p.SegmentRep != hl7.Any {
			yield(p)
			return
		}
		for n := range m.Count(p.Segment) {
			p.SegmentRep = n + 1
			if !yield(p) {
				return
			}
		}
	}
}

// A loop is what any, all, count, first and for go over: segments of a name, or repetitions of a field.
type loop struct {
	over  boundPath // SegmentRep is hl7.Any where the loop goes over segments
	frame int       // where it puts the element at hand
}

// each goes over the elements of a loop that are there, with the element at hand set in e.
func (l loop) each(e *env) iter.Seq[frame] {
	return func(yield func(frame) bool) {
		over := l.over.in(e)
		if over.Field != 0 {
			over.Rep = hl7.Any
		}
		if over.SegmentRep < 0 && over.SegmentRep != hl7.Any {
			over.SegmentRep = max(over.SegmentRep+e.m.Count(over.Segment)+1, 0)
			if over.SegmentRep == 0 {
				return
			}
		}
		for p := range eachPlace(e.m, over) {
			if p.Field == 0 && e.m.Presence(p) == hl7.Absent {
				continue
			}
			e.frames[l.frame] = frame{segment: p.SegmentRep, rep: p.Rep}
			if !e.visit(p) || !yield(e.frames[l.frame]) {
				return
			}
		}
	}
}
