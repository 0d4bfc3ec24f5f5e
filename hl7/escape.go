package hl7

import (
	"bytes"
	"strings"
)

// Escape makes a text safe to stand in a message (2.7.1): each separator becomes its escape sequence, the truncation
// character \P\ (2.7 and later), and CR, LF, ESC and the bytes that frame a message in MLLP become \Xdd\. What comes out
// can begin no component, no field, no segment and no frame. Where there is no escape character to do it with, a blank
// takes the place of such a byte; Set refuses instead.
func Escape(sep Separators, s string) string {
	n := 0
	for i := 0; i < len(s); i++ {
		if unsafe(sep, s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 4*n)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case !unsafe(sep, c):
			b.WriteByte(c)
		case sep.Escape == 0:
			b.WriteByte(' ')
		default:
			b.WriteByte(sep.Escape)
			if l := letterOf(sep, c); l != 0 {
				b.WriteByte(l)
			} else {
				b.WriteByte('X')
				for {
					b.WriteByte(hexDigits[c>>4])
					b.WriteByte(hexDigits[c&15])
					if i+1 == len(s) || !unsafe(sep, s[i+1]) || letterOf(sep, s[i+1]) != 0 {
						break
					}
					i++
					c = s[i]
				}
			}
			b.WriteByte(sep.Escape)
		}
	}
	return b.String()
}

const hexDigits = "0123456789ABCDEF"

// unsafe says whether a byte must not stand in a text as it is.
func unsafe(sep Separators, c byte) bool { return breaks(c) || letterOf(sep, c) != 0 }

// breaks says whether a byte ends a segment or a frame, or would begin a shift to another character set.
func breaks(c byte) bool {
	return c == '\r' || c == '\n' || c == 0x0B || c == 0x1C || c == 0x1B
}

// letterOf is the letter of a separator's escape sequence, or 0.
func letterOf(sep Separators, c byte) byte {
	switch {
	case c == 0:
		return 0
	case c == sep.Field:
		return 'F'
	case c == sep.Component:
		return 'S'
	case c == sep.Subcomponent:
		return 'T'
	case c == sep.Repetition:
		return 'R'
	case c == sep.Escape:
		return 'E'
	case c == sep.Truncation:
		return 'P'
	}
	return 0
}

// Unescape resolves the escape sequences that stand for characters: \F\ \S\ \T\ \R\ \E\, \P\ where the message has a
// truncation character, and \Xdd..\. All others are kept as they are: formatting (\.br\, 2.7.6), highlighting (\H\ \N\),
// other character sets (\Cxxyy\ \Mxxyyzz\), local ones (\Z..\), and whatever is malformed.
func Unescape(sep Separators, s string) string {
	if sep.Escape == 0 || strings.IndexByte(s, sep.Escape) < 0 {
		return s
	}
	b := []byte(s)
	return string(unescape(nil, b, b, sep))
}

// unescape appends raw to dst with its escapes resolved. mask is raw, or what to look for escape characters in.
func unescape(dst, raw, mask []byte, sep Separators) []byte {
	for at := 0; ; {
		i := bytes.IndexByte(mask[at:], sep.Escape)
		if i < 0 {
			return append(dst, raw[at:]...)
		}
		dst = append(dst, raw[at:at+i]...)
		at += i
		n := bytes.IndexByte(mask[at+1:], sep.Escape)
		if n < 0 {
			return append(dst, raw[at:]...)
		}
		body, end := raw[at+1:at+1+n], at+n+2
		out, ok := resolve(dst, body, sep)
		switch {
		case ok:
			dst, at = out, end
		case keeps(body):
			dst, at = append(dst, raw[at:end]...), end
		default:
			// Malformed: this character means itself, and the next escape character may begin a sequence.
			dst, at = append(dst, raw[at]), at+1
		}
	}
}

// resolve appends the characters that an escape sequence stands for.
func resolve(dst, body []byte, sep Separators) ([]byte, bool) {
	if len(body) == 1 {
		var c byte
		switch body[0] {
		case 'F':
			c = sep.Field
		case 'S':
			c = sep.Component
		case 'T':
			c = sep.Subcomponent
		case 'R':
			c = sep.Repetition
		case 'E':
			c = sep.Escape
		case 'P':
			c = sep.Truncation
		}
		return append(dst, c), c != 0
	}
	if len(body) < 3 || body[0] != 'X' || len(body)%2 == 0 {
		return dst, false
	}
	n := len(dst)
	for i := 1; i < len(body); i += 2 {
		h, l := hexValue(body[i]), hexValue(body[i+1])
		if h < 0 || l < 0 {
			return dst[:n], false
		}
		dst = append(dst, byte(h<<4|l))
	}
	return dst, true
}

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// keeps says whether a sequence is one that the standard knows and that stands for no character of its own.
func keeps(body []byte) bool {
	if len(body) == 0 {
		return false
	}
	switch body[0] {
	case 'H', 'N':
		return len(body) == 1
	case 'F', 'S', 'T', 'R', 'P':
		return len(body) == 1 // of a separator that this message does not have
	case '.', 'Z':
		return len(body) > 1
	case 'C':
		return len(body) == 5 && allHex(body[1:])
	case 'M':
		return (len(body) == 5 || len(body) == 7) && allHex(body[1:])
	}
	return false
}

func allHex(b []byte) bool {
	for _, c := range b {
		if hexValue(c) < 0 {
			return false
		}
	}
	return true
}
