// Package transform answers what is done to a message on its way: which ones go on (filters), and what is changed in those
// that do (declarative steps). Both stand on one small expression language over HL7 v2 addresses, made for people who know
// HL7 and no programming: MSH-9.2 in ["A01", "A04"] and not exists(PV1-45).
//
// CompileExpr and CompileSteps do all that can be done without a message: syntax with line and column, types, regular
// expressions, tables, addresses. What they return never changes, and may be used by any number of goroutines at once.
//
// What holds:
//
//   - The same message always gives the same result: there is no clock, no randomness, no file and no network in here.
//   - Evaluation is total. An absent field is the empty text, text that is no number equals no number, and no expression
//     fails over what a message holds. Only bounds can be met: ErrTooMuchWork, ErrTooLong.
//   - Regular expressions are RE2: time is linear in the input. Source length and nesting are bounded.
//   - A value that a step sets can never become a separator, a segment or a frame; segments that no step names keep their
//     bytes. A step that fails may leave the message half changed: run a Program on a clone.
//   - Errors name steps, addresses and columns, never a value.
//
// docs/transform.md has every operator, function and step with an example; its examples are this package's tests.
package transform

import (
	"sync"

	"github.com/lazaret-health/lazaret/hl7"
)

// An Expr is a compiled condition.
type Expr struct {
	source *node
	test   boolFn
	envs   sync.Pool // of *env: evaluation allocates nothing when warm
}

// CompileExpr compiles a condition: a filter, or the "when" of a step. Errors are of type *SyntaxError.
func CompileExpr(src string) (*Expr, error) {
	n, err := parse(src)
	if err != nil {
		return nil, err
	}
	c := &compiler{src: src}
	test, err := c.condition(n)
	if err != nil {
		return nil, err
	}
	x := &Expr{source: n, test: test}
	x.envs.New = c.newEnv()
	return x, nil
}

// Match says whether the condition holds for m. With an error (ErrTooMuchWork, ErrTooLong) it does not.
func (x *Expr) Match(m *hl7.Message) (bool, error) {
	e := x.envs.Get().(*env)
	e.begin(m)
	ok := x.test(e)
	err := e.end()
	x.envs.Put(e)
	return ok && err == nil, err
}

// String is the canonical form of the expression. It compiles to the same expression.
func (x *Expr) String() string { return x.source.String() }
