package hl7

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Transcode writes the whole message in another character set, named as in table 0211, and says so in MSH-18. The text
// stays the same, character by character, and so does every separator. A byte order mark is dropped.
//
// It is refused, and the message stays as it was, where a character is not in that set (a *CharsetError, with its place in
// the segment named before it), and where bytes mean nothing in the set that the message has now: what they should become,
// nobody knows. UTF-16 can be read, and answered, but not be asked for.
func (m *Message) Transcode(name string) error {
	c, ok := charsetNamed([]byte(name))
	switch {
	case len(m.segs) == 0:
		return errors.New("hl7: transcode: there is no message")
	case !ok || c == charsetUTF16:
		return fmt.Errorf("hl7: transcode: %q is no character set that can be written", name)
	}
	from := m.actual()
	to := &Message{charset: c}
	blanks := m.buf[:m.head]
	if hasBOM(blanks) {
		blanks = blanks[len(utf8BOM):]
	}
	out := bytes.Clone(blanks)
	for i := range m.segs {
		wrong := -1
		text := string(from.decode(nil, m.text(i), func(offset int) {
			if wrong < 0 {
				wrong = offset
			}
		}))
		if wrong >= 0 {
			return fmt.Errorf("hl7: transcode: segment %d, byte %d: means nothing in %s, the message's own character set", i+1, wrong, m.Charset())
		}
		raw, err := to.encode(text)
		if err != nil {
			return fmt.Errorf("transcode segment %d: %w", i+1, err)
		}
		out = append(append(out, raw...), m.terminator(i)...)
	}
	t := new(Message)
	if err := t.Reset(out); err != nil {
		return fmt.Errorf("transcode: %w", err)
	}
	// MSH is searched by the rules of the new set before MSH-18 says so.
	if err := t.OverrideCharset(name); err != nil {
		return err
	}
	declared := strings.TrimSpace(c.canonical())
	if c == charsetISO2022JP {
		declared = string(m.sep.Repetition) + declared // ASCII first, then what may be shifted to
	}
	if err := t.SetRaw(Path{Segment: "MSH", Field: 18}, []byte(declared)); err != nil {
		return err
	}
	return m.Reset(t.Bytes())
}
