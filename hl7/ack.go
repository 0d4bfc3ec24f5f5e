package hl7

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// AckCode is MSA-1, from HL7 table 0008 (2.9.2, 2.9.3).
type AckCode string

const (
	AA AckCode = "AA" // application accept
	AE AckCode = "AE" // application error: the message is at fault, do not send it again as it is
	AR AckCode = "AR" // application reject: type, version or processing ID is not served, or it is our own fault
	CA AckCode = "CA" // enhanced mode: committed to safe storage
	CE AckCode = "CE" // enhanced mode: could not be kept
	CR AckCode = "CR" // enhanced mode: type, version or processing ID is not served
)

// Accepted says whether the code takes the message.
func (c AckCode) Accepted() bool { return c == AA || c == CA }

// Valid says whether the code is in table 0008.
func (c AckCode) Valid() bool {
	switch c {
	case AA, AE, AR, CA, CE, CR:
		return true
	}
	return false
}

// enhanced is the code of the same meaning in the accept acknowledgement of enhanced mode.
func (c AckCode) enhanced() AckCode {
	switch c {
	case AA:
		return CA
	case AE:
		return CE
	case AR:
		return CR
	}
	return c
}

// An Ack is what to answer.
type Ack struct {
	Code      AckCode
	Text      string     // for MSA-3; from version 2.7 on, which has withdrawn that, for ERR-8
	Errors    []AckError // for ERR; a refusal without any gets one of code 207 from Text
	ControlID string     // MSH-10 of the answer itself; where empty, that of the message is used, for the field is required
	Time      time.Time  // MSH-7, to the second and with its zone; the zero time leaves it empty
	Enhanced  bool       // write AA, AE, AR as CA, CE, CR
}

// An AckError is one thing that is wrong.
type AckError struct {
	Location    string // where, as a path: PID-3.1; may be empty
	Code        string // HL7 table 0357, as in 101; AckErrorName has their names
	Severity    string // HL7 table 0516: E (the default), W, I, F
	Text        string // for the sender's technician (ERR-7)
	UserMessage string // for the person at the sender's screen (ERR-8)
}

// AckErrorName is the name of a code of HL7 table 0357, or "".
func AckErrorName(code string) string {
	switch code {
	case "0":
		return "Message accepted"
	case "100":
		return "Segment sequence error"
	case "101":
		return "Required field missing"
	case "102":
		return "Data type error"
	case "103":
		return "Table value not found"
	case "104":
		return "Value too long"
	case "200":
		return "Unsupported message type"
	case "201":
		return "Unsupported event code"
	case "202":
		return "Unsupported processing id"
	case "203":
		return "Unsupported version id"
	case "204":
		return "Unknown key identifier"
	case "205":
		return "Duplicate key identifier"
	case "206":
		return "Application record locked"
	case "207":
		return "Application internal error"
	}
	return ""
}

// AckConditions are MSH-15 and MSH-16, from table 0155: AL always, NE never, ER on error, SU on success; "" where the
// message does not say.
func AckConditions(m *Message) (accept, application string) {
	return m.Get(Path{Segment: "MSH", Field: 15}), m.Get(Path{Segment: "MSH", Field: 16})
}

// WantsEnhanced says whether the sender asks for enhanced mode: MSH-15 or MSH-16 has a value (2.9.3). Both empty mean the
// original mode.
func WantsEnhanced(m *Message) bool {
	accept, application := AckConditions(m)
	return accept != "" || application != ""
}

// version is an HL7 version as a number that compares: 2.5.1 is 20501. Unknown ones count as 2.5.
func version(s string) int {
	n, part, digits := 0, 0, 0
	for i := 0; ; i++ {
		if i < len(s) && '0' <= s[i] && s[i] <= '9' && digits < 2 {
			part = part*10 + int(s[i]-'0')
			digits++
			continue
		}
		if digits == 0 {
			break
		}
		n = n*100 + part
		part, digits = 0, 0
		if i >= len(s) || s[i] != '.' || n >= 10000 {
			break
		}
	}
	for n > 0 && n < 10000 {
		n *= 100
	}
	if n < 20000 || n >= 30000 {
		return v2_5
	}
	return n
}

const (
	v2_3_1 = 20301
	v2_5   = 20500
	v2_7   = 20700
)

// NewAck is the answer to a message, in the message's own separators and character set, with CR behind every segment.
//
// MSH-3 and MSH-4 change places with MSH-5 and MSH-6; MSH-11, MSH-12 and MSH-18 are the message's (2.9.2.2). MSH-9 is
// ACK^A01^ACK from version 2.3.1 on, which brought the third component; before, it is ACK alone, for the second "is not
// required on acknowledgment messages" (2.3, 2.24.1.9). ERR has the form of the version: one segment whose ERR-1 repeats
// (segment^sequence^field^code) before 2.5, and from there on one segment an error, with ERR-2 to ERR-8 (2.14.5).
func NewAck(m *Message, a Ack) []byte {
	w := ackWriter{m: m, sep: m.sep, version: version(m.Version())}
	w.write(a)
	if m.utf16 == utf16None {
		return w.b
	}
	var out []byte
	if hasBOM(m.buf) {
		out = m.utf16.encode(out, []byte(utf8BOM))
	}
	return m.utf16.encode(out, w.b)
}

type ackWriter struct {
	m       *Message
	sep     Separators
	version int
	b       []byte
}

func (w *ackWriter) write(a Ack) {
	if a.Enhanced {
		a.Code = a.Code.enhanced()
	}
	errs := a.Errors
	if len(errs) == 0 && !a.Code.Accepted() {
		errs = []AckError{{Code: "207", UserMessage: a.Text}}
	}
	w.msh(a)
	w.msa(a, errs)
	switch {
	case len(errs) == 0:
	case w.version < v2_5:
		w.oldErrors(errs)
	default:
		for _, e := range errs {
			w.err(e)
		}
	}
}

func (w *ackWriter) msh(a Ack) {
	w.b = append(w.b, "MSH"...)
	w.b = append(w.b, w.sep.Field)
	chars, _ := w.m.Raw(Path{Segment: "MSH", Field: 2})
	if end := bytes.IndexAny(chars, "\r\n"); end >= 0 {
		chars = chars[:end] // where readSeparators stopped too
	}
	w.b = append(w.b, chars...)
	for _, n := range [...]int{5, 6, 3, 4} {
		w.next()
		w.echo(n)
	}
	w.next()
	if !a.Time.IsZero() {
		w.b = a.Time.AppendFormat(w.b, "20060102150405-0700")
	}
	w.next() // MSH-8
	w.next()
	event := w.m.Get(Path{Segment: "MSH", Field: 9, Component: 2})
	if w.version < v2_3_1 || event == "" {
		w.b = append(w.b, "ACK"...)
	} else {
		w.composite("ACK", event, "ACK")
	}
	w.next()
	if a.ControlID != "" {
		w.text(a.ControlID)
	} else {
		w.echo(10)
	}
	w.next()
	w.echo(11)
	w.next()
	if w.m.Presence(Path{Segment: "MSH", Field: 12}) == Present {
		w.echo(12)
	} else {
		w.b = append(w.b, "2.5"...)
	}
	if w.m.Presence(Path{Segment: "MSH", Field: 18}) == Present {
		w.skip(6)
		w.echo(18)
	}
	w.end()
}

func (w *ackWriter) msa(a Ack, errs []AckError) {
	w.b = append(w.b, "MSA"...)
	w.next()
	w.text(string(a.Code))
	w.next()
	w.echo(10)
	if a.Text != "" && w.version < v2_7 {
		w.next()
		w.text(a.Text)
		if w.version >= v2_3_1 && w.version < v2_5 && len(errs) > 0 && errs[0].Code != "" {
			// MSA-6, the error's code, is ERR's matter from 2.5 on.
			w.skip(3)
			w.code(errs[0].Code, w.sep.Component)
		}
	}
	w.end()
}

// oldErrors writes the ERR of versions before 2.5.
func (w *ackWriter) oldErrors(errs []AckError) {
	w.b = append(w.b, "ERR"...)
	w.next()
	for i, e := range errs {
		if i > 0 {
			if w.sep.Repetition == 0 {
				break
			}
			w.b = append(w.b, w.sep.Repetition)
		}
		var segment, rep, field string
		if p, err := ParsePath(e.Location); err == nil {
			segment, rep = p.Segment, place(p.SegmentRep)
			if p.Field != 0 {
				field = strconv.Itoa(p.Field)
			}
		}
		w.composite(segment, rep, field)
		if w.sep.Component == 0 {
			continue
		}
		w.b = append(w.b, w.sep.Component)
		if w.version >= v2_3_1 && w.sep.Subcomponent != 0 {
			w.code(e.Code, w.sep.Subcomponent) // CE inside a component
		} else {
			w.text(e.Code)
		}
	}
	w.end()
}

// err writes the ERR of version 2.5 and later.
func (w *ackWriter) err(e AckError) {
	w.b = append(w.b, "ERR"...)
	w.skip(2)
	if p, err := ParsePath(e.Location); err == nil {
		parts := []string{p.Segment, place(p.SegmentRep)}
		if p.Field != 0 {
			parts = append(parts, strconv.Itoa(p.Field))
			if p.Rep != 0 || p.Component != 0 {
				parts = append(parts, place(p.Rep))
			}
			if p.Component != 0 {
				parts = append(parts, strconv.Itoa(p.Component))
				if p.Subcomponent != 0 {
					parts = append(parts, strconv.Itoa(p.Subcomponent))
				}
			}
		}
		w.composite(parts...)
	}
	w.next()
	w.code(e.Code, w.sep.Component)
	w.next()
	if e.Severity == "" {
		e.Severity = "E"
	}
	w.text(e.Severity)
	if e.Text != "" || e.UserMessage != "" {
		w.skip(3)
		w.text(e.Text)
		if e.UserMessage != "" {
			w.next()
			w.text(e.UserMessage)
		}
	}
	w.end()
}

// place is a repetition as ERR has it: counted from 1, and 1 where none is said. One that counts from the end, or means
// all, is no number here.
func place(rep int) string {
	switch {
	case rep == 0:
		return "1"
	case rep < 0:
		return ""
	}
	return strconv.Itoa(rep)
}

func (w *ackWriter) next() { w.b = append(w.b, w.sep.Field) }

func (w *ackWriter) skip(fields int) { w.b = appendRepeated(w.b, w.sep.Field, fields) }

func (w *ackWriter) end() { w.b = append(w.b, '\r') }

// text writes a value of ours. What the message's character set does not have is written as a question mark: an answer
// without its text is better than none.
func (w *ackWriter) text(s string) {
	s = Escape(w.sep, s)
	raw, err := w.m.encode(s)
	var wrong *CharsetError
	if errors.As(err, &wrong) {
		raw = []byte(strings.Map(func(r rune) rune {
			if r < 0x80 {
				return r
			}
			if _, err := w.m.encode(string(r)); err != nil {
				return '?'
			}
			return r
		}, s))
		raw, _ = w.m.encode(string(raw))
	}
	w.b = append(w.b, raw...)
}

// composite writes components, as far as the message has a separator for them.
func (w *ackWriter) composite(parts ...string) {
	for i, p := range parts {
		if i > 0 {
			if w.sep.Component == 0 {
				return
			}
			w.b = append(w.b, w.sep.Component)
		}
		w.text(p)
	}
}

// code writes a code of table 0357 with its name and table.
func (w *ackWriter) code(code string, separator byte) {
	w.text(code)
	name := AckErrorName(code)
	if separator == 0 || name == "" {
		return
	}
	w.b = append(w.b, separator)
	w.text(name)
	w.b = append(w.b, separator)
	w.b = append(w.b, "HL70357"...)
}

// echo writes a field of the message's MSH as it is. A byte in it that would end our segment or the frame is escaped: it
// came in data, but must not go out as structure.
func (w *ackWriter) echo(field int) {
	raw, _ := w.m.Raw(Path{Segment: "MSH", Field: field})
	for _, c := range raw {
		switch {
		case c != '\r' && c != '\n' && c != 0x0B && c != 0x1C:
			w.b = append(w.b, c)
		case w.sep.Escape == 0:
			w.b = append(w.b, ' ')
		default:
			w.b = append(w.b, w.sep.Escape, 'X', hexDigits[c>>4], hexDigits[c&15], w.sep.Escape)
		}
	}
}

// NewAckRaw is the answer to bytes that Parse refused. It echoes whatever of an MSH segment is legible somewhere near their
// beginning; where nothing is, it is a minimal answer of version 2.5 that echoes nothing.
func NewAckRaw(raw []byte, a Ack) []byte {
	if form := utf16FormOf(raw); form == utf16None {
		if m := legibleHeader(raw); m != nil {
			return NewAck(m, a)
		}
	} else if m, err := Parse(raw[:len(raw)&^1]); err == nil {
		return NewAck(m, a)
	}
	m, err := Parse([]byte(`MSH|^~\&|||||||||P|2.5` + "\r"))
	if err != nil {
		return nil // the text above is a message
	}
	if a.ControlID == "" {
		a.ControlID = "0"
	}
	return NewAck(m, a)
}

// headerWithin is how far NewAckRaw looks for an MSH segment, and how long it lets that be.
const headerWithin = 64 << 10

func legibleHeader(raw []byte) *Message {
	raw = raw[:min(len(raw), headerWithin)]
	end := 0 // of the line; looked for once a line, however often it says MSH
	for at := 0; ; at += len("MSH") {
		i := bytes.Index(raw[at:], []byte("MSH"))
		if i < 0 {
			return nil
		}
		at += i
		if end <= at {
			end = at + min(next(raw[at:], '\r'), next(raw[at:], '\n'))
		}
		if m, err := Parse(raw[at:end]); err == nil {
			return m
		}
	}
}

// An AckResult is what a receiver answered.
type AckResult struct {
	Code      AckCode
	ControlID string // MSA-2: the MSH-10 of what it answers
	Text      string // MSA-3, or else the first text of ERR: ERR-8, ERR-7, the name of the code
	ErrorCode string // of table 0357: ERR-3, or ERR-1.4, or MSA-6
}

// ParseAck reads an acknowledgement, or any other answer that has an MSA segment. An answer without MSA, or with a code
// that is not in table 0008, is an error.
func ParseAck(b []byte) (AckResult, error) {
	m, err := Parse(b)
	if err != nil {
		return AckResult{}, fmt.Errorf("read the acknowledgement: %w", err)
	}
	get := func(segment string, field, component, sub int) string {
		return m.Get(Path{Segment: segment, Field: field, Component: component, Subcomponent: sub})
	}
	r := AckResult{
		Code:      AckCode(strings.TrimSpace(get("MSA", 1, 1, 0))),
		ControlID: get("MSA", 2, 0, 0),
		Text:      get("MSA", 3, 0, 0),
	}
	switch {
	case m.Count("MSA") == 0:
		return AckResult{}, errors.New("hl7: the answer has no MSA segment, so it acknowledges nothing")
	case !r.Code.Valid():
		return AckResult{}, errors.New("hl7: the answer's MSA-1 is not a code of table 0008")
	}
	r.ErrorCode = first(get("ERR", 3, 1, 0), get("ERR", 1, 4, 1), get("MSA", 6, 1, 0))
	r.Text = first(r.Text, get("ERR", 8, 0, 0), get("ERR", 7, 0, 0), get("ERR", 3, 2, 0), get("ERR", 1, 4, 2), get("MSA", 6, 2, 0))
	return r, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
