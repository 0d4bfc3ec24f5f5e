package transform

import (
	"fmt"
	"regexp"
	"strconv"
)

// A substitution replaces what a pattern finds. Its template has been checked: every group in it exists.
type substitution struct {
	re     *regexp.Regexp
	with   []byte
	groups int // how often the template names a group
}

// newSubstitution checks a template; wrong says what is wrong with it.
//
// regexp.Expand takes the longest name, so that $1x is the group "1x", and gives nothing for a group that there is not.
// Somebody would lose data by that, so it is refused here.
func newSubstitution(re *regexp.Regexp, with string) (s *substitution, wrong string) {
	s = &substitution{re: re, with: []byte(with)}
	for i := 0; i < len(with); i++ {
		if with[i] != '$' {
			continue
		}
		rest := with[i+1:]
		if len(rest) > 0 && rest[0] == '$' {
			i++
			continue
		}
		name, braced := groupName(rest)
		if name == "" {
			return nil, "a dollar stands alone in the replacement"
		}
		n, err := strconv.Atoi(name)
		if err == nil && n > re.NumSubexp() || err != nil && re.SubexpIndex(name) < 0 {
			return nil, fmt.Sprintf("the pattern has no group %q", name)
		}
		s.groups++
		i += len(name)
		if braced {
			i += 2
		}
	}
	return s, ""
}

// groupName reads what follows a dollar: name or {name}.
func groupName(s string) (name string, braced bool) {
	if len(s) > 0 && s[0] == '{' {
		s, braced = s[1:], true
	}
	end := 0
	for end < len(s) && (isLetter(s[end]) || isDigit(s[end]) || s[end] == '_') {
		end++
	}
	if braced && (end == len(s) || s[end] != '}') {
		return "", false
	}
	return s[:end], braced
}

// fits says whether the result surely stays within maxText. The groups of all matches lie in t without overlapping, so
// each mention of a group adds at most t once.
func (s *substitution) fits(t []byte) bool {
	matches := len(t) + 1
	if len(t)*(1+s.groups)+matches*len(s.with) <= maxText {
		return true
	}
	matches = len(s.re.FindAllIndex(t, -1))
	return len(t)*(1+s.groups)+matches*len(s.with) <= maxText
}

func (s *substitution) apply(t []byte) []byte { return s.re.ReplaceAll(t, s.with) }
