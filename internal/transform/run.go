package transform

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/lazaret-health/lazaret/hl7"
)

// Run carries out the steps on m, in order, and says whether m is another message now. The error is a *RunError; m is then
// half changed, so give Run a clone where that matters.
func (p *Program) Run(m *hl7.Message) (changed bool, err error) {
	var before []byte
	touched := false
	for _, s := range p.steps {
		e := s.envs.Get().(*env)
		e.begin(m)
		due := s.due(e)
		if len(due) > 0 && !touched {
			touched, before = true, m.Bytes()
		}
		at, err := s.run(e, due)
		if e.end() != nil {
			err = e.err
		}
		s.envs.Put(e)
		if err != nil {
			return true, s.fault(at, err)
		}
	}
	return touched && !bytes.Equal(before, m.Bytes()), nil
}

// due is what the step is to be carried out on: its condition is asked of every element before the first is changed.
// Without a loop there is one, which means the message.
func (s *step) due(e *env) []frame {
	due := e.due[:0]
	if s.loop == nil {
		if s.when == nil || s.when(e) {
			due = append(due, frame{})
		}
	} else {
		for f := range s.loop.each(e) {
			if s.when == nil || s.when(e) {
				due = append(due, f)
			}
		}
	}
	e.due = due
	return due
}

// run carries out the step on each element, and then deletes what is to be deleted.
func (s *step) run(e *env, due []frame) (at hl7.Path, err error) {
	if e.err != nil {
		return at, e.err
	}
	var del deletions
	for _, f := range due {
		if s.loop != nil {
			e.frames[s.loop.frame] = f
		}
		if at, err := s.act(e, &del); err != nil {
			return at, err
		}
	}
	return del.carryOut(e.m)
}

func (s *step) fault(at hl7.Path, err error) error {
	e := &RunError{Step: s.number, Line: s.line, Err: err}
	if at.Segment != "" {
		e.Field = at.String()
	}
	return e
}

// deletions are addresses that name one place each; see settle.
type deletions []hl7.Path

func (d *deletions) add(p hl7.Path) { *d = append(*d, p) }

// carryOut deletes from the end on and parts before what they are part of, so that no deletion moves what is still to be
// deleted.
func (d deletions) carryOut(m *hl7.Message) (at hl7.Path, err error) {
	slices.SortFunc(d, func(a, b hl7.Path) int {
		return cmp.Or(
			strings.Compare(a.Segment, b.Segment),
			cmp.Compare(b.SegmentRep, a.SegmentRep),
			cmp.Compare(b.Field, a.Field),
			cmp.Compare(b.Rep, a.Rep),
			cmp.Compare(b.Component, a.Component),
			cmp.Compare(b.Subcomponent, a.Subcomponent),
		)
	})
	for _, p := range slices.Compact(d) {
		if err := m.Delete(p); err != nil {
			return p, err
		}
	}
	return hl7.Path{}, nil
}

// settle gives an element its one name: counted from the start, the first repetition said where a part of it is meant.
// there is false where the element is absent.
func settle(m *hl7.Message, p hl7.Path) (place hl7.Path, there bool) {
	if p.SegmentRep < 0 {
		p.SegmentRep += m.Count(p.Segment) + 1
	}
	if p.SegmentRep == 0 {
		p.SegmentRep = 1
	}
	if p.Rep < 0 {
		p.Rep += m.Repetitions(p) + 1
		if p.Rep < 1 {
			return p, false
		}
	}
	if p.Rep == 0 && p.Component != 0 {
		p.Rep = 1
	}
	if p.SegmentRep < 1 {
		return p, false
	}
	_, there = m.Raw(p)
	return p, there
}

// overlap says whether one of two settled addresses is part of the other.
func overlap(a, b hl7.Path) bool {
	if a.Segment != b.Segment || a.SegmentRep != b.SegmentRep {
		return false
	}
	for _, pair := range [...][2]int{{a.Field, b.Field}, {a.Rep, b.Rep}, {a.Component, b.Component}, {a.Subcomponent, b.Subcomponent}} {
		if pair[0] == 0 || pair[1] == 0 {
			return true
		}
		if pair[0] != pair[1] {
			return false
		}
	}
	return true
}

// putRaw makes an element what raw is. To put nothing where nothing is does not lengthen the segment.
func putRaw(m *hl7.Message, p hl7.Path, raw []byte) error {
	if len(raw) > 0 {
		return m.SetRaw(p, raw)
	}
	if _, there := m.Raw(p); !there {
		return nil
	}
	return m.SetRaw(p, nil)
}

// replaceBelow applies a substitution to each piece of text that p holds. Separators are no text, so no part is ever torn
// or joined. The null is none either.
func replaceBelow(e *env, p hl7.Path, s *substitution, written formatting) (at hl7.Path, err error) {
	for leaf := range eachLeaf(e.m, p) {
		if e.m.Presence(leaf) != hl7.Present {
			continue
		}
		text := []byte(e.m.Get(leaf))
		if !s.fits(text) {
			return leaf, ErrTooLong
		}
		if changed := s.apply(text); !bytes.Equal(changed, text) {
			f := written
			raw, _ := e.m.Raw(leaf)
			f.note(raw, text, e.sep)
			if err := setText(e.m, leaf, string(changed), f); err != nil {
				return leaf, err
			}
		}
	}
	return p, nil
}
