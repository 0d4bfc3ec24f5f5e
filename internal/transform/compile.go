package transform

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/lazaret-health/lazaret/hl7"
)

type kind uint8

const (
	kindText kind = iota
	kindNumber
	kindBool
	kindDate
	kindList
)

func (k kind) String() string {
	return [...]string{"text", "number", "condition", "date", "list"}[k]
}

// A value is a compiled node: its kind, and the function of that kind.
type value struct {
	kind    kind
	node    *node
	literal bool
	wild    *boundPath // an address with (*): text holds for none, and only comparisons and exists() take it
	text    textFn
	number  numberFn
	cond    boolFn
	date    dateFn
}

// A compiler gives every node its type and turns it into functions.
type compiler struct {
	src    string
	scopes []hl7.Path // what the loops around go over, outermost first: a segment, or a field of it
	frames int        // the most loops within one another
	items  int        // comparisons with (*)
}

// newEnv returns a maker of what the compiled expression needs when it runs.
func (c *compiler) newEnv() func() any {
	frames, items := c.frames, c.items
	return func() any { return &env{frames: make([]frame, frames), items: make([][]byte, items)} }
}

func (c *compiler) errorf(n *node, hint, format string, args ...any) error {
	return errorAt(c.src, n.at, fmt.Sprintf(format, args...), hint)
}

// condition compiles a node that must be true or false.
func (c *compiler) condition(n *node) (boolFn, error) {
	v, err := c.compile(n)
	if err != nil {
		return nil, err
	}
	if v.kind == kindBool {
		return v.cond, nil
	}
	hint := `compare it: length(PID-3.1) > 5`
	if n.kind == nodePath {
		hint = fmt.Sprintf(`write exists(%s), or compare it: %s == "..."`, n.path, n.path)
	}
	return nil, c.errorf(n, hint, "a %s stands where a condition was expected", v.kind)
}

func (c *compiler) compile(n *node) (value, error) {
	switch n.kind {
	case nodeText:
		b := []byte(n.text)
		return value{kind: kindText, node: n, literal: true, text: func(*env) []byte { return b }}, nil
	case nodeNumber:
		return value{kind: kindNumber, node: n, literal: true, number: func(*env) float64 { return n.number }}, nil
	case nodeBool:
		return value{kind: kindBool, node: n, literal: true, cond: func(*env) bool { return n.flag }}, nil
	case nodeList:
		return value{kind: kindList, node: n, literal: true}, nil
	case nodePath:
		return c.address(n)
	case nodeNot, nodeAnd, nodeOr:
		return c.logic(n)
	case nodeAdd:
		return c.add(n)
	case nodeCompare:
		return c.compare(n)
	default:
		return c.call(n)
	}
}

// address compiles the text of an element.
func (c *compiler) address(n *node) (value, error) {
	if n.path.Field == 0 {
		return value{}, c.errorf(n, fmt.Sprintf("name a field, as %s-1, or ask exists(%s) or count(%s)", n.path, n.path, n.path), "a whole segment has no text")
	}
	b := c.bind(n.path)
	v := value{kind: kindText, node: n}
	switch {
	case b.path.HasWildcard():
		v.wild = &b
	case b.frame < 0:
		p := b.path
		v.text = func(e *env) []byte { return e.text(p) }
	default:
		v.text = func(e *env) []byte { return e.text(b.in(e)) }
	}
	return v, nil
}

// bind finds the innermost loop whose element an address means: one over its segment, where the address says no number
// of its own.
func (c *compiler) bind(p hl7.Path) boundPath {
	if p.SegmentRep == 0 {
		for i, scope := range slices.Backward(c.scopes) {
			if scope.Segment == p.Segment {
				return boundPath{path: p, frame: i, rep: scope.Field != 0 && scope.Field == p.Field && p.Rep == 0}
			}
		}
	}
	return boundPath{path: p, frame: -1}
}

// loop compiles what a loop goes over. A field belongs to the segment at hand where a loop over that is around; a segment
// always means all of its name.
func (c *compiler) loop(p hl7.Path) (loop, string) {
	if p.Component != 0 {
		return loop{}, "a loop goes over segments (OBX) or repetitions of a field (PID-3), not over components"
	}
	if p.Rep != 0 && p.Rep != hl7.Any {
		return loop{}, "a loop goes over all repetitions: leave out the number of this one"
	}
	var l loop
	if p.Field == 0 {
		l.over = boundPath{path: p, frame: -1}
	} else {
		l.over = c.bind(p) // each goes over all its repetitions, whichever is at hand
	}
	if l.over.frame < 0 && p.SegmentRep == 0 {
		l.over.path.SegmentRep = hl7.Any
	}
	l.frame = len(c.scopes)
	return l, ""
}

// within compiles what stands inside a loop over p.
func (c *compiler) within(p hl7.Path, inside func() error) error {
	c.scopes = append(c.scopes, hl7.Path{Segment: p.Segment, Field: p.Field})
	c.frames = max(c.frames, len(c.scopes))
	err := inside()
	c.scopes = c.scopes[:len(c.scopes)-1]
	return err
}

func (c *compiler) logic(n *node) (value, error) {
	parts := make([]boolFn, len(n.args))
	for i, a := range n.args {
		var err error
		if parts[i], err = c.condition(a); err != nil {
			return value{}, err
		}
	}
	v := value{kind: kindBool, node: n}
	switch n.kind {
	case nodeNot:
		part := parts[0]
		v.cond = func(e *env) bool { return !part(e) }
	case nodeAnd:
		v.cond = func(e *env) bool {
			for _, part := range parts {
				if !part(e) {
					return false
				}
			}
			return true
		}
	default:
		v.cond = func(e *env) bool {
			for _, part := range parts {
				if part(e) {
					return true
				}
			}
			return false
		}
	}
	return v, nil
}

// add joins texts, or adds numbers, and does not guess.
func (c *compiler) add(n *node) (value, error) {
	parts := make([]value, len(n.args))
	for i, a := range n.args {
		v, err := c.single(a)
		if err != nil {
			return value{}, err
		}
		if v.kind != kindText && v.kind != kindNumber {
			return value{}, c.errorf(a, "", `a %s cannot be added`, v.kind)
		}
		if parts[i] = v; v.kind != parts[0].kind {
			return value{}, c.errorf(a, "text(count(OBX)) makes a text of a number, number(OBX-5) a number of a text", `"+" joins texts or adds numbers, and here are both`)
		}
	}
	if parts[0].kind == kindNumber {
		return value{kind: kindNumber, node: n, number: func(e *env) float64 {
			sum := 0.0
			for _, p := range parts {
				sum += p.number(e)
			}
			return sum
		}}, nil
	}
	return value{kind: kindText, node: n, text: func(e *env) []byte {
		var joined []byte
		for _, p := range parts {
			t := p.text(e)
			if !e.roomFor(len(joined) + len(t)) {
				return nil
			}
			joined = append(joined, t...)
		}
		return joined
	}}, nil
}

// single compiles a node that must be one value: no address with (*).
func (c *compiler) single(n *node) (value, error) {
	v, err := c.compile(n)
	if err == nil && v.wild != nil {
		err = c.errorf(n, fmt.Sprintf("any(%s, ...) asks each of them", loopName(n.path)), "an address with (*) may be compared, and stands nowhere else")
	}
	return v, err
}

// loopName is the loop that an address with (*) would be written as.
func loopName(p hl7.Path) string {
	if p.Rep == hl7.Any {
		return fmt.Sprintf("%s-%d", p.Segment, p.Field)
	}
	return p.Segment
}

// asText, asNumber and asDate compile an argument of that kind. Text serves as number and date: fields are text.
func (c *compiler) asText(n *node) (textFn, error) {
	v, err := c.single(n)
	if err != nil {
		return nil, err
	}
	switch v.kind {
	case kindText:
		return v.text, nil
	case kindNumber:
		return nil, c.errorf(n, "write it in quotes, or text(...)", "a number stands where a text was expected")
	default:
		return nil, c.errorf(n, "", "a %s stands where a text was expected", v.kind)
	}
}

func (c *compiler) asNumber(n *node) (numberFn, error) {
	v, err := c.single(n)
	if err != nil {
		return nil, err
	}
	return c.toNumber(v)
}

func (c *compiler) toNumber(v value) (numberFn, error) {
	switch v.kind {
	case kindNumber:
		return v.number, nil
	case kindText:
		if v.literal {
			f, ok := parseNumber([]byte(v.node.text))
			if !ok {
				return nil, c.errorf(v.node, "", "this text is no number, and stands where one was expected")
			}
			return func(*env) float64 { return f }, nil
		}
		text := v.text
		return func(e *env) float64 {
			f, _ := parseNumber(text(e))
			return f
		}, nil
	default:
		return nil, c.errorf(v.node, "", "a %s stands where a number was expected", v.kind)
	}
}

func (c *compiler) asDate(n *node) (dateFn, error) {
	v, err := c.single(n)
	if err != nil {
		return nil, err
	}
	return c.toDate(v)
}

func (c *compiler) toDate(v value) (dateFn, error) {
	switch v.kind {
	case kindDate:
		return v.date, nil
	case kindText:
		if v.literal {
			s := parseStamp([]byte(v.node.text))
			if s.precise == noDate {
				return nil, c.errorf(v.node, `as "1980", "19800615" or "20240131143000+0100"`, "this text is no date, and stands where one was expected")
			}
			return func(*env) stamp { return s }, nil
		}
		text := v.text
		return func(e *env) stamp { return parseStamp(text(e)) }, nil
	case kindNumber:
		return nil, c.errorf(v.node, "write the date in quotes", "a number stands where a date was expected")
	default:
		return nil, c.errorf(v.node, "", "a %s stands where a date was expected", v.kind)
	}
}

// compare compiles a comparison. Where one side has a (*), it holds if it holds for any of the elements.
func (c *compiler) compare(n *node) (value, error) {
	left, err := c.compile(n.args[0])
	if err != nil {
		return value{}, err
	}
	right, err := c.compile(n.args[1])
	if err != nil {
		return value{}, err
	}
	var wild *boundPath
	item := c.items
	for _, side := range []*value{&left, &right} {
		if side.wild == nil {
			continue
		}
		if wild != nil {
			return value{}, c.errorf(n, "any(OBX, OBX-5 == PID-3(*).1) says which is asked first", "both sides have a (*)")
		}
		if n.op == "!=" || n.op == "not in" {
			loop := loopName(side.wild.path)
			return value{}, c.errorf(n, fmt.Sprintf(`write not (... %s ...) for "none of them", or any(%s, ...) for "at least one of them not"`, map[string]string{"!=": "==", "not in": "in"}[n.op], loop), "%q with (*) can be read in two ways", n.op)
		}
		wild = side.wild
		side.text = func(e *env) []byte { return e.items[item] }
		c.items++
	}
	test, err := c.test(n, left, right)
	if err != nil {
		return value{}, err
	}
	if wild == nil {
		return value{kind: kindBool, node: n, cond: test}, nil
	}
	return value{kind: kindBool, node: n, cond: func(e *env) bool {
		for p := range e.concrete(wild.in(e)) {
			e.items[item] = e.text(p)
			if test(e) {
				return true
			}
		}
		return false
	}}, nil
}

// test compiles the comparison of two single values. Numbers come before dates, dates before texts: one number makes it a
// comparison of numbers.
func (c *compiler) test(n *node, left, right value) (boolFn, error) {
	switch n.op {
	case "in", "not in":
		return c.member(n, left, right)
	case "matches":
		return c.matches(left, right)
	case "contains", "startsWith", "endsWith":
		return c.partOf(n, left, right)
	}
	if left.kind == kindList || right.kind == kindList {
		return nil, c.errorf(n, `write "in"`, "a list cannot be compared by %q", n.op)
	}
	has := func(k kind) bool { return left.kind == k || right.kind == k }
	switch {
	case has(kindBool):
		return c.compareConditions(n, left, right)
	case has(kindNumber):
		a, err := c.toNumber(left)
		if err != nil {
			return nil, err
		}
		b, err := c.toNumber(right)
		if err != nil {
			return nil, err
		}
		return compareNumbers(n.op, a, b), nil
	case has(kindDate):
		a, err := c.toDate(left)
		if err != nil {
			return nil, err
		}
		b, err := c.toDate(right)
		if err != nil {
			return nil, err
		}
		return compareDates(n.op, a, b), nil
	}
	return c.compareTexts(n, left, right)
}

func (c *compiler) compareConditions(n *node, left, right value) (boolFn, error) {
	if left.kind != right.kind {
		return nil, c.errorf(n, `a field holds text: compare it with "Y"`, "a %s and a %s cannot be compared", left.kind, right.kind)
	}
	a, b := left.cond, right.cond
	switch n.op {
	case "==":
		return func(e *env) bool { return a(e) == b(e) }, nil
	case "!=":
		return func(e *env) bool { return a(e) != b(e) }, nil
	}
	return nil, c.errorf(n, "", "conditions have no order")
}

func (c *compiler) compareTexts(n *node, left, right value) (boolFn, error) {
	a, b := left.text, right.text
	switch n.op {
	case "==":
		return func(e *env) bool { return bytes.Equal(a(e), b(e)) }, nil
	case "!=":
		return func(e *env) bool { return !bytes.Equal(a(e), b(e)) }, nil
	}
	return nil, c.errorf(n, "numbers: OBX-5 > 10, without quotes, or number(OBX-5) > number(OBX-7); dates: date(PID-7) < \"1980\"", "texts have no order")
}

func compareNumbers(op string, a, b numberFn) boolFn {
	switch op {
	case "==":
		return func(e *env) bool { return a(e) == b(e) }
	case "!=":
		return func(e *env) bool { return a(e) != b(e) }
	case "<":
		return func(e *env) bool { return a(e) < b(e) }
	case "<=":
		return func(e *env) bool { return a(e) <= b(e) }
	case ">":
		return func(e *env) bool { return a(e) > b(e) }
	default:
		return func(e *env) bool { return a(e) >= b(e) }
	}
}

func compareDates(op string, a, b dateFn) boolFn {
	holds := map[string]func(order int) bool{
		"==": func(o int) bool { return o == 0 },
		"!=": func(o int) bool { return o == 0 },
		"<":  func(o int) bool { return o < 0 },
		"<=": func(o int) bool { return o <= 0 },
		">":  func(o int) bool { return o > 0 },
		">=": func(o int) bool { return o >= 0 },
	}[op]
	negate := op == "!=" // also true where there is no date: it is exactly not (==)
	return func(e *env) bool {
		order, ok := compareStamps(a(e), b(e))
		return (ok && holds(order)) != negate
	}
}

// member compiles "in". Short lists are walked, which is faster than hashing.
func (c *compiler) member(n *node, left, right value) (boolFn, error) {
	if right.kind != kindList {
		return nil, c.errorf(n, `as MSH-9.2 in ["A01", "A04"]`, "%q wants a list", n.op)
	}
	var test boolFn
	list := right.node.args
	if list[0].kind == nodeNumber {
		number, err := c.toNumber(left)
		if err != nil {
			return nil, err
		}
		test = func(e *env) bool {
			f := number(e)
			return slices.ContainsFunc(list, func(m *node) bool { return m.number == f })
		}
	} else {
		if left.kind != kindText {
			return nil, c.errorf(left.node, "", "a %s cannot be in a list of texts", left.kind)
		}
		text := left.text
		const short = 8
		if len(list) <= short {
			test = func(e *env) bool {
				t := text(e)
				for _, m := range list {
					if string(t) == m.text {
						return true
					}
				}
				return false
			}
		} else {
			set := make(map[string]bool, len(list))
			for _, m := range list {
				set[m.text] = true
			}
			test = func(e *env) bool { return set[string(text(e))] }
		}
	}
	if n.op == "not in" {
		return func(e *env) bool { return !test(e) }, nil
	}
	return test, nil
}

func (c *compiler) matches(left, right value) (boolFn, error) {
	if left.kind != kindText {
		return nil, c.errorf(left.node, "", "a %s cannot match a pattern", left.kind)
	}
	re, err := c.pattern(right.node)
	if err != nil {
		return nil, err
	}
	text := left.text
	return func(e *env) bool { return re.Match(text(e)) }, nil
}

// pattern compiles a regular expression, which must be written out, so that it is checked now.
func (c *compiler) pattern(n *node) (*regexp.Regexp, error) {
	if n.kind != nodeText {
		return nil, c.errorf(n, "a pattern is a text in quotes", "the pattern must be written out")
	}
	re, err := regexp.Compile(n.text)
	if err != nil {
		return nil, c.errorf(n, "patterns are RE2: github.com/google/re2/wiki/Syntax", "the pattern is wrong: %v", err)
	}
	return re, nil
}

// partOf compiles contains, startsWith and endsWith.
func (c *compiler) partOf(n *node, left, right value) (boolFn, error) {
	for _, side := range []value{left, right} {
		if side.kind != kindText {
			return nil, c.errorf(side.node, "", "%q compares texts, and here is a %s", n.op, side.kind)
		}
	}
	is := map[string]func(s, part []byte) bool{"contains": bytes.Contains, "startsWith": bytes.HasPrefix, "endsWith": bytes.HasSuffix}[n.op]
	a, b := left.text, right.text
	return func(e *env) bool { return is(a(e), b(e)) }, nil
}

// formatNumber writes a number as a field has it: no exponent; "" for none.
func formatNumber(f float64) []byte {
	if f != f {
		return nil
	}
	return strconv.AppendFloat(nil, f, 'f', -1, 64)
}
