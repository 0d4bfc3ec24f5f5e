package hl7

import "fmt"

// A CharsetProblem is a place whose bytes the message's character set does not explain.
type CharsetProblem struct {
	Segment    string // "" for a line that is no segment
	SegmentRep int    // from 1
	Field      int
	Offset     int  // of the first such byte, from the beginning of the segment
	Guessed    bool // nothing was lost: the bytes are outside ASCII, and were read as UTF-8 or Windows-1252
}

func (p CharsetProblem) String() string {
	what := "bytes that mean nothing in the character set"
	if p.Guessed {
		what = "bytes of an undeclared character set"
	}
	at := Path{Segment: p.Segment, SegmentRep: p.SegmentRep, Field: p.Field}
	return fmt.Sprintf("%s: %s, from byte %d of the segment", at, what, p.Offset)
}

// CheckText finds the fields that hold undecodable bytes, at most one problem a field. Where MSH-18 declares nothing but
// bytes outside ASCII are there, or declares a set that we do not know, the problem is marked as Guessed.
func (m *Message) CheckText() []CharsetProblem {
	var problems []CharsetProblem
	guessed := m.charset == charsetASCII || m.charset == charsetUnknown
	reps := make(map[name]int)
	for i := range m.segs {
		n := m.segs[i].name
		reps[n]++
		text := m.text(i)
		if isASCII(text) && m.charset != charsetISO2022JP {
			continue
		}
		m.eachField(i, func(field int, f span) {
			at := -1
			var scratch []byte
			m.actual().decode(scratch, text[f.at:f.end], func(offset int) {
				if at < 0 {
					at = f.at + offset
				}
			})
			p := CharsetProblem{Segment: n.String(), SegmentRep: reps[n], Field: field, Offset: at}
			if at < 0 && guessed {
				for j, c := range text[f.at:f.end] {
					if c >= 0x80 {
						p.Offset, p.Guessed, at = f.at+j, true, f.at+j
						break
					}
				}
			}
			if at >= 0 {
				problems = append(problems, p)
			}
		})
	}
	return problems
}

// eachField calls fn with every field of a segment; with field 0 and the whole line where it is no segment.
func (m *Message) eachField(i int, fn func(field int, f span)) {
	mask := m.maskOf(i)
	s := &m.segs[i]
	if s.name == 0 {
		fn(0, span{0, len(mask)})
		return
	}
	if len(mask) < 4 {
		return
	}
	first := 0
	if s.name.header() {
		first = 1
	}
	eachPiece(mask, span{4, len(mask)}, m.sep.Field, func(n int, f span) bool { fn(first+n, f); return true })
}
