package hl7

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Any is the wildcard in Path.SegmentRep and Path.Rep: every one there is.
const Any = math.MinInt32

// Limits of an address. The standard's longest segment has fewer than 100 fields; the room above is for Z segments.
// Without limits, setting PID-999999999 would fill the memory with separators.
const (
	maxPlace = 999    // fields, components, subcomponents
	maxRep   = 999999 // repetitions of segments and fields
)

// A Path is an address inside a message, as analysts write it:
//
//	PID-3          the whole field, with all its repetitions
//	PID-3(2)       its second repetition
//	PID-3.1        the first component, of the first repetition where none is said
//	PID-3(2).4.2   a subcomponent
//	OBX(3)-5       the field of the third OBX
//	OBX(-1)-5      of the last OBX
//	OBX(*)-5       of every OBX
//	PID-3(*).1     of every repetition
//	OBX(2)         the whole segment
//
// In the struct, zero means "not said": the first segment, all repetitions of a whole field and otherwise the first, the
// whole field, the whole component. Everything counts from 1. Negative repetitions count from the end. Paths compare with
// ==, and using one allocates nothing.
type Path struct {
	Segment      string
	SegmentRep   int
	Field        int
	Rep          int
	Component    int
	Subcomponent int
}

// A PathError says what is wrong with an address that was written down.
type PathError struct {
	Path   string
	Column int // in bytes, from 1
	Reason string
}

func (e *PathError) Error() string {
	return fmt.Sprintf("hl7: path %q, column %d: %s", e.Path, e.Column, e.Reason)
}

// ParsePath reads an address. Its errors are *PathError.
func ParsePath(s string) (Path, error) {
	r := pathReader{s: s}
	p := r.path()
	if r.err != nil {
		return Path{}, r.err
	}
	return p, nil
}

// MustPath is ParsePath for addresses in a program's text; it panics on a wrong one.
func MustPath(s string) Path {
	p, err := ParsePath(s)
	if err != nil {
		panic(err)
	}
	return p
}

type pathReader struct {
	s   string
	i   int
	err error
}

func (r *pathReader) path() (p Path) {
	p.Segment = r.segment()
	p.SegmentRep = r.rep()
	if r.done() {
		return p
	}
	if !r.skip('-') {
		r.fail("after the segment comes - and a field, as in PID-3")
		return p
	}
	p.Field = r.number("a field", maxPlace)
	p.Rep = r.rep()
	if r.skip('.') {
		p.Component = r.number("a component", maxPlace)
		if r.skip('.') {
			p.Subcomponent = r.number("a subcomponent", maxPlace)
		}
	}
	if !r.done() {
		r.fail("the address should end here; components follow a dot, as in PID-3.1")
	}
	return p
}

func (r *pathReader) segment() string {
	for i := range 3 {
		if i >= len(r.s) {
			r.i = len(r.s)
			r.fail("a segment's name has three characters, as in PID")
			return ""
		}
		c := r.s[i]
		r.i = i
		switch {
		case 'a' <= c && c <= 'z':
			r.fail("a segment's name is written in capitals")
			return ""
		case 'A' <= c && c <= 'Z', i > 0 && '0' <= c && c <= '9':
		default:
			r.fail("a segment's name is a capital letter and two letters or digits")
			return ""
		}
	}
	r.i = 3
	return r.s[:3]
}

// rep reads (n), (-n), (*) or nothing.
func (r *pathReader) rep() int {
	if !r.skip('(') {
		return 0
	}
	n := 0
	switch {
	case r.skip('*'):
		n = Any
	case r.skip('-'):
		n = -r.number("a repetition", maxRep)
	default:
		n = r.number("a repetition", maxRep)
	}
	if !r.skip(')') {
		r.fail("the bracket does not close")
	}
	return n
}

func (r *pathReader) number(what string, limit int) int {
	start, n := r.i, 0
	for r.i < len(r.s) && '0' <= r.s[r.i] && r.s[r.i] <= '9' {
		n = n*10 + int(r.s[r.i]-'0')
		if n > limit {
			r.i = start
			r.fail(what + " is at most " + strconv.Itoa(limit))
			return 0
		}
		r.i++
	}
	switch {
	case r.i == start:
		r.fail("here comes the number of " + what)
	case r.s[start] == '0':
		r.i = start
		r.fail(what + " counts from 1, without leading zeros")
	}
	return n
}

func (r *pathReader) done() bool { return r.err != nil || r.i == len(r.s) }

func (r *pathReader) skip(c byte) bool {
	if r.err == nil && r.i < len(r.s) && r.s[r.i] == c {
		r.i++
		return true
	}
	return false
}

func (r *pathReader) fail(reason string) {
	if r.err == nil {
		r.err = &PathError{Path: r.s, Column: r.i + 1, Reason: reason}
	}
}

// String is the address as ParsePath reads it. A line that is no segment has no such address; it is written as ?(n).
func (p Path) String() string {
	var b strings.Builder
	if p.Segment == "" {
		b.WriteByte('?')
	}
	b.WriteString(p.Segment)
	writeRep(&b, p.SegmentRep)
	if p.Field == 0 {
		return b.String()
	}
	b.WriteByte('-')
	b.WriteString(strconv.Itoa(p.Field))
	writeRep(&b, p.Rep)
	if p.Component != 0 {
		b.WriteByte('.')
		b.WriteString(strconv.Itoa(p.Component))
		if p.Subcomponent != 0 {
			b.WriteByte('.')
			b.WriteString(strconv.Itoa(p.Subcomponent))
		}
	}
	return b.String()
}

func writeRep(b *strings.Builder, n int) {
	switch n {
	case 0:
	case Any:
		b.WriteString("(*)")
	default:
		b.WriteByte('(')
		b.WriteString(strconv.Itoa(n))
		b.WriteByte(')')
	}
}

// HasWildcard says whether the address may mean several places.
func (p Path) HasWildcard() bool { return p.SegmentRep == Any || p.Rep == Any }
