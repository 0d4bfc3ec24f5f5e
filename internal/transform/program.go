package transform

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"

	"github.com/lazaret-health/lazaret/hl7"
)

// A Program is a list of compiled steps.
type Program struct{ steps []*step }

// A step is a compiled Step.
type step struct {
	number, line int
	loop         *loop // nil: the step is carried out once
	when         boolFn
	act          action
	envs         sync.Pool // of *env
}

// An action changes the message of e, and notes in del what is to be deleted once the step has gone over everything, so
// that no number shifts under it. at is the element that err is about.
type action func(e *env, del *deletions) (at hl7.Path, err error)

// CompileSteps checks steps and the tables they name. The error joins a *StepError for each step that is wrong.
func CompileSteps(steps []Step, tables Tables) (*Program, error) {
	p := &Program{}
	var wrong []error
	for i, s := range steps {
		c := &stepCompiler{step: i + 1, line: s.Line, tables: tables}
		compiled, err := c.compileStep(s)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		p.steps = append(p.steps, compiled)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return p, nil
}

// A stepCompiler compiles one step. All its expressions share one env.
type stepCompiler struct {
	compiler
	step, line int
	tables     Tables
	loop       *loop
}

// errorf is an error of the step at a key. What an expression or an address says about itself is wrapped, for its column.
func (c *stepCompiler) errorf(key, format string, args ...any) error {
	return c.wrap(key, fmt.Errorf(format, args...))
}

func (c *stepCompiler) wrap(key string, err error) error {
	e := &StepError{Step: c.step, Line: c.line, Key: key, Err: err}
	var syntax *SyntaxError
	if errors.As(err, &syntax) {
		e.Column = syntax.Column
	}
	return e
}

func (c *stepCompiler) compileStep(s Step) (*step, error) {
	compiled := &step{number: c.step, line: c.line}
	if s.For != "" {
		if err := c.compileFor(s.For); err != nil {
			return nil, err
		}
		compiled.loop = c.loop
	}
	if s.When != "" {
		test, err := c.whenExpression(s.When)
		if err != nil {
			return nil, c.wrap("when", err)
		}
		compiled.when = test
	}
	var err error
	if compiled.act, err = c.compileAction(s); err != nil {
		return nil, err
	}
	compiled.envs.New = c.newEnv()
	return compiled, nil
}

func (c *stepCompiler) compileFor(src string) error {
	p, err := c.parsePath(src)
	if err != nil {
		return c.wrap("for", err)
	}
	l, wrong := c.compiler.loop(p)
	if wrong != "" {
		return c.errorf("for", "%s", wrong)
	}
	c.loop = &l
	c.scopes = append(c.scopes, hl7.Path{Segment: p.Segment, Field: p.Field})
	c.frames = 1
	return nil
}

func (c *stepCompiler) whenExpression(src string) (boolFn, error) {
	n, err := parse(src)
	if err != nil {
		return nil, err
	}
	c.src = src
	return c.condition(n)
}

// compileAction compiles the one thing that a step does.
func (c *stepCompiler) compileAction(s Step) (action, error) {
	given := []string{}
	for _, k := range []struct {
		name string
		here bool
	}{{"set", s.Set != nil}, {"copy", s.Copy != nil}, {"move", s.Move != nil}, {"delete", s.Delete != nil}, {"map", s.Map != nil}, {"replace", s.Replace != nil}} {
		if k.here {
			given = append(given, k.name)
		}
	}
	switch len(given) {
	case 1:
	case 0:
		return nil, c.errorf("step", "it does nothing: give it one of set, copy, move, delete, map, replace")
	default:
		return nil, c.errorf(given[1], "the step already does %q: make it two steps, they are carried out in order", given[0])
	}
	switch {
	case s.Set != nil:
		return c.compileSet(s.Set)
	case s.Copy != nil:
		return c.compileCopy("copy", *s.Copy, false)
	case s.Move != nil:
		return c.compileCopy("move", *s.Move, true)
	case s.Delete != nil:
		return c.compileDelete(s.Delete)
	case s.Map != nil:
		return c.compileMap(*s.Map)
	default:
		return c.compileReplace(*s.Replace)
	}
}

// parsePath reads an address; its errors are of the same kind as an expression's.
func (c *stepCompiler) parsePath(src string) (hl7.Path, error) {
	if src == "" {
		return hl7.Path{}, errors.New("an address is missing, as PID-3.1")
	}
	p, err := hl7.ParsePath(src)
	if err != nil {
		column, reason := pathFault(err)
		return hl7.Path{}, errorAt(src, column-1, reason, "")
	}
	return p, nil
}

// field reads the address of something with a value, and binds it to the loop.
func (c *stepCompiler) field(src string) (boundPath, error) {
	p, err := c.parsePath(src)
	if err != nil {
		return boundPath{}, err
	}
	if p.Field == 0 {
		return boundPath{}, fmt.Errorf("%s is a whole segment: name a field, as %s-3", p, p)
	}
	if isHeader(p.Segment) && p.Field <= 2 {
		return boundPath{}, fmt.Errorf("%s-1 and %s-2 are the separators of the whole message, and stay as they are", p.Segment, p.Segment)
	}
	return c.bind(p), nil
}

// target is field for an address that is written to.
func (c *stepCompiler) target(src string) (boundPath, error) {
	b, err := c.field(src)
	if err == nil && b.path.Segment == "MSH" && b.path.Field == 18 {
		err = errors.New("MSH-18 names the character set that the message is in: another name does not make it another set")
	}
	return b, err
}

// isHeader names the segments whose first fields are the separators themselves (2.5.4, 2.10.3).
func isHeader(segment string) bool { return segment == "MSH" || segment == "FHS" || segment == "BHS" }

func (c *stepCompiler) compileSet(assignments []Assignment) (action, error) {
	if len(assignments) == 0 {
		return nil, c.errorf("set", "it sets nothing")
	}
	acts := make([]action, len(assignments))
	for i, a := range assignments {
		key := "set." + a.Field
		to, err := c.target(a.Field)
		if err != nil {
			return nil, c.wrap(key, err)
		}
		put, err := c.compileAssignment(a, to)
		if err != nil {
			return nil, c.wrap(key, err)
		}
		acts[i] = func(e *env, _ *deletions) (hl7.Path, error) {
			for p := range e.concrete(to.in(e)) {
				if err := put(e, p); err != nil {
					return p, err
				}
			}
			return to.in(e), e.err
		}
	}
	return inOrder(acts), nil
}

// compileAssignment compiles what an element becomes.
func (c *stepCompiler) compileAssignment(a Assignment, to boundPath) (func(*env, hl7.Path) error, error) {
	switch {
	case a.Null:
		return func(e *env, p hl7.Path) error { return e.m.SetNull(p) }, nil
	case a.Expr != "":
		text, written, err := c.textExpression(a.Expr)
		if err != nil {
			return nil, err
		}
		return func(e *env, p hl7.Path) error {
			e.formatting = written
			t := string(text(e)) // a copy: what it views is about to change
			if e.err != nil {
				return e.err
			}
			return setText(e.m, p, t, e.formatting)
		}, nil
	case a.Raw != "":
		if err := checkRaw(a.Raw, to.path); err != nil {
			return nil, err
		}
		return func(e *env, p hl7.Path) error {
			return e.m.SetRaw(p, withSeparators(a.Raw, e.m.Separators()))
		}, nil
	}
	written := formatting{escapes: hasCommand(a.Value)}
	return func(e *env, p hl7.Path) error { return setText(e.m, p, a.Value, written) }, nil
}

// textExpression compiles an expression that gives the text of a field; a number is written as one. written is the
// formatting in the expression itself.
func (c *stepCompiler) textExpression(src string) (text textFn, written formatting, err error) {
	n, err := parse(src)
	if err != nil {
		return nil, written, err
	}
	c.src = src
	v, err := c.single(n)
	if err != nil {
		return nil, written, err
	}
	switch v.kind {
	case kindText:
		text = v.text
	case kindNumber:
		text = func(e *env) []byte { return formatNumber(v.number(e)) }
	case kindBool:
		err = c.compiler.errorf(n, `write if(..., "Y", "N")`, "a condition is no value for a field")
	case kindDate:
		err = c.compiler.errorf(n, "leave out date(): a field holds text", "a date is no value for a field")
	default:
		err = c.compiler.errorf(n, "", "a list is no value for a field")
	}
	return text, formatting{escapes: n.hasCommand()}, err
}

// inOrder does one after another.
func inOrder(acts []action) action {
	if len(acts) == 1 {
		return acts[0]
	}
	return func(e *env, del *deletions) (hl7.Path, error) {
		for _, act := range acts {
			if at, err := act(e, del); err != nil {
				return at, err
			}
		}
		return hl7.Path{}, nil
	}
}

func (c *stepCompiler) compileCopy(key string, ft FromTo, move bool) (action, error) {
	from, err := c.field(ft.From)
	if err != nil {
		return nil, c.wrap(key+".from", err)
	}
	if from.path.HasWildcard() {
		return nil, c.errorf(key+".from", "one source is needed, and (*) means many: use \"for\"")
	}
	to, err := c.target(ft.To)
	if err != nil {
		return nil, c.wrap(key+".to", err)
	}
	if move && from.path.Segment == "MSH" && from.path.Field == 18 {
		return nil, c.errorf(key+".from", "MSH-18 names the character set that the message is in, and stays")
	}
	if level(to.path) > level(from.path) {
		return nil, c.errorf(key+".from", "%s may have more parts than %s has room for: name one part, as %s", from.path, to.path, firstPart(from.path))
	}
	return func(e *env, del *deletions) (hl7.Path, error) {
		source, there := settle(e.m, from.in(e))
		var value []byte
		if there {
			raw, _ := e.m.Raw(source)
			value = slices.Clone(raw)
		}
		moved := there
		for p := range e.concrete(to.in(e)) {
			target, known := settle(e.m, p)
			if known && target == source {
				moved = false // it is where it should be
				continue
			}
			if known && overlap(target, source) {
				return p, fmt.Errorf("one of %s and %s is part of the other", source, target)
			}
			if err := putRaw(e.m, p, value); err != nil {
				return p, err
			}
		}
		if move && moved {
			del.add(source)
		}
		return from.in(e), e.err
	}, nil
}

// level is 1 for a field or repetition, 2 for a component, 3 for a subcomponent.
func level(p hl7.Path) int {
	switch {
	case p.Subcomponent != 0:
		return 3
	case p.Component != 0:
		return 2
	}
	return 1
}

func firstPart(p hl7.Path) hl7.Path {
	if p.Component == 0 {
		p.Component = 1
	} else {
		p.Subcomponent = 1
	}
	return p
}

func (c *stepCompiler) compileDelete(fields []string) (action, error) {
	if len(fields) == 0 {
		return nil, c.errorf("delete", "it deletes nothing")
	}
	acts := make([]action, len(fields))
	for i, src := range fields {
		p, err := c.parsePath(src)
		if err != nil {
			return nil, c.wrap("delete", err)
		}
		switch {
		case p.Segment == "MSH" && p.Field == 0:
			return nil, c.errorf("delete", "a message without MSH is none")
		case p.Field != 0:
			if _, err := c.target(src); err != nil {
				return nil, c.wrap("delete", err)
			}
		}
		b := c.bind(p)
		acts[i] = func(e *env, del *deletions) (hl7.Path, error) {
			for p := range e.concrete(b.in(e)) {
				if place, there := settle(e.m, p); there {
					del.add(place)
				}
			}
			return b.in(e), e.err
		}
	}
	return inOrder(acts), nil
}

func (c *stepCompiler) compileMap(m Mapping) (action, error) {
	field, err := c.target(m.Field)
	if err != nil {
		return nil, c.wrap("map.field", err)
	}
	table, ok := c.tables[m.Table]
	if !ok {
		var names []string
		for name := range c.tables {
			names = append(names, name)
		}
		slices.Sort(names)
		if near := didYouMean(m.Table, names); near != "" {
			return nil, c.errorf("map.table", "there is no table %q: did you mean %q?", m.Table, near)
		}
		return nil, c.errorf("map.table", "there is no table %q", m.Table)
	}
	l, key, err := newLookup(table, m)
	if err != nil {
		return nil, c.wrap("map."+key, err)
	}
	return func(e *env, _ *deletions) (hl7.Path, error) {
		for p := range e.concrete(field.in(e)) {
			if err := l.apply(e.m, p); err != nil {
				return p, err
			}
		}
		return field.in(e), e.err
	}, nil
}

func (c *stepCompiler) compileReplace(r Replacement) (action, error) {
	field, err := c.target(r.Field)
	if err != nil {
		return nil, c.wrap("replace.field", err)
	}
	if r.Pattern == "" {
		return nil, c.errorf("replace.pattern", "a pattern is missing")
	}
	re, err := regexp.Compile(r.Pattern)
	if err != nil {
		return nil, c.errorf("replace.pattern", "%w (patterns are RE2)", err)
	}
	s, wrong := newSubstitution(re, r.With)
	if wrong != "" {
		return nil, c.errorf("replace.with", "%s (write ${1}x for group 1 and then x, $$ for a dollar)", wrong)
	}
	written := formatting{escapes: hasCommand(r.With)}
	return func(e *env, _ *deletions) (hl7.Path, error) {
		for p := range e.concrete(field.in(e)) {
			if at, err := replaceBelow(e, p, s, written); err != nil {
				return at, err
			}
		}
		return field.in(e), e.err
	}, nil
}
