package transform

import (
	"errors"
	"fmt"
	"strings"
)

// A SyntaxError says where an expression is wrong, and what to write instead. It quotes the expression, never a message.
type SyntaxError struct {
	Line, Column int // from 1, in characters
	Reason       string
	Hint         string // may be empty
}

func (e *SyntaxError) Error() string {
	s := fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// A StepError says which step of a configuration cannot be used, and why.
type StepError struct {
	Step   int    // from 1
	Line   int    // of the configuration; 0: unknown
	Key    string // "when", "set.PID-3.4", "map.table", ...
	Column int    // within the key's text, from 1; 0: the whole of it
	Err    error
}

func (e *StepError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "step %d", e.Step)
	if e.Line > 0 {
		fmt.Fprintf(&s, " (line %d)", e.Line)
	}
	fmt.Fprintf(&s, ": %s: %v", e.Key, e.Err)
	return s.String()
}

func (e *StepError) Unwrap() error { return e.Err }

// A RunError says which step could not be carried out on a message, and at which element. It never holds a value.
type RunError struct {
	Step  int    // from 1
	Line  int    // of the configuration; 0: unknown
	Field string // the element, as PID-3(2).4; empty: the condition or the step as a whole
	Err   error
}

func (e *RunError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "step %d", e.Step)
	if e.Line > 0 {
		fmt.Fprintf(&s, " (line %d)", e.Line)
	}
	if e.Field != "" {
		s.WriteString(": " + e.Field)
	}
	fmt.Fprintf(&s, ": %v", e.Err)
	return s.String()
}

func (e *RunError) Unwrap() error { return e.Err }

// What can go wrong with an expression that compiled. Each is a bound that keeps one message from holding up the others.
var (
	ErrTooMuchWork = errors.New("the message has too many segments or repetitions for this expression: use fewer any(), all() and (*) inside one another")
	ErrTooLong     = errors.New("the expression makes a text of more than 32 MiB")
)

// ErrNotInTable is what a map step with "missing: fail" ends with.
var ErrNotInTable = errors.New("the table has no entry for this value: add it, or give the step a default or another \"missing\"")

// didYouMean returns the name nearest to word, or "" where none is near.
func didYouMean(word string, names []string) string {
	best, bestAt := "", len(word)/3+2
	for _, n := range names {
		if d := editDistance(strings.ToLower(word), strings.ToLower(n)); d < bestAt {
			best, bestAt = n, d
		}
	}
	return best
}

// editDistance is Levenshtein's, over bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
