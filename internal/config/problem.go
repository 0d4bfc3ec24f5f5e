package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Position is a place in a file. Lines and columns start at 1; 0 is "not known".
type Position struct {
	File   string
	Line   int
	Column int
}

// String is FILE:LINE, as compilers write it.
func (p Position) String() string {
	switch {
	case p.File == "":
		return "configuration"
	case p.Line == 0:
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// A Problem is one thing that is wrong with a configuration. It never quotes a value that may be a secret.
type Problem struct {
	File   string
	Line   int // from 1; 0: the file as a whole
	Column int
	Key    string // dotted, with the names of list members: channels.adt.source.mllp.listen
	What   string
	Next   string // what to do; may be empty
}

// Error is FILE:LINE: KEY: WHAT, without the next step.
func (p Problem) Error() string {
	s := Position{File: p.File, Line: p.Line}.String() + ": "
	if p.Key != "" {
		s += p.Key + ": "
	}
	return s + p.What
}

// Errors are all problems of a configuration, sorted by file and line.
type Errors []Problem

// Error is one line a problem.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

func (e Errors) sort() {
	slices.SortStableFunc(e, func(a, b Problem) int { return byPlace(a, b) })
}

func byPlace(a, b Problem) int {
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Key, b.Key))
}

// parentKey is the key around this one. Names in keys may hold dots: the recorded places decide which parent exists.
func parentKey(key string) string {
	i := strings.LastIndexByte(key, '.')
	return key[:max(i, 0)]
}

func joinKey(parent, key string) string {
	if parent == "" {
		return key
	}
	return parent + "." + key
}

// printable is a key as a terminal may show it: a file can have anything for a key.
func printable(key string) string {
	const most = 200
	clean := strings.Map(func(c rune) rune {
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, key)
	if utf8.RuneCountInString(clean) > most {
		return string([]rune(clean)[:most]) + "…"
	}
	return clean
}
