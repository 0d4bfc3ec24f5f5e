package dictionary

import (
	"fmt"
	"slices"
	"strings"
)

// A StructureError says where a message leaves its structure. It holds segment codes, never content.
type StructureError struct {
	Structure string
	Position  int      // of the segment that does not fit, from 1, as the message counts; one past the last at its end
	Segment   string   // its code; "" at the end of the message
	Expected  []string // codes that would have fitted there, in the structure's order
	Ended     bool     // the message might have ended there
}

// Error names place, finding and what would fit.
func (e *StructureError) Error() string {
	found := "the message ends"
	if e.Segment != "" {
		found = fmt.Sprintf("segment %d is %s", e.Position, e.Segment)
	}
	want := strings.Join(e.Expected, ", ")
	if e.Ended {
		if want != "" {
			want += " or "
		}
		want += "the end"
	}
	return fmt.Sprintf("%s where %s has %s", found, e.Structure, want)
}

// Check compares a message's segment codes, MSH first, with the structure: order, required ones, repetitions, choices. Z
// segments may stand anywhere. It knows every way to read the message, so a segment that may belong to several groups is
// never blamed wrongly; the error is at the furthest segment that any reading reaches. It is a *StructureError.
func (s *Structure) Check(segments []string) error {
	m := matcher{}
	for i, code := range segments {
		if !strings.HasPrefix(code, "Z") {
			m.codes, m.places = append(m.codes, code), append(m.places, i+1)
		}
	}
	ends := m.sequence(s.Nodes, []int{0})
	if slices.Contains(ends, len(m.codes)) {
		return nil
	}
	e := &StructureError{Structure: s.ID, Position: len(segments) + 1, Expected: m.expected, Ended: slices.Contains(ends, m.furthest)}
	if m.furthest < len(m.codes) {
		e.Position, e.Segment = m.places[m.furthest], m.codes[m.furthest]
	}
	return e
}

// A matcher walks the structure with the set of all places where the message could stand, as ascending indexes of codes.
type matcher struct {
	codes    []string
	places   []int // of the codes in the message, from 1
	furthest int
	expected []string // at furthest
}

func (m *matcher) sequence(nodes []Node, at []int) []int {
	for i := range nodes {
		if len(at) == 0 {
			return nil
		}
		at = m.repeat(&nodes[i], at)
	}
	return at
}

// repeat takes a node Min to Max times.
func (m *matcher) repeat(n *Node, at []int) []int {
	var ends []int
	if n.Min <= 0 {
		ends = slices.Clone(at)
	}
	for count := 1; len(at) > 0 && (n.Max == Unbounded || count <= n.Max); count++ {
		at = m.once(n, at)
		if count < n.Min {
			continue
		}
		// What an earlier count has reached leads nowhere new.
		at = slices.DeleteFunc(at, func(p int) bool { _, seen := slices.BinarySearch(ends, p); return seen })
		ends = union(ends, at)
	}
	return ends
}

// once gives a set of its own, which repeat may change.
func (m *matcher) once(n *Node, at []int) []int {
	switch {
	case n.Choice:
		var ends []int
		for i := range n.Nodes {
			ends = union(ends, m.repeat(&n.Nodes[i], at))
		}
		return ends
	case n.Nodes != nil:
		return slices.Clone(m.sequence(n.Nodes, at))
	}
	var ends []int
	for _, p := range at {
		if p < len(m.codes) && (m.codes[p] == n.Code || n.Code == AnySegment) {
			ends = append(ends, p+1)
			continue
		}
		if p > m.furthest {
			m.furthest, m.expected = p, nil
		}
		if p == m.furthest && !slices.Contains(m.expected, n.Code) {
			m.expected = append(m.expected, n.Code)
		}
	}
	return ends
}

// union merges two ascending sets. It may use the space behind a. Mostly b lies behind a, for the message is read forwards.
func union(a, b []int) []int {
	if len(a) == 0 || len(b) == 0 || a[len(a)-1] < b[0] {
		return append(a, b...)
	}
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
