package transform

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lazaret-health/lazaret/hl7"
)

// A lookup is a table as one step uses it.
type lookup struct {
	values     map[string]string // keys as fold makes them
	trim       bool
	ignoreCase bool
	missing    string // keep, empty, fail, default
	fallback   string
}

// newLookup joins what the table says and what the step says; the step wins. key names the setting that is wrong.
func newLookup(t Table, m Mapping) (l *lookup, key string, err error) {
	l = &lookup{trim: t.Trim, ignoreCase: t.IgnoreCase, missing: "keep", values: make(map[string]string, len(t.Values))}
	if m.Trim != nil {
		l.trim = *m.Trim
	}
	switch m.Case {
	case "":
	case "ignore", "exact":
		l.ignoreCase = m.Case == "ignore"
	default:
		return nil, "case", fmt.Errorf("%q is neither ignore nor exact", m.Case)
	}
	for _, d := range []*string{t.Default, m.Default} {
		if d != nil {
			l.missing, l.fallback = "default", *d
		}
	}
	switch m.Missing {
	case "":
	case "keep", "empty", "fail":
		if m.Default != nil {
			return nil, "missing", errors.New("the step has a default already: leave out one of the two")
		}
		l.missing = m.Missing
	default:
		return nil, "missing", fmt.Errorf("%q is none of keep, empty, fail", m.Missing)
	}
	for _, k := range slices.Sorted(maps.Keys(t.Values)) {
		folded := l.fold(k)
		if v, twice := l.values[folded]; twice && v != t.Values[k] {
			return nil, "table", fmt.Errorf("the table %q has %q twice, with different values, once case and spaces do not count", m.Table, folded)
		}
		l.values[folded] = t.Values[k]
	}
	return l, "", nil
}

// fold is the form in which codes are compared.
func (l *lookup) fold(code string) string {
	if l.trim {
		code = strings.TrimSpace(code)
	}
	if l.ignoreCase {
		code = strings.ToLower(code)
	}
	return code
}

// apply translates one element. The null is no code and stays; nothing is looked up for an empty element, except in a table
// that has an entry for the empty text.
func (l *lookup) apply(m *hl7.Message, p hl7.Path) error {
	if m.Presence(p) == hl7.Null {
		return nil
	}
	code := l.fold(m.Get(p))
	value, known := l.values[code]
	switch {
	case known:
		return m.Set(p, value)
	case code == "":
		return nil
	case l.missing == "fail":
		return ErrNotInTable
	case l.missing == "empty":
		return m.Set(p, "")
	case l.missing == "default":
		return m.Set(p, l.fallback)
	}
	return nil
}
