package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/lazaret-health/lazaret/internal/config"
)

const checkHelp = `Read the configuration and say what is wrong, unsafe or not in force. Nothing is changed, and but for --database nothing is
connected to.

Usage: lazaret check [--config FILE] [--database] [--strict] [--json]
       lazaret check --schema

    --config FILE   the configuration; else lazaret.yaml here, else /etc/lazaret/lazaret.yaml.
                    The files of lazaret.d beside it belong to it
    --database      connect to PostgreSQL and look at the server and at what our role may do there; a "note" is what could not be
                    seen. "lazaret serve" does so at each start
    --strict        warnings count too
    --json          the findings as JSON
    --schema        print the JSON Schema of the configuration, for editors

An error keeps the service from starting; a warning does not, but a person should know. The exit code is 1 when there is an
error (with --strict: anything at all), else 0.

Examples:
    lazaret check --config /etc/lazaret/lazaret.yaml
    lazaret check --strict || exit 1                     in a pipeline that rolls configurations out
    lazaret check --database                             is the database's server as docs/postgresql.md has it?
    lazaret check --schema > lazaret.schema.json
`

// A finding is one line of check, as JSON has it.
type finding struct {
	Level  config.Level `json:"level"`
	File   string       `json:"file,omitempty"`
	Line   int          `json:"line,omitempty"`
	Column int          `json:"column,omitempty"`
	Key    string       `json:"key,omitempty"`
	What   string       `json:"what"`
	Next   string       `json:"next,omitempty"`
}

func (p *program) check(ctx context.Context, args []string) error {
	f := newFlags("check")
	path, strict := f.String("config", "", ""), f.Bool("strict", false, "")
	database := f.Bool("database", false, "")
	asJSON, schema := f.Bool("json", false, ""), f.Bool("schema", false, "")
	if err := f.noArguments(args); err != nil {
		return err
	}
	if *schema {
		p.print(string(config.Schema()))
		return nil
	}
	list, err := p.findings(*path)
	if err != nil {
		return err
	}
	if *database {
		if c, err := config.Load(*path); err == nil { // what does not load is in the list already
			list = append(list, databaseFindings(ctx, c)...)
		}
	}
	failures, warnings := 0, 0
	for _, one := range list {
		switch one.Level {
		case config.Error:
			failures++
		case config.Warning:
			warnings++
		}
	}
	if *asJSON {
		err = p.json(struct {
			Errors   int       `json:"errors"`
			Warnings int       `json:"warnings"`
			Findings []finding `json:"findings"`
		}{failures, warnings, list})
		if err != nil {
			return err
		}
	} else {
		p.showFindings(list)
		p.printf("%s, %s\n", count(failures, "error"), count(warnings, "warning"))
	}
	if failures > 0 || *strict && warnings > 0 {
		return errFound
	}
	return nil
}

// findings loads a configuration and checks it, the expressions in it too. What does not load is a finding as well.
func (p *program) findings(path string) (list []finding, err error) {
	list = []finding{}
	add := func(level config.Level, problems ...config.Problem) {
		for _, one := range problems {
			list = append(list, finding{level, one.File, one.Line, one.Column, one.Key, one.What, one.Next})
		}
	}
	c, err := config.Load(path)
	var wrong config.Errors
	switch {
	case errors.As(err, &wrong):
		add(config.Error, wrong...)
		return list, nil
	case err != nil:
		return nil, err
	}
	for _, one := range c.Check(p.now()) {
		add(one.Level, one.Problem)
	}
	list = append(list, recoveryFindings(c)...)
	for i := range c.Channels {
		if _, wrong := compileChannel(c, &c.Channels[i]); len(wrong) > 0 {
			add(config.Error, wrong...)
		}
	}
	slices.SortStableFunc(list, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return list, nil
}

func (p *program) showFindings(list []finding) {
	for _, one := range list {
		where := config.Problem{File: one.File, Line: one.Line, Key: one.Key, What: one.What}
		p.printf("%s: %s\n", one.Level, clean(where.Error()))
		if one.Next != "" {
			p.printf("    hint: %s\n", clean(one.Next))
		}
	}
}

// count writes "no errors", "1 error", "2 errors".
func count(n int, what string) string {
	switch n {
	case 0:
		return "no " + what + "s"
	case 1:
		return "1 " + what
	}
	return thousands(int64(n)) + " " + what + "s"
}

// thousands writes 1,234,567.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
