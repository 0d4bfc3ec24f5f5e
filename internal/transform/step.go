package transform

// A Step is one declarative step as the configuration has it. Exactly one of Set, Copy, Move, Delete, Map and Replace is
// given; For and When go with any of them. CompileSteps checks all of it.
//
//	steps:
//	  - set: {PID-3.4: STMARY, ZZ1-1: {expr: 'PID-3.1 + "/" + MSH-4.1'}, PID-19: {null: true}, PV1-3: {raw: "W^3^1"}}
//	  - copy: {from: PID-2, to: PID-4}
//	  - move: {from: PID-2, to: PID-4}
//	  - delete: [PID-19, NK1]
//	  - map: {field: PV1-2, table: patient-class, trim: true, case: ignore, missing: keep}
//	  - replace: {field: PID-13, pattern: "[^0-9+]", with: ""}
//	  - for: OBX
//	    when: OBX-11 == "X"
//	    delete: OBX
type Step struct {
	Line int // where the step stands in its file; 0: unknown. Only for error texts.

	For  string // "OBX": once for each OBX; "PID-3": once for each repetition. Paths to it then mean the one at hand.
	When string // a condition; with For it is asked of each element, all of them before the first is changed

	Set     []Assignment // in the order of the file
	Copy    *FromTo
	Move    *FromTo
	Delete  []string // paths: repetition, field, component, subcomponent, or whole segments
	Map     *Mapping
	Replace *Replacement
}

// An Assignment gives one element a value. Exactly one of Value, Expr, Raw and Null is used: Null wins, then a non-empty
// Expr, then a non-empty Raw; what is left is Value, which may be empty.
type Assignment struct {
	Field string // where to: a path; a missing segment is appended
	Value string // text; escaped, so that a separator in it stays text
	Expr  string // an expression that yields text or a number
	Raw   string // wire form, written with the usual separators ^ ~ \ & whatever the message uses; ASCII
	Null  bool   // the HL7 null `""`: "delete what you have"
}

// FromTo says what to copy or move, and where to.
type FromTo struct{ From, To string }

// A Mapping replaces a coded value by what a table has for it.
type Mapping struct {
	Field   string
	Table   string
	Default *string // for a value that the table does not have; overrides the table's own
	Trim    *bool   // look up without surrounding spaces; nil: as the table says
	Case    string  // "ignore", "exact" or "": as the table says
	Missing string  // what to do about a value the table does not have: "keep", "empty", "fail", or "": default, else keep
}

// A Replacement changes text by a regular expression (RE2).
type Replacement struct {
	Field   string // each piece of text below it is changed on its own, so no separator is ever touched
	Pattern string
	With    string // $1 or ${1} is the first group, $$ a dollar
}

// A Table translates codes. Values are compared whole.
type Table struct {
	Values     map[string]string
	Default    *string // for what Values does not have
	Trim       bool    // look up without surrounding spaces
	IgnoreCase bool
}

// Tables are the code tables of a configuration, by name.
type Tables map[string]Table
