package dictionary

import (
	"sort"
	"strings"
)

// Use is a field's optionality, a letter of chapter 2.
type Use byte

// The letters that the dictionary has.
const (
	Required    Use = 'R'
	Optional    Use = 'O'
	Conditional Use = 'C'
	Backward    Use = 'B' // kept for backward compatibility
	Withdrawn   Use = 'W' // withdrawn, or reserved
)

// String gives the letter.
func (u Use) String() string { return string(rune(u)) }

// A Field is a field of a segment, or a component of a data type.
type Field struct {
	Name   string
	Type   string // data type; "varies" where another field names it
	Min    int    // repetitions at least
	Max    int    // repetitions at most; Unbounded for any number, 0 when withdrawn; always 1 for a component
	Use    Use    // of a component: Required or Optional
	Length int    // greatest length in characters; 0 when the version or the sources have none
	Table  string // id, as "0001"; "" when there is none
}

// Unbounded as a Max means any number.
const Unbounded = -1

// A Segment has its fields in order: field n is Fields[n-1].
type Segment struct {
	Code   string // "PID"
	Name   string // "Patient Identification"
	Fields []Field
}

// A DataType has its components in order; a primitive type has none.
type DataType struct {
	Code       string // "CX"
	Name       string
	Components []Field
}

// Primitive tells whether the type has no components.
func (t *DataType) Primitive() bool { return len(t.Components) == 0 }

// A Table is a list of codes.
type Table struct {
	ID     string // "0001"
	Name   string // "Administrative Sex"
	codes  []string
	labels []string
}

// Codes lists the codes, sorted. A user-defined or external table may have none.
func (t *Table) Codes() []string { return append([]string(nil), t.codes...) }

// Value gives a code's label, which may be "" where the sources know none; ok tells whether the table has the code.
func (t *Table) Value(code string) (label string, ok bool) {
	i := sort.SearchStrings(t.codes, code)
	if i == len(t.codes) || t.codes[i] != code {
		return "", false
	}
	return t.labels[i], true
}

// A Structure is the abstract message syntax of one message structure (MSH-9.3).
type Structure struct {
	ID    string // "ADT_A01"
	Name  string
	Nodes []Node
}

// AnySegment is the Code of a Node where any segment may stand.
const AnySegment = "ANYHL7SEGMENT"

// A Node is a segment or, where it has Nodes of its own, a group.
type Node struct {
	Code   string // of a segment, or a group's name
	Min    int
	Max    int  // Unbounded for any number
	Choice bool // exactly one of Nodes stands here
	Nodes  []Node
}

// index fills the version's maps: codes to definitions that are not decoded yet.
func (v *Version) index() {
	r := reader{s: v.at.body}
	for k := range v.codes {
		ids := make([]int, r.count())
		v.codes[k] = make(map[string]int, len(ids))
		l := list{r: &r}
		for range ids {
			id := l.next()
			def := reader{s: v.file.defs[k][id]}
			v.codes[k][v.file.texts[def.number()]] = id
		}
	}
	n := r.count()
	names := make([]string, n)
	l := list{r: &r}
	for i := range names {
		names[i] = v.file.texts[l.next()]
	}
	v.events = make(map[string]string, n)
	for _, name := range names {
		v.events[name] = v.file.texts[l.next()]
	}
}

// Codes of what the version has, sorted.
func (v *Version) list(kind int) []string {
	all := make([]string, 0, len(v.codes[kind]))
	for code := range v.codes[kind] {
		all = append(all, code)
	}
	sort.Strings(all)
	return all
}

// Segments lists the codes of the version's segments, sorted.
func (v *Version) Segments() []string { return v.list(segmentKind) }

// DataTypes lists the codes of the version's data types, sorted.
func (v *Version) DataTypes() []string { return v.list(dataTypeKind) }

// Tables lists the ids of the version's tables, sorted.
func (v *Version) Tables() []string { return v.list(tableKind) }

// Structures lists the ids of the version's message structures, sorted.
func (v *Version) Structures() []string { return v.list(structureKind) }

// Events lists the version's events as "ADT^A01", sorted.
func (v *Version) Events() []string {
	all := make([]string, 0, len(v.events))
	for e := range v.events {
		all = append(all, e)
	}
	sort.Strings(all)
	return all
}

// Segment gives a segment by its code, as "PID".
func (v *Version) Segment(code string) (*Segment, bool) {
	id, ok := v.codes[segmentKind][code]
	if !ok {
		return nil, false
	}
	if s := v.file.segments[id].Load(); s != nil {
		return s, true
	}
	s := &Segment{}
	s.Code, s.Name, s.Fields = v.file.withFields(segmentKind, id)
	v.file.segments[id].Store(s)
	return s, true
}

// Field gives field n, from 1, of a segment.
func (v *Version) Field(segment string, n int) (Field, bool) {
	s, ok := v.Segment(segment)
	if !ok || n < 1 || n > len(s.Fields) {
		return Field{}, false
	}
	return s.Fields[n-1], true
}

// DataType gives a data type by its code, as "CX".
func (v *Version) DataType(code string) (*DataType, bool) {
	id, ok := v.codes[dataTypeKind][code]
	if !ok {
		return nil, false
	}
	if t := v.file.dataTypes[id].Load(); t != nil {
		return t, true
	}
	t := &DataType{}
	t.Code, t.Name, t.Components = v.file.withFields(dataTypeKind, id)
	v.file.dataTypes[id].Store(t)
	return t, true
}

// Table gives a table by its id. "1", "0001" and "HL70001", as ERR and coding systems write it, are the same.
func (v *Version) Table(id string) (*Table, bool) {
	id = strings.TrimPrefix(id, "HL7")
	if len(id) < 4 {
		id = "0000"[len(id):] + id
	}
	n, ok := v.codes[tableKind][id]
	if !ok {
		return nil, false
	}
	if t := v.file.tables[n].Load(); t != nil {
		return t, true
	}
	r := reader{s: v.file.defs[tableKind][n]}
	l := list{r: &r}
	t := &Table{ID: v.file.texts[l.next()], Name: v.file.texts[l.next()]}
	for r.s != "" {
		t.codes = append(t.codes, v.file.texts[l.next()])
	}
	half := len(t.codes) / 2 // codes first, then as many labels
	t.codes, t.labels = t.codes[:half:half], t.codes[half:]
	v.file.tables[n].Store(t)
	return t, true
}

// Structure gives a message structure by its id, as "ORU_R01".
func (v *Version) Structure(id string) (*Structure, bool) {
	n, ok := v.codes[structureKind][id]
	if !ok {
		return nil, false
	}
	if s := v.file.structures[n].Load(); s != nil {
		return s, true
	}
	r := reader{s: v.file.defs[structureKind][n]}
	l := list{r: &r}
	s := &Structure{ID: v.file.texts[l.next()], Name: v.file.texts[l.next()]}
	s.Nodes = v.file.nodes(&r)
	v.file.structures[n].Store(s)
	return s, true
}

// EventStructure gives the id of the structure that an event uses: ADT and A04 use ADT_A01. Where the event is not
// listed, a structure named after both (ORU_R99) or after the code alone (ACK, whatever it answers) will do.
func (v *Version) EventStructure(code, trigger string) (id string, ok bool) {
	if id, ok = v.events[code+"^"+trigger]; ok {
		return id, true
	}
	for _, id := range []string{code + "_" + trigger, code} {
		if _, ok := v.codes[structureKind][id]; ok {
			return id, true
		}
	}
	return "", false
}

func (f *file) withFields(kind, id int) (code, name string, fields []Field) {
	r := reader{s: f.defs[kind][id]}
	l := list{r: &r}
	code, name = f.texts[l.next()], f.texts[l.next()]
	for r.s != "" {
		fields = append(fields, f.fields[l.next()])
	}
	return code, name, fields
}

func (f *file) nodes(r *reader) []Node {
	all := make([]Node, r.count())
	for i := range all {
		kind := r.count()
		n := &all[i]
		n.Code, n.Choice = f.texts[r.count()], kind&2 != 0
		n.Min, n.Max = r.number(), r.number()
		if kind&1 != 0 {
			n.Nodes = f.nodes(r)
		}
	}
	return all
}
