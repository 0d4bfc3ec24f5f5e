package hl7

import "bytes"

// Separators are the characters that give a message its structure (2.5.4): MSH-1, then the characters of MSH-2 in their
// order. A zero byte says that the message has none for that purpose. Truncation exists since version 2.7 (2.5.5.2).
type Separators struct {
	Field        byte
	Component    byte
	Repetition   byte
	Escape       byte
	Subcomponent byte
	Truncation   byte
}

// Recommended is what the standard recommends, and nearly everybody uses: | ^ ~ \ & and no truncation character.
func Recommended() Separators {
	return Separators{Field: '|', Component: '^', Repetition: '~', Escape: '\\', Subcomponent: '&'}
}

// maxEncodingChars bounds MSH-2. The standard has four or five; a doubled backslash makes six of them.
const maxEncodingChars = 8

// readSeparators reads MSH-1 and MSH-2 of a message that begins at b[at:].
//
// MSH-2 with fewer than four characters is legal (2.5.4 lets the last ones be left out), and so senders leave out others
// too. There, ~ \ and & keep their recommended meaning wherever they stand, and the rest counts by place. A doubled
// character, as by a program that escaped its backslash twice, counts once. An empty MSH-2 means the recommended ones.
func readSeparators(b []byte, at int) (Separators, *SyntaxError) {
	var none Separators
	b, off := b[at:], at
	if len(b) == 0 {
		return none, &SyntaxError{Offset: off, Reason: "no message: nothing but blanks"}
	}
	if len(b) < 3 || b[0] != 'M' || b[1] != 'S' || b[2] != 'H' {
		if len(b) >= 3 && (string(b[:3]) == "FHS" || string(b[:3]) == "BHS") {
			return none, &SyntaxError{Segment: 1, Offset: off, Reason: "a batch begins here and not a message; split it first"}
		}
		return none, &SyntaxError{Segment: 1, Offset: off, Reason: "a message begins with the segment MSH"}
	}
	if len(b) == 3 {
		return none, &SyntaxError{Segment: 1, Offset: off + 3, Reason: "the input ends before MSH-1, the field separator"}
	}
	if len(b) > 8 && string(b[3:9]) == `|^~\&|` {
		return Recommended(), nil
	}
	s := Separators{Field: b[3]}
	if !canSeparate(s.Field) {
		return none, &SyntaxError{Segment: 1, Offset: off + 3, Reason: "MSH-1 is no character that can separate fields"}
	}
	var chars [maxEncodingChars]byte
	n := 0
	for i := 4; i < len(b); i++ {
		c := b[i]
		if c == s.Field || c == '\r' || c == '\n' {
			break
		}
		if !canSeparate(c) {
			return none, &SyntaxError{Segment: 1, Offset: off + i, Reason: "MSH-2 holds a character that cannot separate"}
		}
		if bytes.IndexByte(chars[:n], c) >= 0 {
			continue
		}
		if n == len(chars) {
			return none, &SyntaxError{Segment: 1, Offset: off + i, Reason: "MSH-2 holds more characters than there are separators"}
		}
		chars[n] = c
		n++
	}
	s.assign(chars[:n])
	return s, nil
}

// assign gives the distinct characters of MSH-2 their roles.
func (s *Separators) assign(chars []byte) {
	roles := [...]*byte{&s.Component, &s.Repetition, &s.Escape, &s.Subcomponent, &s.Truncation}
	switch {
	case len(chars) == 0:
		for i, c := range []byte(`^~\&`) {
			if c != s.Field {
				*roles[i] = c
			}
		}
	case len(chars) >= 4:
		for i := range min(len(chars), len(roles)) {
			*roles[i] = chars[i]
		}
	default:
		for i, c := range chars {
			switch c {
			case '~':
				s.Repetition = c
			case '\\':
				s.Escape = c
			case '&':
				s.Subcomponent = c
			default:
				if *roles[i] == 0 {
					*roles[i] = c
				}
			}
		}
	}
}

// canSeparate says whether a byte may be a separator: printable ASCII, or a tab, that is neither letter nor digit nor blank.
func canSeparate(c byte) bool {
	switch {
	case c == '\t':
		return true
	case c <= ' ' || c >= 0x7F:
		return false
	case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		return false
	}
	return true
}
