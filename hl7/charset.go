package hl7

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// declaredCharset reads MSH-18, or the marks of Unicode before MSH.
//
// MSH-18 repeats: the first is the message's own set, the others may be shifted to by ISO 2022 escapes. Of those we know
// the Japanese ones, which are written ~ISO IR87 (the first repetition empty: ASCII).
func (m *Message) declaredCharset() charsetID {
	if m.utf16 != utf16None {
		return charsetUTF16
	}
	text := m.text(0)
	f, _ := m.field(0, 18)
	if m.charset.masks() {
		f, _ = m.charsetField(text)
	}
	id := charsetASCII
	switch {
	case f.at < f.end:
		id = m.charsetIn(text, f)
	case hasBOM(m.buf):
		id = charsetUTF8
	}
	if id == charsetUTF16 {
		id = charsetUTF8 // it says UTF-16, but MSH could be read byte by byte
	}
	if isASCII(text) && bytes.IndexByte(text, 0x1B) < 0 {
		return id
	}
	// A name in MSH-3 to MSH-6 may have a character in it whose second half looks like a separator, so that MSH-18 is
	// counted wrong until its own set is known. A set that finds itself declared is the one.
	for _, c := range [...]charsetID{charsetGB18030, charsetBig5, charsetShiftJIS, charsetISO2022JP} {
		mask := maskCharset(nil, text, c)
		if f, ok := m.charsetField(mask); ok && m.charsetIn(text, f) == c {
			return c
		}
	}
	return id
}

// charsetField is MSH-18, in MSH or a mask of it.
func (m *Message) charsetField(mask []byte) (span, bool) {
	return nth(mask, span{4, len(mask)}, m.sep.Field, 18-1)
}

// charsetIn reads the repetitions of MSH-18.
func (m *Message) charsetIn(text []byte, f span) (id charsetID) {
	eachPiece(text, f, m.sep.Repetition, func(n int, r span) bool {
		c, _ := charsetNamed(text[r.at:r.end])
		if n == 1 || c == charsetISO2022JP {
			id = c
		}
		return id != charsetISO2022JP
	})
	return id
}

// setCharset makes c the message's character set, and finds separators anew where that depends on it.
func (m *Message) setCharset(c charsetID) {
	m.charset = c
	if !c.masks() && m.mask == nil {
		return
	}
	m.mask = nil
	if c.masks() {
		m.masked = maskCharset(m.masked[:0], m.buf, c)
		m.mask = m.masked
	}
	for i := range m.segs {
		if s := &m.segs[i]; s.own != 0 {
			o := *m.owned[s.own-1]
			o.mask = m.maskText(o.text)
			m.keep(s, o)
		}
	}
	m.indexHeader()
}

// maskText is text for looking for separators in.
func (m *Message) maskText(text []byte) []byte {
	if !m.charset.masks() {
		return text
	}
	return maskCharset(nil, text, m.charset)
}

// Charset is the name of the message's character set as in table 0211: from OverrideCharset, or MSH-18, or a byte order
// mark; ASCII where none of them says anything. A set that we do not know has the name that MSH-18 gives.
func (m *Message) Charset() string {
	if m.charset != charsetUnknown {
		return m.charset.canonical()
	}
	name := m.firstCharset()
	return strings.ToValidUTF8(strings.ToUpper(strings.TrimSpace(string(name[:min(len(name), maxCharsetName)]))), "")
}

// maxCharsetName is where an unknown name is cut off: the longest of table 0211 has half as many characters, and whatever
// stands there goes into lists and logs.
const maxCharsetName = 32

func (m *Message) firstCharset() []byte {
	raw, _ := m.Raw(Path{Segment: "MSH", Field: 18, Rep: 1})
	return raw
}

// OverrideCharset says what the bytes really are, whatever MSH-18 claims; an empty name takes the override back. It is
// meant for sources that declare nothing, or something else than they send, and comes before any edit. MSH-18 stays as it
// is.
func (m *Message) OverrideCharset(name string) error {
	if m.edited {
		return fmt.Errorf("hl7: override the character set: the message has been changed already; do it directly after Parse")
	}
	if len(m.segs) == 0 {
		return fmt.Errorf("hl7: override the character set: there is no message")
	}
	if name == "" {
		m.override = false
		m.setCharset(m.declaredCharset())
		return nil
	}
	c, ok := charsetNamed([]byte(name))
	switch {
	case !ok:
		return fmt.Errorf("hl7: override the character set: %q is none that can be read", name)
	case (c == charsetUTF16) != (m.utf16 != utf16None):
		return fmt.Errorf("hl7: override the character set: UTF-16 is known by its bytes, and %s", utf16Said(m.utf16))
	}
	m.override = true
	m.setCharset(c)
	return nil
}

// A CharsetError says that a text cannot be written in the message's character set. It holds no content.
type CharsetError struct {
	Charset string
	Offset  int // of the first such character, in bytes of the text
	Reason  string
}

func (e *CharsetError) Error() string {
	return fmt.Sprintf("hl7: the character at byte %d cannot be written in %s: %s", e.Offset, e.Charset, e.Reason)
}

// Stand-ins for bytes that mean nothing in the character set: one rune a byte from 0x80 on, in a private area of Unicode
// that no clinical text uses. The rune itself, should it come in UTF-8, is read as wrong bytes too, so that decoding and
// encoding give the same bytes again in every case.
const (
	standIn      = 0x10FE00
	standInFirst = standIn + 0x80
	standInLast  = standIn + 0xFF
)

func isStandIn(r rune) bool { return standInFirst <= r && r <= standInLast }

// decode is wire bytes as UTF-8.
func (m *Message) decode(b []byte) string { return string(m.actual().decode(nil, b, nil)) }

// actual is the message's character set, or what it seems to be where none is declared.
func (m *Message) actual() charsetID {
	if m.charset == charsetASCII || m.charset == charsetUnknown {
		return m.guess()
	}
	return m.charset
}

// decode appends b to dst as UTF-8, and tells bad the offset of each byte that means nothing.
func (c charsetID) decode(dst, b []byte, bad func(offset int)) []byte {
	if t := c.table(); t != nil {
		for i, x := range b {
			r := t.DecodeByte(x)
			if r == utf8.RuneError {
				if bad != nil {
					bad(i)
				}
				r = standIn + rune(x)
			}
			dst = utf8.AppendRune(dst, r)
		}
		return dst
	}
	if c.multibyte() != nil {
		return c.decodeMultibyte(dst, b, bad)
	}
	return decodeUTF8(dst, b, bad)
}

// guess is what undeclared bytes are in practice: UTF-8 where the whole message is valid as such, which no text of 8859 with
// more than a few characters is by chance, and Windows-1252 otherwise; ASCII where there are no others. It looks at the
// message as it was received, so that edits do not change how the rest is read.
func (m *Message) guess() charsetID {
	if g := m.guessed.Load(); g != 0 {
		return charsetID(g - 1)
	}
	g := charset1252
	switch {
	case isASCII(m.buf):
		g = charsetASCII
	case utf8.Valid(m.buf):
		g = charsetUTF8
	}
	m.guessed.Store(uint32(g) + 1)
	return g
}

func decodeUTF8(dst, b []byte, bad func(offset int)) []byte {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 || isStandIn(r) {
			for j := range n {
				if bad != nil {
					bad(i + j)
				}
				dst = utf8.AppendRune(dst, standIn+rune(b[i+j]))
			}
		} else {
			dst = append(dst, b[i:i+n]...)
		}
		i += n
	}
	return dst
}

// encode is a text in the message's character set.
func (m *Message) encode(s string) ([]byte, error) {
	c := m.charset
	ascii := true
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			ascii = false
			break
		}
	}
	if ascii {
		return []byte(s), nil
	}
	name, reason := c.canonical(), "it is not in that set"
	strict := false
	switch c {
	case charsetASCII, charsetUnknown:
		// Where the message already holds other characters, a new one is written as those are.
		held := m.guess()
		if held == charsetASCII {
			name, reason = m.Charset(), "the message declares no other set; set MSH-18 first"
			strict = true
		}
		c = held
	case charset8859_1:
		strict = !m.holdsC1()
	}
	out := make([]byte, 0, len(s)+8)
	t, enc := c.table(), c.multibyte()
	for i, r := range s {
		var ok bool
		switch {
		case r == utf8.RuneError:
			// Only the text's own U+FFFD; invalid UTF-8 is refused as well, for it would be changed silently.
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return nil, &CharsetError{Charset: name, Offset: i, Reason: "the text is not valid UTF-8"}
			}
			if ok = c == charsetUTF8 || c == charsetUTF16; ok {
				out = utf8.AppendRune(out, r)
			}
		case isStandIn(r):
			out, ok = append(out, byte(r-standIn)), true
		case t != nil:
			var x byte
			x, ok = t.EncodeRune(r)
			ok = ok && (!strict || x < 0x80 || x > 0x9F)
			out = append(out, x)
		case enc != nil:
			return c.encodeMultibyte(s, name)
		case c == charsetUTF8 || c == charsetUTF16:
			out, ok = utf8.AppendRune(out, r), true
		default:
			ok = r < 0x80
			out = append(out, byte(r))
		}
		if !ok {
			return nil, &CharsetError{Charset: name, Offset: i, Reason: reason}
		}
	}
	return out, nil
}

// holdsC1 says whether a message of 8859/1 holds bytes that only Windows-1252 gives a character.
func (m *Message) holdsC1() bool {
	for i := range m.segs {
		for _, c := range m.text(i) {
			if 0x80 <= c && c <= 0x9F {
				return true
			}
		}
	}
	return false
}
