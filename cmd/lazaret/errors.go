package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/control"
)

// Exit codes. A script can tell "there is something to see to" from "you called it wrongly".
const (
	exitDone  = 0
	exitFound = 1
	exitUsage = 2
)

// errFound ends a command with 1 after it has said itself what it found.
var errFound = errors.New("found something")

// A usageError says that the command line is wrong.
type usageError struct {
	what    string
	command string // whose --help to read
}

func (e *usageError) Error() string { return e.what }

func usage(what string, command ...string) error {
	return &usageError{what: what, command: strings.Join(command, " ")}
}

// hinted is an error with a next step.
type hinted struct {
	error
	next string
}

func (e *hinted) Unwrap() error { return e.error }

func hint(err error, next string) error { return &hinted{err, next} }

// report shows what a command returned, and turns it into an exit code. It is the only place that does either.
func (p *program) report(err error) int {
	var wrong *usageError
	var problems config.Errors
	var hinted *hinted
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errFound):
		return exitFound
	case errors.As(err, &wrong):
		p.complain(wrong.what, strings.TrimSpace(`run "lazaret `+wrong.command)+` --help"`)
		return exitUsage
	case errors.As(err, &problems):
		p.problems(problems)
		return exitFound
	case errors.As(err, &hinted):
		p.complain(err.Error(), hinted.next)
	case errors.Is(err, context.Canceled):
		p.complain("interrupted", "")
	case errors.Is(err, control.ErrUnreachable):
		p.complain(err.Error(), `start it with "lazaret serve", or name its configuration with --config FILE`)
	case errors.Is(err, fs.ErrNotExist) && strings.Contains(err.Error(), "configuration"):
		p.complain(err.Error(), `name one with --config FILE, or run "lazaret demo", which writes one`)
	default:
		p.complain(err.Error(), "")
	}
	return exitFound
}

// complain writes an error, and what to do about it.
func (p *program) complain(what, next string) {
	for i, line := range strings.Split(what, "\n") {
		if i == 0 {
			line = "lazaret: " + line
		}
		fmt.Fprintln(p.stderr, clean(line))
	}
	if next != "" {
		fmt.Fprintln(p.stderr, "hint: "+clean(next))
	}
}

func (p *program) problems(list config.Errors) {
	for _, problem := range list {
		p.complain(problem.Error(), problem.Next)
	}
}

// A flagSet is a command's options.
type flagSet struct {
	*flag.FlagSet
	command string
}

func newFlags(command string) *flagSet {
	f := &flagSet{flag.NewFlagSet(command, flag.ContinueOnError), command}
	f.SetOutput(io.Discard)
	return f
}

// parse reads options wherever they stand, and returns the other arguments. Behind "--" nothing is an option.
func (f *flagSet) parse(args []string) (rest []string, err error) {
	for {
		if err := f.FlagSet.Parse(args); err != nil {
			return nil, usage(strings.ReplaceAll(err.Error(), "flag provided but not defined: -", "there is no option --"), f.command)
		}
		left := f.Args()
		if n := len(args) - len(left); len(left) == 0 || n > 0 && args[n-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

// noArguments is for commands that take options alone.
func (f *flagSet) noArguments(args []string) error {
	rest, err := f.parse(args)
	if err == nil && len(rest) > 0 {
		err = usage("what is "+quoted(rest[0])+"? the command takes options alone", f.command)
	}
	return err
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

// suggest names the command that was probably meant.
func suggest(typed string, list []command) string {
	best, distance := "", 3
	for _, c := range list {
		if c.brief == "" {
			continue
		}
		if d := editDistance(typed, c.name); d < distance {
			best, distance = c.name, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// editDistance counts the letters to change, add or take (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := diagonal
			if a[i] != b[j] {
				next++
			}
			diagonal = row[j+1]
			row[j+1] = min(next, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// oneOf checks an option that takes one of a few words.
func oneOf(f *flagSet, name, value string, words ...string) error {
	if slices.Contains(words, value) {
		return nil
	}
	return usage("--"+name+" "+quoted(value)+" is none of "+strings.Join(words, ", "), f.command)
}
