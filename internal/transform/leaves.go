package transform

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/lazaret-health/lazaret/hl7"
)

// maxPart is the last component and subcomponent that an address can name; hl7 has the same bound.
const maxPart = 999

// eachLeaf goes over the pieces of text below p. Leaves may be changed, but no part added, while it runs.
func eachLeaf(m *hl7.Message, p hl7.Path) iter.Seq[hl7.Path] {
	return func(yield func(hl7.Path) bool) {
		if p.Rep == 0 && p.Component == 0 {
			p.Rep = hl7.Any
		}
		for p := range eachPlace(m, p) {
			for c := range parts(m, p, p.Component, func(p *hl7.Path) *int { return &p.Component }) {
				for s := range parts(m, c, p.Subcomponent, func(p *hl7.Path) *int { return &p.Subcomponent }) {
					if !yield(s) {
						return
					}
				}
			}
		}
	}
}

// parts numbers the parts of p at one level; where the address says one, that is all.
func parts(m *hl7.Message, p hl7.Path, said int, at func(*hl7.Path) *int) iter.Seq[hl7.Path] {
	return func(yield func(hl7.Path) bool) {
		if said != 0 {
			yield(p)
			return
		}
		for n := 1; n <= maxPart; n++ {
			*at(&p) = n
			if _, there := m.Raw(p); !there || !yield(p) {
				return
			}
		}
	}
}

// usual are the separators that the configuration writes wire form with.
func usual() hl7.Separators {
	return hl7.Separators{Field: '|', Component: '^', Repetition: '~', Escape: '\\', Subcomponent: '&'}
}

// checkRaw says what of a raw value would not stay within the element it is for.
func checkRaw(raw string, to hl7.Path) error {
	for _, c := range []byte(raw) {
		if c < ' ' || c > '~' {
			return errors.New("raw holds a character that is not printable ASCII: text goes into a plain value, which is put into the message's character set")
		}
	}
	forbidden := "|"
	if to.Rep != 0 || level(to) > 1 {
		forbidden += "~"
	}
	if level(to) > 1 {
		forbidden += "^"
	}
	if level(to) > 2 {
		forbidden += "&"
	}
	if i := strings.IndexAny(raw, forbidden); i >= 0 {
		return fmt.Errorf("raw holds the separator %q, which does not stay within %s", raw[i:i+1], to)
	}
	return nil
}

// withSeparators writes a value, which has the usual separators, with those of a message. What is plain in the value and a
// separator in the message is escaped.
func withSeparators(raw string, sep hl7.Separators) []byte {
	from := usual()
	sep.Truncation = 0
	if sep == from {
		return []byte(raw)
	}
	names := map[byte]byte{sep.Field: 'F', sep.Component: 'S', sep.Repetition: 'R', sep.Escape: 'E', sep.Subcomponent: 'T'}
	var out []byte
	for _, c := range []byte(raw) {
		switch c {
		case from.Component:
			out = append(out, sep.Component)
		case from.Repetition:
			out = append(out, sep.Repetition)
		case from.Escape:
			out = append(out, sep.Escape)
		case from.Subcomponent:
			out = append(out, sep.Subcomponent)
		default:
			if name := names[c]; name != 0 {
				out = append(out, sep.Escape, name, sep.Escape)
			} else {
				out = append(out, c)
			}
		}
	}
	return out
}
