package transform

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/lazaret-health/lazaret/hl7"
)

type tokenKind uint8

const (
	tokEnd    tokenKind = iota
	tokString           // "a" or 'a'
	tokNumber           // 12, -3.5
	tokPath             // PID-3.1
	tokWord             // and, upper
	tokSign             // == ( [ ,
)

type token struct {
	kind   tokenKind
	text   string // word, sign, or a string's content
	at     int    // offset in the source
	number float64
	path   hl7.Path
}

// describe names the token in an error text.
func (t token) describe() string {
	switch t.kind {
	case tokEnd:
		return "the end"
	case tokString:
		return "a text"
	case tokNumber:
		return "a number"
	case tokPath:
		return "the address " + t.path.String()
	default:
		return strconv.Quote(t.text)
	}
}

// Bounds of one expression. They are far above what a person writes, and keep compiling cheap and the stack shallow.
const (
	maxSource = 16 << 10 // bytes
	maxDepth  = 100      // brackets, calls and operators within one another
	maxDigits = 15       // of a number: what a float64 holds exactly
)

// lex cuts an expression into tokens; the last one is tokEnd.
func lex(src string) ([]token, error) {
	if len(src) > maxSource {
		return nil, errorAt(src, 0, "the expression is too long", fmt.Sprintf("at most %d bytes", maxSource))
	}
	if !utf8.ValidString(src) {
		return nil, errorAt(src, 0, "the expression is not UTF-8", "")
	}
	var tokens []token
	for at := 0; ; {
		for at < len(src) && strings.IndexByte(" \t\r\n", src[at]) >= 0 {
			at++
		}
		if at == len(src) {
			return append(tokens, token{kind: tokEnd, at: at}), nil
		}
		t, end, err := lexOne(src, at)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
		at = end
	}
}

// lexOne reads the token at src[at], which is no space, and says where it ends.
func lexOne(src string, at int) (token, int, error) {
	c := src[at]
	switch {
	case c == '"' || c == '\'':
		return lexString(src, at)
	case isDigit(c), c == '-' && at+1 < len(src) && isDigit(src[at+1]):
		return lexNumber(src, at)
	case isLetter(c):
		return lexWord(src, at)
	}
	for _, sign := range []string{"==", "!=", "<=", ">=", "&&", "||"} {
		if strings.HasPrefix(src[at:], sign) {
			return token{kind: tokSign, text: sign, at: at}, at + 2, nil
		}
	}
	if strings.IndexByte("<>()[],+!", c) >= 0 {
		return token{kind: tokSign, text: string(c), at: at}, at + 1, nil
	}
	switch c {
	case '=':
		return token{}, 0, errorAt(src, at, `"=" is no operator`, `write "=="`)
	case '&', '|':
		return token{}, 0, errorAt(src, at, fmt.Sprintf("%q is no operator", string(c)), `write "and" or "or"`)
	case '-':
		return token{}, 0, errorAt(src, at, `"-" stands only in an address or before a number`, "PID-3, -5")
	}
	r, _ := utf8.DecodeRuneInString(src[at:])
	hint := ""
	if strings.ContainsRune("“”„‘’", r) {
		hint = `use the plain quotes " or '`
	}
	return token{}, 0, errorAt(src, at, fmt.Sprintf("%q means nothing here", r), hint)
}

// lexString reads a text. It ends at the quote it began with; that quote twice is the quote itself. A backslash is a
// backslash, because regular expressions and HL7 escapes are full of them.
func lexString(src string, at int) (token, int, error) {
	quote := src[at]
	var text strings.Builder
	for i := at + 1; i < len(src); i++ {
		if src[i] != quote {
			text.WriteByte(src[i])
			continue
		}
		if i+1 < len(src) && src[i+1] == quote {
			text.WriteByte(quote)
			i++
			continue
		}
		return token{kind: tokString, text: text.String(), at: at}, i + 1, nil
	}
	return token{}, 0, errorAt(src, at, "the text has no end", "a text ends with the quote it began with: "+string(quote))
}

func lexNumber(src string, at int) (token, int, error) {
	end := at + 1
	for end < len(src) && (isDigit(src[end]) || src[end] == '.') {
		end++
	}
	word := src[at:end]
	if end < len(src) && isLetter(src[end]) {
		return token{}, 0, errorAt(src, at, "a number with letters in it", "write a text in quotes")
	}
	n, ok := parseNumber([]byte(word))
	if !ok {
		return token{}, 0, errorAt(src, at, "not a number", "as 12, -3 or 0.5")
	}
	if len(strings.Trim(word, "-.")) > maxDigits {
		return token{}, 0, errorAt(src, at, "the number has too many digits to be compared exactly", "write it in quotes, as a text")
	}
	return token{kind: tokNumber, number: n, at: at}, end, nil
}

// lexWord reads a word, or an address where one begins: three capitals or digits, then what belongs to an address.
func lexWord(src string, at int) (token, int, error) {
	end := at
	for end < len(src) && (isLetter(src[end]) || isDigit(src[end]) || src[end] == '_') {
		end++
	}
	word := src[at:end]
	if !isSegmentName(word) {
		return token{kind: tokWord, text: word, at: at}, end, nil
	}
	if end < len(src) && src[end] == '.' {
		return token{}, 0, errorAt(src, end, fmt.Sprintf("an address has a hyphen after %s", word), fmt.Sprintf("write %s-3.1", word))
	}
	end = skipIndex(src, end)
	if end+1 < len(src) && src[end] == '-' && isDigit(src[end+1]) {
		end = skipIndex(src, skipDigits(src, end+1))
		for end+1 < len(src) && src[end] == '.' && isDigit(src[end+1]) {
			end = skipDigits(src, end+1)
		}
		if end+1 < len(src) && src[end] == '-' && isDigit(src[end+1]) {
			return token{}, 0, errorAt(src, end, "an address has a dot before the component", "write PID-3.1")
		}
	}
	if end < len(src) && (isLetter(src[end]) || src[end] == '.' || src[end] == '-') {
		return token{}, 0, errorAt(src, end, fmt.Sprintf("%q does not belong to an address", string(src[end])), "as PID-3, PID-3(2).1, OBX(*)-5.1.2")
	}
	p, err := hl7.ParsePath(src[at:end])
	if err != nil {
		column, reason := pathFault(err)
		return token{}, 0, errorAt(src, at+column-1, reason, "")
	}
	return token{kind: tokPath, path: p, at: at}, end, nil
}

// pathFault takes apart what hl7.ParsePath says.
func pathFault(err error) (column int, reason string) {
	var fault *hl7.PathError
	if errors.As(err, &fault) {
		return fault.Column, fault.Reason
	}
	return 1, err.Error()
}

// skipIndex steps over "(2)", "(-1)" or "(*)".
func skipIndex(src string, at int) int {
	if at >= len(src) || src[at] != '(' {
		return at
	}
	end := at + 1
	if end < len(src) && src[end] == '*' {
		end++
	} else {
		if end < len(src) && src[end] == '-' {
			end++
		}
		first := end
		end = skipDigits(src, end)
		if end == first {
			return at
		}
	}
	if end >= len(src) || src[end] != ')' {
		return at
	}
	return end + 1
}

func skipDigits(src string, at int) int {
	for at < len(src) && isDigit(src[at]) {
		at++
	}
	return at
}

// isSegmentName knows the form, not the names: Z segments are anybody's.
func isSegmentName(s string) bool {
	if len(s) != 3 || s[0] < 'A' || s[0] > 'Z' {
		return false
	}
	for i := range s {
		if !isDigit(s[i]) && (s[i] < 'A' || s[i] > 'Z') {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// errorAt turns an offset into a line and a column.
func errorAt(src string, at int, reason, hint string) *SyntaxError {
	before := src[:min(at, len(src))]
	line := 1 + strings.Count(before, "\n")
	column := 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
	return &SyntaxError{Line: line, Column: column, Reason: reason, Hint: hint}
}
