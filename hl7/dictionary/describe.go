package dictionary

import (
	"strconv"
	"strings"
)

// Names gives the names from a field down to a subcomponent, as far as the version knows them: PID, 3, 4, 1 gives
// "Patient Identifier List", "Assigning Authority", "Namespace ID". A 0 ends the address. Component 1 of a field that has
// no components is the field itself, and adds no name; so with subcomponents. ok is false where part of the address is
// unknown, as in a Z segment, beyond the last field, or within a field whose type varies.
func (v *Version) Names(segment string, field, component, subcomponent int) (names []string, ok bool) {
	f, ok := v.Field(segment, field)
	if !ok {
		return nil, false
	}
	names = append(names, f.Name)
	for _, n := range []int{component, subcomponent} {
		if n == 0 {
			return names, true
		}
		t, ok := v.DataType(f.Type)
		switch {
		case !ok || f.Type == "varies" || n < 0:
			return names, false
		case t.Primitive():
			if n != 1 {
				return names, false
			}
			continue
		case n > len(t.Components):
			return names, false
		}
		f = t.Components[n-1]
		names = append(names, f.Name)
	}
	return names, true
}

// Describe writes an address with its names, as "PID-3.4 Patient Identifier List / Assigning Authority"; field 0 is the
// segment: "PID Patient Identification". Where a name is not known the address still stands, with the names before it.
func (v *Version) Describe(segment string, field, component, subcomponent int) string {
	if field == 0 {
		if s, ok := v.Segment(segment); ok {
			return segment + " " + s.Name
		}
		return segment
	}
	at := segment + "-" + strconv.Itoa(field)
	if component != 0 {
		at += "." + strconv.Itoa(component)
		if subcomponent != 0 {
			at += "." + strconv.Itoa(subcomponent)
		}
	}
	names, _ := v.Names(segment, field, component, subcomponent)
	if len(names) == 0 {
		return at
	}
	return at + " " + strings.Join(names, " / ")
}
