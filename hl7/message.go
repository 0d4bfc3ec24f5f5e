package hl7

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"sync/atomic"
)

// A Message is one HL7 v2 message: the bytes it came as, where its segments lie in them, and what was changed since.
//
// The zero value is ready for Reset. Methods that only read may be called from several goroutines at once; Reset,
// OverrideCharset and everything that edits may not.
type Message struct {
	wire []byte // as given to Parse; never written to
	buf  []byte // what offsets point into: wire, or wire as UTF-8 where that is UTF-16
	mask []byte // nil, or buf with those bytes blotted out that only look like separators; see maskCharset
	head int    // bytes before MSH: a byte order mark, blank lines

	sep      Separators
	segs     []segment
	owned    []*owned        // content of the segments that are not as received any more
	msh      [mshIndexed]int // where MSH-n begins (n from 2), while MSH is as it was received; 0: not there
	charset  charsetID
	override bool // charset comes from OverrideCharset and not from MSH-18
	utf16    utf16Form
	edited   bool
	guessed  atomic.Uint32 // 1 + charsetID of an undeclared message, 0 until somebody asks; see guess

	index atomic.Pointer[map[name][]uint32] // of messages with very many segments; see places

	transcoded []byte // memory of buf where that is not wire, kept for the next Reset
	masked     []byte // memory of mask, kept likewise
}

// mshIndexed is one more than the last field of MSH whose place is kept: MSH-18 says the character set, and is asked for
// in every message.
const mshIndexed = 19

// A SyntaxError says where a message stopped being legible. It holds positions, never content.
type SyntaxError struct {
	Segment int // from 1; 0 where no segment was found
	Offset  int // in bytes from the start of the input
	Reason  string
}

func (e *SyntaxError) Error() string {
	if e.Segment == 0 {
		return fmt.Sprintf("hl7: byte %d: %s", e.Offset, e.Reason)
	}
	return fmt.Sprintf("hl7: segment %d, byte %d: %s", e.Segment, e.Offset, e.Reason)
}

// Parse reads one message. The message keeps b and never writes to it; the caller must not change b while the message, or
// a clone of it, is in use.
//
// Only what cannot be read is an error, always a *SyntaxError: no MSH segment at the beginning, or separators that cannot
// separate. Unknown segments, missing fields, odd separators, mixed terminators, blank lines and lines that are no segment
// are legible: they are kept, and can be addressed.
func Parse(b []byte) (*Message, error) {
	m := new(Message)
	if err := m.Reset(b); err != nil {
		return nil, err
	}
	return m, nil
}

// Reset reads b into m as Parse does, reusing m's memory; nothing of the former message stays, its override of the
// character set included. After an error m holds no message, and every address is absent.
func (m *Message) Reset(b []byte) error {
	m.wire, m.buf, m.mask = b, b, nil
	m.segs = m.segs[:0]
	m.owned = nil // clones may share it
	m.edited, m.override = false, false
	m.charset = charsetASCII
	m.moved()
	m.utf16 = utf16None
	if m.guessed.Load() != 0 {
		m.guessed.Store(0)
	}
	if err := m.parse(); err != nil {
		m.wire, m.buf = nil, nil
		m.segs = m.segs[:0]
		m.sep = Separators{}
		m.msh = [mshIndexed]int{}
		return err
	}
	return nil
}

func (m *Message) parse() error {
	if uint64(len(m.wire)) > maxMessage/2 { // UTF-16 can become longer as UTF-8
		return &SyntaxError{Offset: maxMessage / 2, Reason: "the message is longer than 2 GiB"}
	}
	if form := utf16FormOf(m.wire); form != utf16None {
		if len(m.wire)%2 != 0 {
			return &SyntaxError{Offset: len(m.wire) - 1, Reason: "UTF-16 with half a character at the end"}
		}
		m.utf16 = form
		m.transcoded = form.decode(m.transcoded[:0], m.wire)
		m.buf = m.transcoded
	}
	b := m.buf
	m.head = leading(b)
	sep, wrong := readSeparators(b, m.head)
	if wrong != nil {
		if m.utf16 != utf16None {
			wrong.Offset = len(m.utf16.encode(nil, b[:wrong.Offset])) // in the input, and not in buf
		}
		return wrong
	}
	m.sep = sep
	m.split(m.head)
	m.indexHeader()
	m.setCharset(m.declaredCharset())
	return nil
}

// leading counts what may stand before MSH: a UTF-8 byte order mark, and blank lines.
func leading(b []byte) int {
	n := 0
	if hasBOM(b) {
		n = len(utf8BOM)
	}
	for n < len(b) && (b[n] == '\r' || b[n] == '\n' || b[n] == ' ' || b[n] == '\t') {
		n++
	}
	return n
}

// indexHeader notes where the fields of MSH begin.
func (m *Message) indexHeader() {
	m.msh = [mshIndexed]int{}
	mask := m.maskOf(0)
	m.msh[2] = 4
	pattern := uint64(m.sep.Field) * everyOne
	n, at := 3, 4
	for ; at <= len(mask)-8; at += 8 {
		for hits := matches(binary.LittleEndian.Uint64(mask[at:]), pattern); hits != 0; hits &= hits - 1 {
			m.msh[n] = at + bits.TrailingZeros64(hits)/8 + 1
			if n++; n == mshIndexed {
				return
			}
		}
	}
	for ; at < len(mask); at++ {
		if mask[at] == m.sep.Field {
			m.msh[n] = at + 1
			if n++; n == mshIndexed {
				return
			}
		}
	}
}

// Bytes is the message as it goes over the wire: the very bytes it was parsed from while nothing was changed, and
// otherwise a new slice in which only the changed segments differ. The caller must not write to it.
func (m *Message) Bytes() []byte {
	if !m.edited {
		return m.wire
	}
	n := m.head
	for i := range m.segs {
		n += len(m.text(i)) + len(m.terminator(i))
	}
	b := make([]byte, 0, n)
	b = append(b, m.buf[:m.head]...)
	for i := range m.segs {
		b = append(b, m.text(i)...)
		b = append(b, m.terminator(i)...)
	}
	if m.utf16 != utf16None {
		return m.utf16.encode(nil, b)
	}
	return b
}

// Clone is a message that can be changed without changing m. Both share the bytes given to Parse.
func (m *Message) Clone() *Message {
	c := &Message{
		wire: m.wire, buf: m.buf, mask: m.mask, head: m.head,
		sep: m.sep, segs: slices.Clone(m.segs), owned: slices.Clone(m.owned), msh: m.msh,
		charset: m.charset, override: m.override, utf16: m.utf16, edited: m.edited,
	}
	c.guessed.Store(m.guessed.Load())
	if m.utf16 != utf16None {
		c.buf = slices.Clone(m.buf) // m's next Reset writes there
	}
	if m.mask != nil {
		c.mask = slices.Clone(m.mask)
	}
	return c
}

// Separators are those of MSH-1 and MSH-2.
func (m *Message) Separators() Separators { return m.sep }
