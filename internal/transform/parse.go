package transform

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lazaret-health/lazaret/hl7"
)

type nodeKind uint8

const (
	nodeText   nodeKind = iota // "a": text
	nodeNumber                 // 12: number
	nodeBool                   // true: flag
	nodeList                   // [..]: args
	nodePath                   // PID-3.1: path
	nodeNot                    // not args[0]
	nodeAnd                    // args[0] and args[1] and ...
	nodeOr
	nodeAdd     // args[0] + args[1] + ...
	nodeCompare // args[0] op args[1]
	nodeCall    // op(args...)
)

// A node is one piece of a parsed expression, before its types are known.
type node struct {
	kind   nodeKind
	at     int // offset in the source
	op     string
	text   string
	number float64
	flag   bool
	path   hl7.Path
	args   []*node
}

// wordOperators compare as the signs do, and are spelt out. "not in" is the only one of two words.
var wordOperators = []string{"in", "matches", "contains", "startsWith", "endsWith"}

var signOperators = []string{"==", "!=", "<", "<=", ">", ">="}

// A parser goes over the tokens by recursive descent, one method a level of precedence.
type parser struct {
	src    string
	tokens []token
	depth  int
}

// parse reads a whole expression.
func parse(src string) (*node, error) {
	tokens, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{src: src, tokens: tokens}
	if p.peek().kind == tokEnd {
		return nil, errorAt(src, 0, "the expression is empty", "")
	}
	n, err := p.or()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokEnd {
		return nil, p.unexpected(t)
	}
	return n, nil
}

func (p *parser) peek() token { return p.tokens[0] }

func (p *parser) next() token {
	t := p.tokens[0]
	if t.kind != tokEnd {
		p.tokens = p.tokens[1:]
	}
	return t
}

// take steps over a sign or a word where one stands next.
func (p *parser) take(kind tokenKind, spellings ...string) bool {
	t := p.peek()
	if t.kind != kind || !slices.Contains(spellings, t.text) {
		return false
	}
	p.next()
	return true
}

func (p *parser) errorf(at int, hint, format string, args ...any) error {
	return errorAt(p.src, at, fmt.Sprintf(format, args...), hint)
}

// unexpected explains a token that stands where an operator or the end was due.
func (p *parser) unexpected(t token) error {
	hint := ""
	switch {
	case t.kind == tokPath && t.path == (hl7.Path{Segment: t.path.Segment}) && slices.Contains([]string{"AND", "NOT"}, t.path.Segment):
		hint = fmt.Sprintf("write %q", strings.ToLower(t.path.Segment))
	case t.kind == tokWord:
		if near := didYouMean(t.text, append([]string{"and", "or", "not"}, wordOperators...)); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
	case t.kind == tokSign && slices.Contains(signOperators, t.text):
		hint = `comparisons do not follow one another: join two by "and"`
	case t.kind == tokNumber:
		hint = "there is no subtraction"
	}
	return p.errorf(t.at, hint, "%s stands where an operator or the end was expected", t.describe())
}

// deeper bounds the nesting, so that "((((" ends with an error and not with the stack.
func (p *parser) deeper() error {
	p.depth++
	if p.depth > maxDepth {
		return p.errorf(p.peek().at, fmt.Sprintf("at most %d levels", maxDepth), "the expression is nested too deeply")
	}
	return nil
}

func (p *parser) or() (*node, error) {
	if err := p.deeper(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	return p.chain(nodeOr, p.and, func() bool { return p.take(tokWord, "or") || p.take(tokSign, "||") })
}

func (p *parser) and() (*node, error) {
	return p.chain(nodeAnd, p.not, func() bool { return p.take(tokWord, "and") || p.take(tokSign, "&&") })
}

func (p *parser) sum() (*node, error) {
	return p.chain(nodeAdd, p.primary, func() bool { return p.take(tokSign, "+") })
}

// chain reads operands of one associative operator into one node. Brackets around the same operator change nothing, so
// they are dissolved.
func (p *parser) chain(kind nodeKind, operand func() (*node, error), more func() bool) (*node, error) {
	first, err := operand()
	if err != nil {
		return nil, err
	}
	whole := &node{kind: kind, at: first.at}
	for n := first; ; {
		if n.kind == kind {
			whole.args = append(whole.args, n.args...)
		} else {
			whole.args = append(whole.args, n)
		}
		if !more() {
			break
		}
		if n, err = operand(); err != nil {
			return nil, err
		}
	}
	if len(whole.args) == 1 {
		return first, nil
	}
	return whole, nil
}

func (p *parser) not() (*node, error) {
	t := p.peek()
	if !p.take(tokWord, "not") && !p.take(tokSign, "!") {
		return p.comparison()
	}
	if err := p.deeper(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	n, err := p.not()
	if err != nil {
		return nil, err
	}
	return &node{kind: nodeNot, at: t.at, args: []*node{n}}, nil
}

func (p *parser) comparison() (*node, error) {
	left, err := p.sum()
	if err != nil {
		return nil, err
	}
	t := p.peek()
	op := t.text
	switch {
	case p.take(tokSign, signOperators...), p.take(tokWord, wordOperators...):
	case p.take(tokWord, "not"):
		if !p.take(tokWord, "in") {
			return nil, p.errorf(t.at, `"not" after a value goes with "in": for the others write not (a matches b)`, `"not" stands where an operator was expected`)
		}
		op = "not in"
	default:
		return left, nil
	}
	right, err := p.sum()
	if err != nil {
		return nil, err
	}
	return &node{kind: nodeCompare, at: t.at, op: op, args: []*node{left, right}}, nil
}

func (p *parser) primary() (*node, error) {
	t := p.next()
	switch t.kind {
	case tokString:
		return &node{kind: nodeText, at: t.at, text: t.text}, nil
	case tokNumber:
		return &node{kind: nodeNumber, at: t.at, number: t.number}, nil
	case tokPath:
		return &node{kind: nodePath, at: t.at, path: t.path}, nil
	case tokWord:
		return p.word(t)
	case tokSign:
		switch t.text {
		case "(":
			n, err := p.or()
			if err != nil {
				return nil, err
			}
			return n, p.close(t, ")")
		case "[":
			return p.list(t)
		}
	}
	return nil, p.errorf(t.at, "", "%s stands where a value was expected", t.describe())
}

// word reads true, false or a call.
func (p *parser) word(t token) (*node, error) {
	if t.text == "true" || t.text == "false" {
		return &node{kind: nodeBool, at: t.at, flag: t.text == "true"}, nil
	}
	if !p.take(tokSign, "(") {
		hint := "a text stands in quotes"
		if upper := strings.ToUpper(t.text); isSegmentName(upper) {
			hint = "a segment is written in capitals: " + upper
		} else if near := didYouMean(t.text, functionNames()); near != "" {
			hint = fmt.Sprintf("did you mean %s()? A text stands in quotes", near)
		}
		return nil, p.errorf(t.at, hint, "%q means nothing here", t.text)
	}
	n := &node{kind: nodeCall, at: t.at, op: t.text}
	for !p.take(tokSign, ")") {
		if len(n.args) > 0 && !p.take(tokSign, ",") {
			return nil, p.unclosed(t, ")")
		}
		arg, err := p.or()
		if err != nil {
			return nil, err
		}
		n.args = append(n.args, arg)
	}
	return n, nil
}

func (p *parser) list(open token) (*node, error) {
	n := &node{kind: nodeList, at: open.at}
	for !p.take(tokSign, "]") {
		if len(n.args) > 0 && !p.take(tokSign, ",") {
			return nil, p.unclosed(open, "]")
		}
		t := p.next()
		switch t.kind {
		case tokString:
			n.args = append(n.args, &node{kind: nodeText, at: t.at, text: t.text})
		case tokNumber:
			n.args = append(n.args, &node{kind: nodeNumber, at: t.at, number: t.number})
		default:
			return nil, p.errorf(t.at, `as ["A01", "A04"] or [1, 2]`, "%s stands in a list, which holds texts or numbers", t.describe())
		}
		if n.args[0].kind != n.args[len(n.args)-1].kind {
			return nil, p.errorf(t.at, "one kind a list", "the list mixes texts and numbers")
		}
	}
	if len(n.args) == 0 {
		return nil, p.errorf(open.at, "", "the list is empty: nothing is in it")
	}
	return n, nil
}

func (p *parser) close(open token, sign string) error {
	if p.take(tokSign, sign) {
		return nil
	}
	return p.unclosed(open, sign)
}

func (p *parser) unclosed(open token, sign string) error {
	t := p.peek()
	if t.kind == tokEnd {
		return p.errorf(open.at, fmt.Sprintf("add %q", sign), "what %s opens is not closed", open.describe())
	}
	return p.errorf(t.at, fmt.Sprintf("%q was expected, or an operator", sign), "%s stands in the wrong place", t.describe())
}

// hasCommand says whether a formatting command stands in a text of the expression.
func (n *node) hasCommand() bool {
	return n.kind == nodeText && hasCommand(n.text) || slices.ContainsFunc(n.args, (*node).hasCommand)
}

// String writes the canonical form: double quotes, "and" and "or", single spaces, no bracket more than needed. It parses
// to the same expression.
func (n *node) String() string {
	var s strings.Builder
	n.write(&s)
	return s.String()
}

func (n *node) write(s *strings.Builder) {
	switch n.kind {
	case nodeText:
		s.WriteString(`"` + strings.ReplaceAll(n.text, `"`, `""`) + `"`)
	case nodeNumber:
		s.WriteString(strconv.FormatFloat(n.number, 'f', -1, 64))
	case nodeBool:
		s.WriteString(strconv.FormatBool(n.flag))
	case nodePath:
		s.WriteString(n.path.String())
	case nodeList:
		writeJoined(s, "[", n.args, ", ", "]", 0)
	case nodeCall:
		writeJoined(s, n.op+"(", n.args, ", ", ")", 0)
	case nodeNot:
		writeJoined(s, "not ", n.args, "", "", tightNot-1)
	case nodeAnd:
		writeJoined(s, "", n.args, " and ", "", tightAnd)
	case nodeOr:
		writeJoined(s, "", n.args, " or ", "", tightOr)
	case nodeAdd:
		writeJoined(s, "", n.args, " + ", "", tightAdd)
	case nodeCompare:
		writeJoined(s, "", n.args, " "+n.op+" ", "", tightCompare)
	}
}

// How tightly each kind of node binds; what binds no tighter than its holder stands in brackets.
const (
	tightOr = iota + 1
	tightAnd
	tightNot
	tightCompare
	tightAdd
	tightValue // literals, addresses, lists, calls
)

func (k nodeKind) tightness() int {
	switch k {
	case nodeOr:
		return tightOr
	case nodeAnd:
		return tightAnd
	case nodeNot:
		return tightNot
	case nodeCompare:
		return tightCompare
	case nodeAdd:
		return tightAdd
	default:
		return tightValue
	}
}

// writeJoined writes operands, in brackets those that do not bind tighter than holder.
func writeJoined(s *strings.Builder, before string, args []*node, between, after string, holder int) {
	s.WriteString(before)
	for i, a := range args {
		if i > 0 {
			s.WriteString(between)
		}
		if a.kind.tightness() > holder {
			a.write(s)
			continue
		}
		s.WriteByte('(')
		a.write(s)
		s.WriteByte(')')
	}
	s.WriteString(after)
}
