package hl7

import (
	"unicode/utf16"
	"unicode/utf8"
)

// utf8BOM is the byte order mark as some Windows programs write it in front of UTF-8.
const utf8BOM = "\xEF\xBB\xBF"

func hasBOM(b []byte) bool { return len(b) >= len(utf8BOM) && string(b[:len(utf8BOM)]) == utf8BOM }

// A utf16Form is how a message comes in UTF-16. Such a message is read as UTF-8, and written as it came.
type utf16Form uint8

const (
	utf16None utf16Form = iota
	utf16Big
	utf16Little
)

// utf16FormOf knows UTF-16 by its byte order mark, or by an M with a zero byte.
func utf16FormOf(b []byte) utf16Form {
	if len(b) < 2 {
		return utf16None
	}
	switch {
	case b[0] == 0xFE && b[1] == 0xFF, b[0] == 0 && b[1] == 'M':
		return utf16Big
	case b[0] == 0xFF && b[1] == 0xFE, b[0] == 'M' && b[1] == 0:
		return utf16Little
	}
	return utf16None
}

func utf16Said(f utf16Form) string {
	if f == utf16None {
		return "this message is not in it"
	}
	return "this message is in it"
}

func (f utf16Form) unit(b []byte) rune {
	if f == utf16Big {
		return rune(b[0])<<8 | rune(b[1])
	}
	return rune(b[1])<<8 | rune(b[0])
}

// decode appends b, of even length, to dst as UTF-8. Half a surrogate pair becomes the three bytes that UTF-8 would have
// for it; they are not valid, so that CheckText finds them, and encode makes the same half of them again.
func (f utf16Form) decode(dst, b []byte) []byte {
	for i := 0; i < len(b); i += 2 {
		r := f.unit(b[i:])
		if utf16.IsSurrogate(r) {
			if i+4 <= len(b) {
				if pair := utf16.DecodeRune(r, f.unit(b[i+2:])); pair != utf8.RuneError {
					dst = utf8.AppendRune(dst, pair)
					i += 2
					continue
				}
			}
			dst = append(dst, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
			continue
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

// encode appends b, of UTF-8, to dst as UTF-16.
func (f utf16Form) encode(dst, b []byte) []byte {
	put := func(u rune) {
		if f == utf16Big {
			dst = append(dst, byte(u>>8), byte(u))
		} else {
			dst = append(dst, byte(u), byte(u>>8))
		}
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			if len(b)-i >= 3 && b[i] == 0xED && b[i+1] >= 0xA0 && b[i+1] < 0xC0 && b[i+2]&0xC0 == 0x80 {
				put(0xD000 | rune(b[i+1]&0x3F)<<6 | rune(b[i+2]&0x3F))
				i += 3
				continue
			}
			put(utf8.RuneError)
			i++
			continue
		}
		if r >= 0x10000 {
			hi, lo := utf16.EncodeRune(r)
			put(hi)
			put(lo)
		} else {
			put(r)
		}
		i += n
	}
	return dst
}
