package hl7

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// A charsetID is a character set of HL7 table 0211, or one that the field uses without being in it.
type charsetID uint8

const (
	charsetASCII   charsetID = iota // also where MSH-18 is empty: the standard's default
	charsetUnknown                  // MSH-18 names something that we cannot read
	charsetUTF8
	charsetUTF16 // as UTF-8 in buf
	charset8859_1
	charset8859_2
	charset8859_3
	charset8859_4
	charset8859_5
	charset8859_6
	charset8859_7
	charset8859_8
	charset8859_9
	charset8859_10
	charset8859_13
	charset8859_14
	charset8859_15
	charset8859_16
	charset1250
	charset1251
	charset1252
	charset1253
	charset1254
	charset1255
	charset1256
	charset1257
	charset1258
	charsetISO2022JP // ISO IR14, IR87 and IR159 beside ASCII
	charsetShiftJIS
	charsetEUCJP
	charsetEUCKR // KS X 1001
	charsetGB18030
	charsetBig5
)

// canonical is the name in table 0211, or the usual one.
func (c charsetID) canonical() string {
	switch c {
	case charsetASCII:
		return "ASCII"
	case charsetUTF8:
		return "UNICODE UTF-8"
	case charsetUTF16:
		return "UNICODE UTF-16"
	case charsetISO2022JP:
		return "ISO IR87"
	case charsetShiftJIS:
		return "SHIFT_JIS"
	case charsetEUCJP:
		return "EUC-JP"
	case charsetEUCKR:
		return "KS X 1001"
	case charsetGB18030:
		return "GB 18030-2000"
	case charsetBig5:
		return "BIG-5"
	}
	if n := c.part8859(); n != 0 {
		return fmt.Sprintf("8859/%d", n)
	}
	if charset1250 <= c && c <= charset1258 {
		return fmt.Sprintf("WINDOWS-%d", 1250+int(c-charset1250))
	}
	return ""
}

func (c charsetID) part8859() int {
	switch {
	case charset8859_1 <= c && c <= charset8859_10:
		return 1 + int(c-charset8859_1)
	case charset8859_13 <= c && c <= charset8859_16:
		return 13 + int(c-charset8859_13)
	}
	return 0
}

// masks says whether a byte that looks like a separator may be the second half of a character.
func (c charsetID) masks() bool {
	switch c {
	case charsetISO2022JP, charsetShiftJIS, charsetGB18030, charsetBig5:
		return true
	}
	return false
}

// charsetNamed finds a character set by any of its names, in any spelling: only letters and digits count. The common ones
// allocate nothing.
func charsetNamed(s []byte) (charsetID, bool) {
	switch string(s) {
	case "", "ASCII":
		return charsetASCII, true
	case "UNICODE UTF-8":
		return charsetUTF8, true
	case "8859/1":
		return charset8859_1, true
	}
	if len(s) > 32 {
		return charsetUnknown, false
	}
	var b [32]byte
	n := 0
	for _, c := range s {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if alphanumeric(c) {
			b[n] = c
			n++
		}
	}
	k := b[:n]
	for _, prefix := range [...]string{"ISOIEC", "ISO", "UNICODEISO"} {
		if p := []byte(prefix); bytes.HasPrefix(k, p) && bytes.HasPrefix(k[len(p):], []byte("8859")) {
			k = k[len(p):]
			break
		}
	}
	switch string(k) {
	case "", "ASCII", "USASCII", "ISOIR6", "ISO646", "ANSIX341968":
		return charsetASCII, true
	case "UTF8", "UNICODEUTF8", "UNICODE":
		// UNICODE alone is withdrawn and meant UCS-2; without UTF-16's marks the bytes can only be UTF-8.
		return charsetUTF8, true
	case "UTF16", "UNICODEUTF16", "UCS2", "UTF16LE", "UTF16BE":
		return charsetUTF16, true
	case "88591", "LATIN1", "ISOIR100":
		return charset8859_1, true
	case "88592", "LATIN2", "ISOIR101":
		return charset8859_2, true
	case "88593", "LATIN3", "ISOIR109":
		return charset8859_3, true
	case "88594", "LATIN4", "ISOIR110":
		return charset8859_4, true
	case "88595", "ISOIR144":
		return charset8859_5, true
	case "88596", "ISOIR127":
		return charset8859_6, true
	case "88597", "ISOIR126":
		return charset8859_7, true
	case "88598", "ISOIR138":
		return charset8859_8, true
	case "88599", "LATIN5", "ISOIR148":
		return charset8859_9, true
	case "885910":
		return charset8859_10, true
	case "885913":
		return charset8859_13, true
	case "885914":
		return charset8859_14, true
	case "885915", "LATIN9":
		return charset8859_15, true
	case "885916":
		return charset8859_16, true
	case "ANSI":
		return charset1252, true
	case "ISOIR13", "ISOIR14", "ISOIR87", "ISOIR159", "ISO2022JP", "JISX0208":
		return charsetISO2022JP, true
	case "SHIFTJIS", "SJIS", "MSKANJI", "WINDOWS31J", "CP932", "MS932":
		return charsetShiftJIS, true
	case "EUCJP":
		return charsetEUCJP, true
	case "KSX1001", "KSC5601", "ISOIR149", "EUCKR", "CP949":
		return charsetEUCKR, true
	case "GB18030", "GB180302000", "GBK", "GB2312", "CP936":
		return charsetGB18030, true
	case "BIG5", "CP950":
		return charsetBig5, true
	}
	for _, prefix := range [...]string{"WINDOWS", "CP", ""} {
		if p := []byte(prefix); bytes.HasPrefix(k, p) {
			if d := k[len(p):]; len(d) == 4 && string(d[:3]) == "125" && '0' <= d[3] && d[3] <= '8' {
				return charset1250 + charsetID(d[3]-'0'), true
			}
		}
	}
	return charsetUnknown, false
}

// table is the encoding of a character set with one byte a character, or nil.
func (c charsetID) table() *charmap.Charmap {
	switch c {
	case charset8859_1, charset1252:
		// The printable part of Windows-1252 is 8859/1; 0x80 to 0x9F are controls there, which no clinical text has.
		return charmap.Windows1252
	case charset8859_2:
		return charmap.ISO8859_2
	case charset8859_3:
		return charmap.ISO8859_3
	case charset8859_4:
		return charmap.ISO8859_4
	case charset8859_5:
		return charmap.ISO8859_5
	case charset8859_6:
		return charmap.ISO8859_6
	case charset8859_7:
		return charmap.ISO8859_7
	case charset8859_8:
		return charmap.ISO8859_8
	case charset8859_9:
		return charmap.ISO8859_9
	case charset8859_10:
		return charmap.ISO8859_10
	case charset8859_13:
		return charmap.ISO8859_13
	case charset8859_14:
		return charmap.ISO8859_14
	case charset8859_15:
		return charmap.ISO8859_15
	case charset8859_16:
		return charmap.ISO8859_16
	case charset1250:
		return charmap.Windows1250
	case charset1251:
		return charmap.Windows1251
	case charset1253:
		return charmap.Windows1253
	case charset1254:
		return charmap.Windows1254
	case charset1255:
		return charmap.Windows1255
	case charset1256:
		return charmap.Windows1256
	case charset1257:
		return charmap.Windows1257
	case charset1258:
		return charmap.Windows1258
	}
	return nil
}

// multibyte is the encoding of an East Asian character set, or nil.
func (c charsetID) multibyte() encoding.Encoding {
	switch c {
	case charsetISO2022JP:
		return japanese.ISO2022JP
	case charsetShiftJIS:
		return japanese.ShiftJIS
	case charsetEUCJP:
		return japanese.EUCJP
	case charsetEUCKR:
		return korean.EUCKR
	case charsetGB18030:
		return simplifiedchinese.GB18030
	case charsetBig5:
		return traditionalchinese.Big5
	}
	return nil
}

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
	if plain(text, 0, false) {
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
	return strings.ToUpper(strings.TrimSpace(string(m.firstCharset())))
}

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

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// A CharsetProblem is a place whose bytes the message's character set does not explain.
type CharsetProblem struct {
	Segment    string // "" for a line that is no segment
	SegmentRep int    // from 1
	Field      int
	Offset     int  // of the first such byte, from the beginning of the segment
	Guessed    bool // nothing was lost: the bytes are outside ASCII, and were read as UTF-8 or Windows-1252
}

func (p CharsetProblem) String() string {
	what := "bytes that mean nothing in the character set"
	if p.Guessed {
		what = "bytes of an undeclared character set"
	}
	at := Path{Segment: p.Segment, SegmentRep: p.SegmentRep, Field: p.Field}
	return fmt.Sprintf("%s: %s, from byte %d of the segment", at, what, p.Offset)
}

// CheckText finds the fields that hold undecodable bytes, at most one problem a field. Where MSH-18 declares nothing but
// bytes outside ASCII are there, or declares a set that we do not know, the problem is marked as Guessed.
func (m *Message) CheckText() []CharsetProblem {
	var problems []CharsetProblem
	guessed := m.charset == charsetASCII || m.charset == charsetUnknown
	reps := make(map[name]int)
	for i := range m.segs {
		n := m.segs[i].name
		reps[n]++
		text := m.text(i)
		if isASCII(text) && m.charset != charsetISO2022JP {
			continue
		}
		m.eachField(i, func(field int, f span) {
			at := -1
			var scratch []byte
			m.actual().decode(scratch, text[f.at:f.end], func(offset int) {
				if at < 0 {
					at = f.at + offset
				}
			})
			p := CharsetProblem{Segment: n.String(), SegmentRep: reps[n], Field: field, Offset: at}
			if at < 0 && guessed {
				for j, c := range text[f.at:f.end] {
					if c >= 0x80 {
						p.Offset, p.Guessed, at = f.at+j, true, f.at+j
						break
					}
				}
			}
			if at >= 0 {
				problems = append(problems, p)
			}
		})
	}
	return problems
}

// eachField calls fn with every field of a segment; with field 0 and the whole line where it is no segment.
func (m *Message) eachField(i int, fn func(field int, f span)) {
	mask := m.maskOf(i)
	s := &m.segs[i]
	if s.name == 0 {
		fn(0, span{0, len(mask)})
		return
	}
	if len(mask) < 4 {
		return
	}
	first := 0
	if s.name.header() {
		first = 1
	}
	eachPiece(mask, span{4, len(mask)}, m.sep.Field, func(n int, f span) bool { fn(first+n, f); return true })
}
