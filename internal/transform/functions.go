package transform

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/lazaret-health/lazaret/hl7"
)

// A function of the language: how it is called, and what compiles a call with the right number of arguments.
type function struct {
	name     string
	usage    string
	min, max int // arguments; max -1: any number
	compile  func(c *compiler, n *node) (value, error)
}

// functions lists the whole language; docs/transform.md must have each.
func functions() []function {
	return []function{
		{"exists", "exists(address)", 1, 1, presence(func(p hl7.Presence) bool { return p == hl7.Present || p == hl7.Null })},
		{"empty", "empty(address)", 1, 1, presence(func(p hl7.Presence) bool { return p == hl7.Absent || p == hl7.Empty })},
		{"absent", "absent(address)", 1, 1, presence(func(p hl7.Presence) bool { return p == hl7.Absent })},
		{"isNull", "isNull(address)", 1, 1, presence(func(p hl7.Presence) bool { return p == hl7.Null })},
		{"any", "any(OBX, condition)", 2, 2, quantifier(func(l loop, test boolFn) value {
			return value{kind: kindBool, cond: func(e *env) bool { return l.find(e, test) }}
		})},
		{"all", "all(OBX, condition)", 2, 2, quantifier(func(l loop, test boolFn) value {
			fails := func(e *env) bool { return !test(e) }
			return value{kind: kindBool, cond: func(e *env) bool { return !l.find(e, fails) }}
		})},
		{"count", "count(OBX) or count(OBX, condition)", 1, 2, quantifier(func(l loop, test boolFn) value {
			return value{kind: kindNumber, number: func(e *env) float64 { return l.count(e, test) }}
		})},
		{"first", "first(PID-3, condition, text)", 3, 3, compileFirst},
		{"type", "type()", 0, 0, headerText("MSH-9.1")},
		{"event", "event()", 0, 0, headerText("MSH-9.2")},
		{"structure", "structure()", 0, 0, headerText("MSH-9.3")},
		{"version", "version()", 0, 0, headerText("MSH-12.1")},

		{"coalesce", "coalesce(text, text, ...)", 1, -1, compileCoalesce},
		{"if", "if(condition, then, else)", 3, 3, compileIf},
		{"upper", "upper(text)", 1, 1, textOf(bytes.ToUpper)},
		{"lower", "lower(text)", 1, 1, textOf(bytes.ToLower)},
		{"trim", "trim(text)", 1, 1, textOf(bytes.TrimSpace)},
		{"length", "length(text)", 1, 1, compileLength},
		{"substring", "substring(text, start) or substring(text, start, length)", 2, 3, compileSubstring},
		{"padLeft", `padLeft(text, length, "0")`, 3, 3, compilePadLeft},
		{"replace", "replace(text, old, new)", 3, 3, compileReplace},
		{"replacePattern", "replacePattern(text, pattern, new)", 3, 3, compileReplacePattern},
		{"extract", "extract(text, pattern)", 2, 2, compileExtract},

		{"number", "number(text)", 1, 1, func(c *compiler, n *node) (value, error) {
			f, err := c.asNumber(n.args[0])
			return value{kind: kindNumber, number: f}, err
		}},
		{"text", "text(number)", 1, 1, func(c *compiler, n *node) (value, error) {
			f, err := c.asNumber(n.args[0])
			return value{kind: kindText, text: func(e *env) []byte { return formatNumber(f(e)) }}, err
		}},
		{"date", "date(text)", 1, 1, func(c *compiler, n *node) (value, error) {
			d, err := c.asDate(n.args[0])
			return value{kind: kindDate, date: d}, err
		}},
		{"year", "year(date)", 1, 1, datePart(func(s stamp) float64 { return s.part(toYear) })},
		{"month", "month(date)", 1, 1, datePart(func(s stamp) float64 { return s.part(toMonth) })},
		{"day", "day(date)", 1, 1, datePart(func(s stamp) float64 { return s.part(toDay) })},
		{"hour", "hour(date)", 1, 1, datePart(func(s stamp) float64 { return s.part(toHour) })},
		{"minute", "minute(date)", 1, 1, datePart(func(s stamp) float64 { return s.part(toMinute) })},
		{"weekday", "weekday(date)", 1, 1, datePart(stamp.weekday)},
		{"days", "days(from, to)", 2, 2, span(daysBetween)},
		{"years", "years(from, to)", 2, 2, span(yearsBetween)},
	}
}

func functionNames() []string {
	var names []string
	for _, f := range functions() {
		names = append(names, f.name)
	}
	return names
}

// call finds the function and hands the call to it.
func (c *compiler) call(n *node) (value, error) {
	for _, f := range functions() {
		if f.name != n.op {
			continue
		}
		if len(n.args) < f.min || f.max >= 0 && len(n.args) > f.max {
			return value{}, c.errorf(n, "write "+f.usage, "%s() does not take %d arguments", f.name, len(n.args))
		}
		v, err := f.compile(c, n)
		if err != nil {
			return value{}, err
		}
		v.node = n
		return v, nil
	}
	hint := "docs/transform.md lists the functions"
	if near := didYouMean(n.op, functionNames()); near != "" {
		hint = fmt.Sprintf("did you mean %s()?", near)
	}
	return value{}, c.errorf(n, hint, "there is no function %s()", n.op)
}

// place compiles an argument that must be an address.
func (c *compiler) place(call *node, i int) (*node, error) {
	n := call.args[i]
	if n.kind != nodePath {
		return nil, c.errorf(n, "as PID-3.1 or OBX", "%s() wants an address here", call.op)
	}
	return n, nil
}

// presence compiles a question about whether an element is there. With (*) it asks whether it holds for any.
func presence(holds func(hl7.Presence) bool) func(*compiler, *node) (value, error) {
	return func(c *compiler, n *node) (value, error) {
		at, err := c.place(n, 0)
		if err != nil {
			return value{}, err
		}
		b := c.bind(at.path)
		if !b.path.HasWildcard() {
			return value{kind: kindBool, cond: func(e *env) bool { return holds(e.m.Presence(b.in(e))) }}, nil
		}
		if n.op != "exists" && n.op != "isNull" {
			loop := loopName(at.path)
			return value{}, c.errorf(at, fmt.Sprintf("write all(%s, ...) or any(%s, ...)", loop, loop), "%s() of an address with (*) can be read in two ways", n.op)
		}
		return value{kind: kindBool, cond: func(e *env) bool {
			for p := range e.concrete(b.in(e)) {
				if holds(e.m.Presence(p)) {
					return true
				}
			}
			return false
		}}, nil
	}
}

// quantifier compiles a loop over its first argument with a condition as its second.
func quantifier(make func(loop, boolFn) value) func(*compiler, *node) (value, error) {
	return func(c *compiler, n *node) (value, error) {
		l, test, err := c.loopAndTest(n)
		if err != nil {
			return value{}, err
		}
		return make(l, test), nil
	}
}

// loopAndTest compiles the first two arguments of a loop function; without a second, every element counts.
func (c *compiler) loopAndTest(n *node) (loop, boolFn, error) {
	at, err := c.place(n, 0)
	if err != nil {
		return loop{}, nil, err
	}
	l, wrong := c.loop(at.path)
	if wrong != "" {
		return loop{}, nil, c.errorf(at, "", "%s", wrong)
	}
	test := func(*env) bool { return true }
	err = c.within(at.path, func() (err error) {
		if len(n.args) > 1 {
			test, err = c.condition(n.args[1])
		}
		return err
	})
	return l, test, err
}

// find stops at the first element for which test holds, which is then at hand.
func (l loop) find(e *env, test boolFn) bool {
	for range l.each(e) {
		if test(e) {
			return true
		}
	}
	return false
}

func (l loop) count(e *env, test boolFn) float64 {
	n := 0
	for range l.each(e) {
		if test(e) {
			n++
		}
	}
	return float64(n)
}

// compileFirst compiles the text that the first fitting element gives.
func compileFirst(c *compiler, n *node) (value, error) {
	l, test, err := c.loopAndTest(n)
	if err != nil {
		return value{}, err
	}
	var text textFn
	err = c.within(n.args[0].path, func() (err error) {
		text, err = c.asText(n.args[2])
		return err
	})
	return value{kind: kindText, text: func(e *env) []byte {
		if !l.find(e, test) {
			return nil
		}
		return text(e)
	}}, err
}

func headerText(path string) func(*compiler, *node) (value, error) {
	return func(*compiler, *node) (value, error) {
		p := hl7.MustPath(path)
		return value{kind: kindText, text: func(e *env) []byte { return e.text(p) }}, nil
	}
}

func compileCoalesce(c *compiler, n *node) (value, error) {
	texts := make([]textFn, len(n.args))
	for i, a := range n.args {
		var err error
		if texts[i], err = c.asText(a); err != nil {
			return value{}, err
		}
	}
	return value{kind: kindText, text: func(e *env) []byte {
		for _, text := range texts {
			if t := text(e); len(t) > 0 {
				return t
			}
		}
		return nil
	}}, nil
}

// compileIf compiles a choice; both ways must be of one kind.
func compileIf(c *compiler, n *node) (value, error) {
	test, err := c.condition(n.args[0])
	if err != nil {
		return value{}, err
	}
	yes, err := c.single(n.args[1])
	if err != nil {
		return value{}, err
	}
	no, err := c.single(n.args[2])
	if err != nil {
		return value{}, err
	}
	if yes.kind != no.kind {
		return value{}, c.errorf(n.args[2], "", "if() gives a %s or a %s: both must be of one kind", yes.kind, no.kind)
	}
	v := value{kind: yes.kind}
	switch yes.kind {
	case kindText:
		v.text = func(e *env) []byte { return choose(test(e), yes.text, no.text)(e) }
	case kindNumber:
		v.number = func(e *env) float64 { return choose(test(e), yes.number, no.number)(e) }
	case kindDate:
		v.date = func(e *env) stamp { return choose(test(e), yes.date, no.date)(e) }
	case kindBool:
		v.cond = func(e *env) bool { return choose(test(e), yes.cond, no.cond)(e) }
	default:
		return value{}, c.errorf(n.args[1], "", "if() cannot give a list")
	}
	return v, nil
}

func choose[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

func textOf(change func([]byte) []byte) func(*compiler, *node) (value, error) {
	return func(c *compiler, n *node) (value, error) {
		text, err := c.asText(n.args[0])
		return value{kind: kindText, text: func(e *env) []byte { return change(text(e)) }}, err
	}
}

func compileLength(c *compiler, n *node) (value, error) {
	text, err := c.asText(n.args[0])
	return value{kind: kindNumber, number: func(e *env) float64 { return float64(utf8.RuneCount(text(e))) }}, err
}

// compileSubstring counts characters from 1; a negative start counts from the end.
func compileSubstring(c *compiler, n *node) (value, error) {
	text, err := c.asText(n.args[0])
	if err != nil {
		return value{}, err
	}
	start, err := c.asNumber(n.args[1])
	if err != nil {
		return value{}, err
	}
	length := func(*env) float64 { return maxText }
	if len(n.args) > 2 {
		if length, err = c.asNumber(n.args[2]); err != nil {
			return value{}, err
		}
	}
	return value{kind: kindText, text: func(e *env) []byte { return substring(text(e), start(e), length(e)) }}, nil
}

func substring(t []byte, start, length float64) []byte {
	size := float64(utf8.RuneCount(t))
	if start < 0 {
		start = max(size+start, 0)
	} else {
		start--
	}
	// Written so that no number (NaN) fails every comparison and gives "".
	if !(start >= 0 && start < size && length >= 1) {
		return nil
	}
	return t[runeOffset(t, int(start)):runeOffset(t, int(min(start+length, size)))]
}

// runeOffset is where the n-th character begins, from 0.
func runeOffset(t []byte, n int) int {
	at := 0
	for range n {
		_, size := utf8.DecodeRune(t[at:])
		at += size
	}
	return at
}

func compilePadLeft(c *compiler, n *node) (value, error) {
	text, err := c.asText(n.args[0])
	if err != nil {
		return value{}, err
	}
	width, filler := n.args[1], n.args[2]
	if width.kind != nodeNumber || width.number < 0 || width.number > 1000 {
		return value{}, c.errorf(width, "at most 1000", "padLeft() wants the length as a number")
	}
	if filler.kind != nodeText || utf8.RuneCountInString(filler.text) != 1 {
		return value{}, c.errorf(filler, `as "0"`, "padLeft() wants one character to fill with")
	}
	return value{kind: kindText, text: func(e *env) []byte {
		t := text(e)
		missing := int(width.number) - utf8.RuneCount(t)
		if missing <= 0 || !e.roomFor(len(t)+missing*len(filler.text)) {
			return t
		}
		return append([]byte(strings.Repeat(filler.text, missing)), t...)
	}}, nil
}

func compileReplace(c *compiler, n *node) (value, error) {
	text, err := c.asText(n.args[0])
	if err != nil {
		return value{}, err
	}
	old, err := c.asText(n.args[1])
	if err != nil {
		return value{}, err
	}
	with, err := c.asText(n.args[2])
	if err != nil {
		return value{}, err
	}
	return value{kind: kindText, text: func(e *env) []byte {
		t, o, w := text(e), old(e), with(e)
		if len(o) == 0 { // bytes.ReplaceAll would put w between all characters
			return t
		}
		if !e.roomFor(len(t) + bytes.Count(t, o)*(len(w)-len(o))) {
			return nil
		}
		return bytes.ReplaceAll(t, o, w)
	}}, nil
}

func compileReplacePattern(c *compiler, n *node) (value, error) {
	text, err := c.asText(n.args[0])
	if err != nil {
		return value{}, err
	}
	re, err := c.pattern(n.args[1])
	if err != nil {
		return value{}, err
	}
	with := n.args[2]
	if with.kind != nodeText {
		return value{}, c.errorf(with, "as $1", "the replacement must be written out")
	}
	s, wrong := newSubstitution(re, with.text)
	if wrong != "" {
		return value{}, c.errorf(with, "write ${1}x for group 1 and then x, $$ for a dollar", "%s", wrong)
	}
	return value{kind: kindText, text: func(e *env) []byte {
		t := text(e)
		if !s.fits(t) {
			e.roomFor(maxText + 1)
			return nil
		}
		return s.apply(t)
	}}, nil
}

// compileExtract compiles the first group of the first match; the whole match where the pattern has no group.
func compileExtract(c *compiler, n *node) (value, error) {
	text, err := c.asText(n.args[0])
	if err != nil {
		return value{}, err
	}
	re, err := c.pattern(n.args[1])
	if err != nil {
		return value{}, err
	}
	group := min(re.NumSubexp(), 1)
	return value{kind: kindText, text: func(e *env) []byte {
		found := re.FindSubmatch(text(e))
		if found == nil {
			return nil
		}
		return found[group]
	}}, nil
}

func datePart(part func(stamp) float64) func(*compiler, *node) (value, error) {
	return func(c *compiler, n *node) (value, error) {
		d, err := c.asDate(n.args[0])
		return value{kind: kindNumber, number: func(e *env) float64 { return part(d(e)) }}, err
	}
}

func span(between func(a, b stamp) float64) func(*compiler, *node) (value, error) {
	return func(c *compiler, n *node) (value, error) {
		from, err := c.asDate(n.args[0])
		if err != nil {
			return value{}, err
		}
		to, err := c.asDate(n.args[1])
		return value{kind: kindNumber, number: func(e *env) float64 { return between(from(e), to(e)) }}, err
	}
}
