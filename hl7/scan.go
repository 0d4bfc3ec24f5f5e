package hl7

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// Fields are short: seven bytes on the average. Calling bytes.IndexByte for each costs more than looking at the bytes does,
// so the first bytes of a search go eight at a time through one word, and bytes.IndexByte takes over where it is long.
const nearBytes = 256

const (
	lowBits  = 0x7F7F7F7F7F7F7F7F
	everyOne = 0x0101010101010101
)

// matches has the high bit of every byte of word set that equals the one repeated in pattern.
func matches(word, pattern uint64) uint64 {
	x := word ^ pattern
	return ^((x&lowBits + lowBits) | x | lowBits)
}

// skip is the offset behind the n-th separator in b, or -1 and how many there are. n is at least 1.
func skip(b []byte, separator byte, n int) (after, found int) {
	pattern := uint64(separator) * everyOne
	want, i := n, 0
	for near := min(len(b), nearBytes) - 8; i <= near; i += 8 {
		hits := matches(binary.LittleEndian.Uint64(b[i:]), pattern)
		if hits == 0 {
			continue
		}
		c := bits.OnesCount64(hits)
		if c < want {
			want -= c
			continue
		}
		for ; want > 1; want-- {
			hits &= hits - 1
		}
		return i + bits.TrailingZeros64(hits)/8 + 1, n
	}
	for ; want > 0; want-- {
		j := bytes.IndexByte(b[i:], separator)
		if j < 0 {
			return -1, n - want
		}
		i += j + 1
	}
	return i, n
}

// next is the offset of the first separator in b, or len(b).
func next(b []byte, separator byte) int {
	pattern := uint64(separator) * everyOne
	i := 0
	for near := min(len(b), nearBytes/4) - 8; i <= near; i += 8 {
		if hits := matches(binary.LittleEndian.Uint64(b[i:]), pattern); hits != 0 {
			return i + bits.TrailingZeros64(hits)/8
		}
	}
	if j := bytes.IndexByte(b[i:], separator); j >= 0 {
		return i + j
	}
	return len(b)
}

// isASCII says whether no byte has its high bit set.
func isASCII(b []byte) bool {
	i := 0
	for ; i <= len(b)-8; i += 8 {
		if binary.LittleEndian.Uint64(b[i:])&^lowBits != 0 {
			return false
		}
	}
	for ; i < len(b); i++ {
		if b[i] >= 0x80 {
			return false
		}
	}
	return true
}
