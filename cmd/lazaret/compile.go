package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/transform"
)

// A compiled destination: its filter and its steps, nil where it has none.
type compiled struct {
	filter *transform.Expr
	steps  *transform.Program
}

// compileChannel compiles the expressions of a channel, in the order of its destinations. What is wrong is a problem with its
// place in the file: package config keeps expressions as text, and package transform knows no files.
func compileChannel(c *config.Config, ch *config.Channel) (list []compiled, wrong []config.Problem) {
	tables := transformTables(c.Tables)
	for i := range ch.Destinations {
		d := &ch.Destinations[i]
		key := "channels." + ch.Name + ".destinations." + d.Name
		var one compiled
		var err error
		if d.Filter != nil {
			if one.filter, err = transform.CompileExpr(d.Filter.Text); err != nil {
				wrong = append(wrong, expressionProblem(*d.Filter, key+".filter", err))
			}
		}
		if len(d.Steps) > 0 {
			if one.steps, err = transform.CompileSteps(transformSteps(d.Steps), tables); err != nil {
				wrong = append(wrong, stepProblems(c, d, key, err)...)
			}
		}
		list = append(list, one)
	}
	return list, wrong
}

func expressionProblem(e config.Expression, key string, err error) config.Problem {
	at, what, next := e.At, err.Error(), ""
	var syntax *transform.SyntaxError
	if errors.As(err, &syntax) {
		at, what, next = e.Place(syntax.Line, syntax.Column), fmt.Sprintf("column %d: %s", syntax.Column, syntax.Reason), syntax.Hint
	}
	return config.Problem{File: at.File, Line: at.Line, Column: at.Column, Key: key, What: what, Next: next}
}

// stepProblems gives each joined StepError its place.
func stepProblems(c *config.Config, d *config.Destination, key string, err error) (list []config.Problem) {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, one := range joined.Unwrap() {
			list = append(list, stepProblems(c, d, key, one)...)
		}
		return list
	}
	var wrong *transform.StepError
	if !errors.As(err, &wrong) || wrong.Step < 1 || wrong.Step > len(d.Steps) {
		return []config.Problem{{File: d.At.File, Line: d.At.Line, Column: d.At.Column, Key: key + ".steps", What: err.Error()}}
	}
	step := d.Steps[wrong.Step-1]
	if step.Map != nil && wrong.Key == "map.table" {
		if _, known := c.Tables[step.Map.Table]; !known {
			return nil // Config.Check says so, with a suggestion
		}
	}
	at := fmt.Sprintf("%s.steps[%d].%s", key, wrong.Step, wrong.Key)
	if e := expressionIn(step, wrong.Key); e != nil {
		return []config.Problem{expressionProblem(*e, at, wrong.Err)}
	}
	what := wrong.Err.Error()
	if wrong.Column > 0 {
		what = fmt.Sprintf("column %d: %s", wrong.Column, what)
	}
	return []config.Problem{{File: step.At.File, Line: step.At.Line, Column: step.At.Column, Key: at, What: what}}
}

// expressionIn finds the expression that a step's key means, or nil.
func expressionIn(s config.Step, key string) *config.Expression {
	if key == "when" {
		return s.When
	}
	for _, a := range s.Set {
		if a.Expr != nil && (key == "set."+a.Field || strings.HasPrefix(key, "set."+a.Field+".")) {
			return a.Expr
		}
	}
	return nil
}

func transformTables(tables map[string]config.Table) transform.Tables {
	out := transform.Tables{}
	for name, t := range tables {
		values := make(map[string]string, len(t.Values))
		for code, v := range t.Values {
			values[code] = string(v)
		}
		out[name] = transform.Table{Values: values, Default: (*string)(t.Default), Trim: t.Trim, IgnoreCase: t.Case == "ignore"}
	}
	return out
}

func transformSteps(steps []config.Step) (out []transform.Step) {
	for _, s := range steps {
		t := transform.Step{Line: s.At.Line, For: s.For, Delete: s.Delete}
		if s.When != nil {
			t.When = s.When.Text
		}
		for _, a := range s.Set {
			one := transform.Assignment{Field: a.Field, Value: a.Value, Raw: a.Raw, Null: a.Null}
			if a.Expr != nil {
				one.Expr = a.Expr.Text
			}
			t.Set = append(t.Set, one)
		}
		if s.Copy != nil {
			t.Copy = &transform.FromTo{From: s.Copy.From, To: s.Copy.To}
		}
		if s.Move != nil {
			t.Move = &transform.FromTo{From: s.Move.From, To: s.Move.To}
		}
		if m := s.Map; m != nil {
			t.Map = &transform.Mapping{Field: m.Field, Table: m.Table, Default: (*string)(m.Default), Trim: m.Trim, Case: m.Case, Missing: m.Missing}
		}
		if r := s.Replace; r != nil {
			t.Replace = &transform.Replacement{Field: r.Field, Pattern: r.Pattern, With: string(r.With)}
		}
		out = append(out, t)
	}
	return out
}
