package transform

import (
	"bytes"
	"errors"

	"github.com/lazaret-health/lazaret/hl7"
)

// Formatting escapes (2.7.2 to 2.7.8: \.br\, \H\, \Cxxyy\, \Zdd..\) stand for no character, so text has them as they are
// on the wire, and hl7.Message.Set, which knows only text, would take them for backslashes and letters. What expressions
// and replacements make out of a field with such escapes is therefore written by setText, which keeps them.
//
// In what the configuration writes, the commands of 2.7.6 (\.br\, \.sp+2\, ...) are meant as such too.
//
// Where a field has both a formatting escape and the same characters as text (\E\.br\E\), the text does not tell which is
// which. That is an error, and not a guess.

var errMixedFormatting = errors.New("the field holds formatting escapes and also text that looks like one, which cannot be told apart: copy it, or delete one of them first")

// A formatting says what kinds of it the texts had that went into a value.
type formatting struct {
	escapes   bool // real ones
	lookalike bool // text that looks like one
}

// note looks at one element: its wire form, and its text.
func (f *formatting) note(raw, text []byte, sep hl7.Separators) {
	if sep.Escape == 0 {
		return
	}
	real := countFormatting(raw, sep.Escape, true)
	f.escapes = f.escapes || real > 0
	f.lookalike = f.lookalike || countFormatting(text, sep.Escape, false) > real
}

// countFormatting counts formatting escapes from left to right, as hl7 reads them; on the wire, escapes that stand for
// characters are stepped over.
func countFormatting(b []byte, escape byte, wire bool) int {
	n := 0
	for at := 0; ; {
		body, start := nextEscape(b, at, escape)
		if body == nil {
			return n
		}
		switch {
		case isFormatting(body):
			n++
			at = start + len(body) + 2
		case wire && isCharacter(body):
			at = start + len(body) + 2
		default:
			at = start + 1
		}
	}
}

// nextEscape finds the next pair of escape characters at or behind at: where it begins, and what it encloses.
func nextEscape(b []byte, at int, escape byte) (body []byte, start int) {
	i := bytes.IndexByte(b[at:], escape)
	if i < 0 {
		return nil, 0
	}
	start = at + i
	n := bytes.IndexByte(b[start+1:], escape)
	if n < 0 {
		return nil, 0
	}
	return b[start+1 : start+1+n : start+1+n], start
}

// isFormatting knows the escapes that stand for no character.
func isFormatting(body []byte) bool {
	if len(body) == 0 {
		return false
	}
	switch body[0] {
	case 'H', 'N':
		return len(body) == 1
	case '.', 'Z':
		return len(body) > 1
	case 'C':
		return len(body) == 5 && isHex(body[1:])
	case 'M':
		return (len(body) == 5 || len(body) == 7) && isHex(body[1:])
	}
	return false
}

// isCharacter knows those that stand for one or more.
func isCharacter(body []byte) bool {
	if len(body) == 0 {
		return false
	}
	switch body[0] {
	case 'F', 'S', 'T', 'R', 'E', 'P':
		return len(body) == 1
	case 'X':
		return len(body) > 1 && len(body)%2 == 1 && isHex(body[1:])
	}
	return false
}

func isHex(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return true
}

// setText sets an element to a text that came out of elements with the formatting f.
func setText(m *hl7.Message, p hl7.Path, text string, f formatting) error {
	if !f.escapes {
		return m.Set(p, text)
	}
	if f.lookalike {
		return errMixedFormatting
	}
	if err := m.Set(p, text); err != nil {
		return err
	}
	raw, _ := m.Raw(p)
	return m.SetRaw(p, restoreFormatting(raw, m.Separators().Escape))
}

// restoreFormatting turns \E\.br\E\ into \.br\ again. A body with a separator in it has been escaped, and so is none.
func restoreFormatting(raw []byte, escape byte) []byte {
	mark := []byte{escape, 'E', escape}
	var out []byte
	for {
		i := bytes.Index(raw, mark)
		if i < 0 {
			return append(out, raw...)
		}
		out = append(out, raw[:i]...)
		raw = raw[i+len(mark):]
		n := bytes.IndexByte(raw, escape)
		if n < 0 || !isFormatting(raw[:n]) || !bytes.HasPrefix(raw[n:], mark) {
			out = append(out, mark...)
			continue
		}
		out = append(out, escape)
		out = append(out, raw[:n+1]...)
		raw = raw[n+len(mark):]
	}
}

// hasCommand says whether a text of the configuration has a formatting command of 2.7.6 in it.
func hasCommand(text string) bool {
	for at := 0; ; {
		body, start := nextEscape([]byte(text), at, '\\')
		if body == nil {
			return false
		}
		if isCommand(body) {
			return true
		}
		at = start + 1
	}
}

// isCommand knows .br, .sp3, .in-4 and the like.
func isCommand(body []byte) bool {
	if len(body) < 3 || body[0] != '.' {
		return false
	}
	switch string(body[1:3]) {
	case "br", "sp", "fi", "nf", "in", "ti", "sk", "ce":
	default:
		return false
	}
	rest := body[3:]
	if len(rest) > 0 && (rest[0] == '+' || rest[0] == '-') {
		rest = rest[1:]
	}
	for _, c := range rest {
		if !isDigit(c) {
			return false
		}
	}
	return true
}
