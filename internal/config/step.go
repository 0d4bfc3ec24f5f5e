package config

import (
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"
)

// An Expression is a filter or a condition as text, with its place; package transform compiles it.
type Expression struct {
	Text   string
	At     Position `json:"-"` // of the text's first character where the file says it plainly, else of its beginning
	indent int      // what each further line of a block has before the text; -1: lines do not match the file's
}

// Place is where line and column (from 1, in characters) of the text stand in the file.
func (e Expression) Place(line, column int) Position {
	p := e.At
	switch {
	case e.indent < 0 || line < 1:
	case e.indent > 0:
		p.Line, p.Column = p.Line+line-1, e.indent+column
	case line == 1:
		p.Column += column - 1
	}
	return p
}

func (e *Expression) read(r *reader, n *yaml.Node, key string) {
	const next = "write an expression in quotes, such as 'MSH-9.1 == \"ADT\"'"
	text, ok := r.scalar(n, key, "an expression", next)
	if !ok {
		return
	}
	if strings.TrimSpace(text) == "" {
		r.fail(n, key, "is empty", next)
		return
	}
	e.Text, e.At = text, r.place(n)
	switch {
	case n.Style&yaml.LiteralStyle != 0:
		e.At.Line++
		e.indent = r.indentOf(n, e.At.Line)
		e.At.Column = e.indent + 1
	case n.Style&yaml.FoldedStyle != 0 || strings.Contains(text, "\n"):
		e.indent = -1
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		e.At.Column++
	}
}

func (*Expression) schema() map[string]any {
	return map[string]any{"title": "expression", "type": "string", "pattern": `\S`}
}

// A Step changes a message. Exactly one of its actions is given.
type Step struct {
	Set     Assignments  `key:"set" doc:"Fields and the values they get: a constant as it is written, {expr: EXPRESSION}, {raw: TEXT} in wire form, or {null: true}."`
	Copy    *FromTo      `key:"copy" doc:"Copies a field into another."`
	Move    *FromTo      `key:"move" doc:"Copies a field into another and empties the first."`
	Delete  Paths        `key:"delete" doc:"What goes: a segment, field, repetition, component, or a list of them."`
	Map     *Mapping     `key:"map" doc:"Translates a field through a table."`
	Replace *Replacement `key:"replace" doc:"Replaces text in a field."`
	For     string       `key:"for" doc:"Do it for each: a segment (OBX) or a repeated field (PID-3). Paths inside then mean this one."`
	When    *Expression  `key:"when" doc:"Do it only where this expression holds."`
	At      Position     `json:"-"`
}

// An Assignment gives a field a value: exactly one of Value, Expr, Raw and Null.
type Assignment struct {
	Field string
	Value string      // a constant as text; may be empty
	Expr  *Expression // what is computed
	Raw   string      // a constant in wire form, with separators
	Null  bool        // the HL7 null ("")
	At    Position    `json:"-"`
}

// assigned is the long form of an assigned value.
type assigned struct {
	Expr *Expression `key:"expr" doc:"The expression whose value the field gets."`
	Raw  string      `key:"raw" doc:"A value in wire form: its separators ^ ~ & stay separators."`
	Null bool        `key:"null" doc:"true: the HL7 null, which tells the receiver to delete what it has."`
}

func (a *assigned) verify(r *reader, n *yaml.Node, key string) {
	if len(n.Content) != 2 || field(n, "null") != nil && !a.Null {
		r.fail(n, key, "is not one of expr, raw and null", "write {expr: EXPRESSION}, {raw: TEXT} or {null: true}")
	}
}

func (*assigned) constrain(s map[string]any) { s["minProperties"], s["maxProperties"] = 1, 1 }

// Assignments are in the order in which they are written.
type Assignments []Assignment

// Paths are one path or several.
type Paths []string

// FromTo says what to copy or move, and where to.
type FromTo struct {
	From string `key:"from" required:"true" doc:"The field that is read."`
	To   string `key:"to" required:"true" doc:"The field that is written."`
}

// A Mapping translates a field through a table.
type Mapping struct {
	Field   string `key:"field" required:"true" doc:"The field that is translated."`
	Table   string `key:"table" required:"true" doc:"The table's name, under tables."`
	Default *Text  `key:"default" doc:"What a code that the table does not hold becomes, here. Not given: the table's default."`
	Trim    *bool  `key:"trim" doc:"As in the table; here it goes before it."`
	Case    string `key:"case" enum:"exact,ignore" doc:"As in the table; here it goes before it."`
	Missing string `key:"missing" enum:"keep,empty,fail" doc:"What happens to a code that the table does not hold. Not given: the table's default, else keep."`
}

// A Replacement changes text in a field.
type Replacement struct {
	Field   string `key:"field" required:"true" doc:"The field that is changed."`
	Pattern string `key:"pattern" required:"true" doc:"A regular expression (RE2)."`
	With    Text   `key:"with" empty:"true" doc:"What each match becomes; $1 is its first group."`
}

var actions = []string{"set", "copy", "move", "delete", "map", "replace"}

func (s *Step) verify(r *reader, n *yaml.Node, key string) {
	var given []string
	for _, a := range actions {
		if field(n, a) != nil {
			given = append(given, a)
		}
	}
	switch len(given) {
	case 1:
	case 0:
		r.fail(n, key, "says nothing to do", "give one of "+strings.Join(actions, ", "))
	default:
		r.fail(n, key, "says several things to do: "+strings.Join(given, ", "), "make each a step of its own")
	}
}

func (*Step) constrain(s map[string]any) {
	var one []any
	for _, a := range actions {
		one = append(one, map[string]any{"required": []any{a}})
	}
	s["oneOf"] = one
}

func (a *Assignments) read(r *reader, n *yaml.Node, key string) {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		r.fail(n, key, "is not a mapping of fields to values", "write set: {PID-3.4: STMARY}")
		return
	}
	for name, v := range r.pairs(n, key) {
		k := joinKey(key, name.Value)
		one := Assignment{Field: name.Value, At: r.place(name)}
		if r.resolve(v).Kind == yaml.MappingNode {
			var long assigned
			r.value(v, reflect.ValueOf(&long).Elem(), k, fieldTag{})
			one.Expr, one.Raw, one.Null = long.Expr, long.Raw, long.Null
		} else {
			var t Text
			r.value(v, reflect.ValueOf(&t).Elem(), k, fieldTag{empty: true})
			one.Value = string(t)
		}
		*a = append(*a, one)
	}
}

func (*Assignments) schema() map[string]any {
	return map[string]any{
		"title": "fields and values", "type": "object", "minProperties": 1,
		"additionalProperties": map[string]any{"oneOf": []any{
			map[string]any{"type": []any{"string", "number", "boolean"}},
			schemaOf(reflect.ValueOf(&assigned{}).Elem(), fieldTag{}),
		}},
	}
}

func (p *Paths) read(r *reader, n *yaml.Node, key string) {
	if n.Kind != yaml.SequenceNode {
		var one string
		r.value(n, reflect.ValueOf(&one).Elem(), key, fieldTag{})
		*p = Paths{one}
		return
	}
	var many []string
	r.value(n, reflect.ValueOf(&many).Elem(), key, fieldTag{})
	*p = many
	if len(n.Content) == 0 {
		r.fail(n, key, "is an empty list", "name what goes, or remove the step")
	}
}

func (*Paths) schema() map[string]any {
	text := map[string]any{"type": "string", "minLength": 1}
	return map[string]any{"title": "path of a field, or a list of them", "oneOf": []any{text, map[string]any{"type": "array", "items": text, "minItems": 1}}}
}
