package engine

import (
	"bytes"
	"encoding/binary"

	"github.com/lazaret-health/lazaret/internal/seal"
)

// A token is what a message can be found by: a field, a value of eight bytes, and the message's number. Values of what may
// identify a person are blind (keyed, by organisation, field and month); types and channels are plain.
//
// The tag tells messages with equal values apart, without a second look at them: for duplicates it stands for the content.
type token struct {
	field byte
	value [8]byte
	tag   uint32
}

// Fields of tokens: fixed codes, they are stored.
const (
	fieldControlID byte = 1
	fieldPatient   byte = 2
	fieldDuplicate byte = 3
	fieldType      byte = 4
	fieldChannel   byte = 5
)

func blindToken(field byte, v [seal.BlindSize]byte) token {
	return token{field: field, value: [8]byte(v[:8])}
}

func typeToken(typ string) (t token) {
	t.field = fieldType
	copy(t.value[:], typ)
	return t
}

func channelToken(n int64) (t token) {
	t.field = fieldChannel
	binary.BigEndian.PutUint64(t.value[:], uint64(n))
	return t
}

// An entry is a token of a message as it is stored: value, tag, number, big endian, so that entries sort as bytes. In
// token_recent a byte for the field stands before each.
const (
	entrySize  = 8 + 4 + 8
	recentSize = 1 + entrySize
)

func appendRecent(b []byte, t token, number int64) []byte {
	b = append(b, t.field)
	b = append(b, t.value[:]...)
	b = binary.BigEndian.AppendUint32(b, t.tag)
	return binary.BigEndian.AppendUint64(b, uint64(number))
}

func entryNumber(e []byte) int64 { return int64(binary.BigEndian.Uint64(e[12:20])) }

// forEachMatch calls fn with the entries that begin with prefix, in the order of their bytes, until fn says false.
func forEachMatch(entries, prefix []byte, fn func(entry []byte) (more bool)) (more bool) {
	// Binary search for the first entry that is not below the prefix.
	lo, hi := 0, len(entries)/entrySize
	for lo < hi {
		mid := (lo + hi) / 2
		if bytes.Compare(entries[mid*entrySize:(mid+1)*entrySize], prefix) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	for ; lo < len(entries)/entrySize; lo++ {
		e := entries[lo*entrySize : (lo+1)*entrySize]
		if !bytes.HasPrefix(e, prefix) {
			break
		}
		if !fn(e) {
			return false
		}
	}
	return true
}

// bloom answers "certainly not there" about the duplicate tokens of one bucket: 10 bits a token, 7 looks, one false alarm in a
// hundred.
type bloom []uint64

func newBloom(tokens int) bloom { return make(bloom, max(1, tokens*10/64)) }

func (b bloom) each(h uint64, fn func(word int, bit uint64) bool) bool {
	step := h>>33 | 1
	for range 7 {
		at := h % uint64(len(b)*64)
		if !fn(int(at/64), 1<<(at%64)) {
			return false
		}
		h += step
		h ^= h >> 29
	}
	return true
}

func (b bloom) add(h uint64) {
	b.each(h, func(w int, bit uint64) bool { b[w] |= bit; return true })
}

func (b bloom) has(h uint64) bool {
	return b.each(h, func(w int, bit uint64) bool { return b[w]&bit != 0 })
}

// who and what are the two hashes of a duplicate token: of the sender and its control ID, and of those with the content. The
// values are blind, hence random already; they are only spread.
func (t token) who() uint64 { return binary.LittleEndian.Uint64(t.value[:]) }

func (t token) what() uint64 {
	return (t.who() ^ uint64(t.tag)<<17) * 0x9e3779b97f4a7c15
}
