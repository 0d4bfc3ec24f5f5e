package hl7

import (
	"bytes"
	"unicode/utf8"
)

// blot takes the place, in a mask, of a byte that is part of a longer character.
const blot = 0x80

// maskCharset appends b to dst with every byte blotted out that looks like a separator and is none.
//
// In Shift-JIS, GB 18030 and BIG-5 the second byte of a character may be | ^ ~ or \, and in ISO 2022 every byte between
// two shifts may be anything printable. Offsets stay the same, so that separators are looked for in the mask, and values
// are taken from the message. A first byte without its second swallows a separator behind it, as it does for every reader
// of these sets.
func maskCharset(dst, b []byte, c charsetID) []byte {
	start := len(dst)
	dst = append(dst, b...)
	mask := dst[start:]
	if c == charsetISO2022JP {
		mask2022(mask)
		return dst
	}
	for i := 0; i < len(mask); {
		n := c.width(b[i:])
		for j := 1; j < n; j++ {
			mask[i+j] = blot
		}
		i += n
	}
	return dst
}

// width is the length of the character that begins b; 1 for anything that begins none.
func (c charsetID) width(b []byte) int {
	lead := b[0]
	if lead < 0x80 || len(b) == 1 {
		return 1
	}
	second := b[1]
	switch c {
	case charsetShiftJIS:
		if (0x81 <= lead && lead <= 0x9F || 0xE0 <= lead && lead <= 0xFC) && second >= 0x40 && second != 0x7F && second <= 0xFC {
			return 2
		}
	case charsetGB18030:
		switch {
		case lead == 0x80 || lead == 0xFF:
		case second >= 0x40 && second != 0x7F && second != 0xFF:
			return 2
		case '0' <= second && second <= '9' && len(b) >= 4 && 0x81 <= b[2] && b[2] <= 0xFE && '0' <= b[3] && b[3] <= '9':
			return 4
		}
	case charsetBig5, charsetEUCKR:
		if 0x81 <= lead && lead <= 0xFE && (0x40 <= second && second <= 0x7E || 0x80 <= second && second <= 0xFE) {
			return 2
		}
	case charsetEUCJP:
		switch {
		case lead == 0x8F && len(b) >= 3 && second >= 0xA1 && b[2] >= 0xA1:
			return 3
		case (lead == 0x8E || lead >= 0xA1) && second >= 0xA1:
			return 2
		}
	}
	return 1
}

// mask2022 blots out what stands between a shift to a set with two bytes a character (ESC $) and the shift back, or the
// end of the line: a shift never reaches over a segment.
func mask2022(mask []byte) {
	double := false
	for i := 0; i < len(mask); i++ {
		c := mask[i]
		switch {
		case c == '\r' || c == '\n':
			double = false
		case c == 0x1B:
			n := shiftLen(mask[i:])
			if n > 0 {
				double = mask[i+1] == '$'
			}
			for j := 1; j < n; j++ {
				mask[i+j] = blot
			}
			i += max(n-1, 0)
		case double:
			mask[i] = blot
		}
	}
}

// shiftLen is the length of an ISO 2022 shift at b, or 0: ESC ( x, ESC $ @, ESC $ B, ESC $ ( D.
func shiftLen(b []byte) int {
	switch {
	case len(b) >= 4 && b[1] == '$' && b[2] == '(' && b[3] == 'D':
		return 4
	case len(b) >= 3 && b[1] == '$' && (b[2] == '@' || b[2] == 'B'):
		return 3
	case len(b) >= 3 && b[1] == '(' && (b[2] == 'B' || b[2] == 'J' || b[2] == 'I'):
		return 3
	}
	return 0
}

// decodeMultibyte appends b to dst as UTF-8. Characters are taken one by one and must encode to the same bytes again;
// others come as stand-ins. ISO 2022 is read as a whole, for its bytes mean nothing alone.
func (c charsetID) decodeMultibyte(dst, b []byte, bad func(offset int)) []byte {
	dec, enc := c.multibyte().NewDecoder(), c.multibyte().NewEncoder()
	if c == charsetISO2022JP {
		out, err := dec.Bytes(b)
		if err == nil && !bytes.ContainsRune(out, utf8.RuneError) {
			return append(dst, out...)
		}
		if bad != nil {
			bad(0)
		}
		if err != nil {
			return decodeUTF8(dst, b, nil)
		}
		return append(dst, out...)
	}
	if isASCII(b) {
		return append(dst, b...)
	}
	if out, err := dec.Bytes(b); err == nil && !bytes.ContainsRune(out, utf8.RuneError) {
		if back, err := enc.Bytes(out); err == nil && bytes.Equal(back, b) {
			return append(dst, out...)
		}
	}
	for i := 0; i < len(b); {
		n := c.width(b[i:])
		if b[i] < 0x80 {
			dst = append(dst, b[i])
			i++
			continue
		}
		out, err := dec.Bytes(b[i : i+n])
		ok := err == nil && !bytes.ContainsRune(out, utf8.RuneError)
		if ok {
			back, err := enc.Bytes(out)
			ok = err == nil && bytes.Equal(back, b[i:i+n])
		}
		if ok {
			dst = append(dst, out...)
			i += n
			continue
		}
		// The first byte alone: an ASCII byte behind it is itself, and never lost.
		if bad != nil {
			bad(i)
		}
		dst = utf8.AppendRune(dst, standIn+rune(b[i]))
		i++
	}
	return dst
}

func (c charsetID) encodeMultibyte(s, name string) ([]byte, error) {
	enc := c.multibyte().NewEncoder()
	if c == charsetISO2022JP {
		out, err := enc.Bytes([]byte(s))
		if err == nil {
			return out, nil
		}
	}
	var out []byte
	for i, r := range s {
		switch {
		case r < 0x80:
			out = append(out, byte(r))
			continue
		case isStandIn(r) && c != charsetISO2022JP:
			out = append(out, byte(r-standIn))
			continue
		}
		x, err := enc.Bytes([]byte(string(r)))
		if err != nil || r == utf8.RuneError {
			return nil, &CharsetError{Charset: name, Offset: i, Reason: "it is not in that set"}
		}
		out = append(out, x...)
	}
	return out, nil
}
