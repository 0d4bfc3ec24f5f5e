package mllp

import "bytes"

// controlID returns MSH-10 of a block that is one message. Batches (FHS, BHS) have none of their own here: their
// answers are not matched.
func controlID(block []byte) (id []byte, ok bool) {
	block = plain(block)
	if len(block) < 4 || string(block[:3]) != "MSH" {
		return nil, false
	}
	// MSH-1 is the separator itself, so MSH-10 is the ninth field after the name.
	id = bytes.TrimSpace(field(segment(block), block[3], 9))
	return id, len(id) > 0
}

// answerID returns MSA-2 of an answer; ok says whether it has an MSA segment behind an MSH segment.
func answerID(answer []byte) (id []byte, ok bool) {
	answer = plain(answer)
	if len(answer) < 4 || string(answer[:3]) != "MSH" {
		return nil, false
	}
	sep := answer[3]
	for rest := answer; len(rest) > 0; {
		s := segment(rest)
		if len(s) > 3 && s[3] == sep && string(s[:3]) == "MSA" {
			return bytes.TrimSpace(field(s, sep, 2)), true
		}
		rest = rest[min(len(s)+1, len(rest)):]
	}
	return nil, false
}

// plain is a block without byte order mark, and one in UTF-16 without the zero bytes between its letters. The standard has no
// place for it in MLLP, but it comes, and an answer that is never recognised would be a message that is sent for ever.
func plain(b []byte) []byte {
	for _, mark := range [...]string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if rest, ok := bytes.CutPrefix(b, []byte(mark)); ok {
			b = rest
			break
		}
	}
	if len(b) > 3 && (b[0] == 0 || b[1] == 0) {
		return bytes.ReplaceAll(b, []byte{0}, nil)
	}
	return b
}

// matches decides whether an answer belongs to the block that was sent: nil, ErrMismatch or ErrGarbage. A block whose
// control ID cannot be read is content with any acknowledgement, a batch with any batch or message.
func matches(sent, answer []byte) error {
	want, single := controlID(sent)
	got, acknowledges := answerID(answer)
	switch {
	case acknowledges && !single, acknowledges && bytes.Equal(got, want):
		return nil
	case acknowledges:
		return ErrMismatch
	case isBatch(sent) && isBatch(answer):
		return nil
	default:
		return ErrGarbage
	}
}

func isBatch(block []byte) bool {
	return bytes.HasPrefix(block, []byte("FHS")) || bytes.HasPrefix(block, []byte("BHS"))
}

// segment returns what comes before the next CR or LF.
func segment(b []byte) []byte {
	if i := bytes.IndexAny(b, "\r\n"); i >= 0 {
		return b[:i]
	}
	return b
}

// field returns the n-th field after the segment's name, or nil.
func field(seg []byte, sep byte, n int) []byte {
	for ; n > 0; n-- {
		i := bytes.IndexByte(seg, sep)
		if i < 0 {
			return nil
		}
		seg = seg[i+1:]
	}
	if i := bytes.IndexByte(seg, sep); i >= 0 {
		return seg[:i]
	}
	return seg
}
