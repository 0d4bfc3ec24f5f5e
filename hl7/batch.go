package hl7

import (
	"bytes"
	"iter"
	"strconv"
)

// A PartKind says what a part of a batch is.
type PartKind uint8

const (
	MessagePart  PartKind = iota // from MSH up to the next message or envelope
	FileHeader                   // FHS
	BatchHeader                  // BHS
	BatchTrailer                 // BTS
	FileTrailer                  // FTS
	StrayPart                    // bytes before the first of the others
)

func (k PartKind) String() string {
	switch k {
	case MessagePart:
		return "message"
	case FileHeader:
		return "FHS"
	case BatchHeader:
		return "BHS"
	case BatchTrailer:
		return "BTS"
	case FileTrailer:
		return "FTS"
	default:
		return "stray bytes"
	}
}

// A Part is a piece of what SplitBatch was given.
type Part struct {
	Kind   PartKind
	Offset int    // of Raw in the input
	Raw    []byte // a part of the input, its last terminator and blank lines included

	// Of trailers only: what BTS-1 or FTS-1 says is in the batch (messages) or the file (batches), or -1 where it says
	// nothing; and how many there were.
	Declared, Counted int
}

// Miscounted says whether a trailer declares another number than there was: something is missing, or came twice.
func (p Part) Miscounted() bool { return p.Declared >= 0 && p.Declared != p.Counted }

// SplitBatch takes the batch protocol apart (2.10.3): the messages of [FHS] { [BHS] { MSH ... } [BTS] } [FTS], or of
// several messages one after another without any envelope. No byte is lost: the parts, put together, are b. A file of one
// message is that message. Nothing is copied.
//
//	for part := range hl7.SplitBatch(b) {
//		if part.Kind == hl7.MessagePart { ... }
//	}
func SplitBatch(b []byte) iter.Seq[Part] {
	return func(yield func(Part) bool) {
		s := batchSplitter{b: b}
		s.run(yield)
	}
}

type batchSplitter struct {
	b        []byte
	start    int // of the part under way
	kind     PartKind
	messages int  // in the batch under way
	batches  int  // in the file under way
	open     bool // a batch is under way
}

func (s *batchSplitter) run(yield func(Part) bool) {
	if len(s.b) == 0 {
		return
	}
	if utf16FormOf(s.b) != utf16None {
		yield(Part{Kind: MessagePart, Raw: s.b}) // not split: the envelope of a file in UTF-16 is read by nobody
		return
	}
	at := leading(s.b)
	kind, ok := partKind(s.b[at:])
	if !ok {
		kind = StrayPart
	}
	s.kind = kind
	cr, lf := -1, -1 // the next of each; looked for again only once it is passed
	for at < len(s.b) {
		if cr < at {
			cr = at + next(s.b[at:], '\r')
		}
		if lf < at {
			lf = at + next(s.b[at:], '\n')
		}
		end := min(cr, lf)
		for end < len(s.b) && (s.b[end] == '\r' || s.b[end] == '\n') {
			end++
		}
		if end < len(s.b) {
			if kind, ok := partKind(s.b[end:]); ok {
				if !yield(s.part(end)) {
					return
				}
				s.start, s.kind = end, kind
			}
		}
		at = end
	}
	yield(s.part(len(s.b)))
}

// part ends the part under way, and counts it.
func (s *batchSplitter) part(end int) Part {
	p := Part{Kind: s.kind, Offset: s.start, Raw: s.b[s.start:end:end]}
	switch s.kind {
	case MessagePart:
		if !s.open {
			s.begin() // a file without BHS is one batch
		}
		s.messages++
	case FileHeader:
		s.batches, s.open = 0, false
	case BatchHeader:
		s.begin()
	case BatchTrailer:
		p.Declared, p.Counted = declared(p.Raw), s.messages
		s.messages, s.open = 0, false
	case FileTrailer:
		p.Declared, p.Counted = declared(p.Raw), s.batches
		s.batches, s.open = 0, false
	}
	return p
}

func (s *batchSplitter) begin() {
	s.batches++
	s.messages, s.open = 0, true
}

// partKind knows the segments that begin a part.
func partKind(b []byte) (PartKind, bool) {
	if len(b) < 3 || len(b) > 3 && b[3] != '\r' && b[3] != '\n' && !canSeparate(b[3]) {
		return 0, false
	}
	switch string(b[:3]) {
	case "MSH":
		return MessagePart, true
	case "FHS":
		return FileHeader, true
	case "BHS":
		return BatchHeader, true
	case "BTS":
		return BatchTrailer, true
	case "FTS":
		return FileTrailer, true
	}
	return 0, false
}

// declared is the count in the first field of a trailer, or -1.
func declared(raw []byte) int {
	raw = bytes.TrimRight(raw, "\r\n")
	if len(raw) < 4 {
		return -1
	}
	f, _, _ := bytes.Cut(raw[4:], raw[3:4])
	n, err := strconv.Atoi(string(bytes.TrimSpace(f)))
	if err != nil || n < 0 {
		return -1
	}
	return n
}
