package mllp_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

// slowParse is the same grammar again, a byte at a time, over the whole input at once: no buffers, no chunks.
func slowParse(in []byte, limit int) (blocks []string, skipped int64, end error) {
	const (
		outside = iota
		inside
		ended // the last byte was 0x1C
	)
	state, gap := outside, 0
	var content []byte
	for _, b := range in {
		switch state {
		case outside:
			if b == 0x0B {
				state, gap, content = inside, 0, nil
				continue
			}
			skipped++
			if gap++; gap > 64<<10 {
				return blocks, skipped, mllp.ErrStray
			}
		case inside:
			if b == 0x1C {
				state = ended
				continue
			}
			content = append(content, b)
		case ended:
			switch b {
			case '\r':
				blocks, state = append(blocks, string(content)), outside
			case 0x0B:
				blocks, state, gap, content = append(blocks, string(content)), inside, 0, nil
			case 0x1C:
				content = append(content, 0x1C)
			default:
				content, state = append(content, 0x1C, b), inside
			}
		}
		if len(content) > limit {
			return blocks, skipped, mllp.ErrTooLong
		}
	}
	switch state {
	case outside:
		return blocks, skipped, io.EOF
	case inside:
		return blocks, skipped, io.ErrUnexpectedEOF
	default:
		return append(blocks, string(content)), skipped, io.EOF
	}
}

// Whatever the pieces in which the bytes arrive, the Reader finds what the slow parser finds.
func FuzzReader(f *testing.F) {
	f.Add([]byte("\x0bMSH|^~\\&|A\rPID|1\r\x1c\r"), uint64(1), uint16(64))
	f.Add([]byte("x\x0ba\x1c\x0bb\x1c\x1c\r\r\n\x0b\x1c\r\x0bc\x1c"), uint64(2), uint16(3))
	f.Add([]byte("\x0b\x0b\x1cz\x1c\r\x0bcut"), uint64(3), uint16(0))
	f.Add([]byte("\x0b0123456789\x1c\r"), uint64(4), uint16(9))
	f.Fuzz(func(t *testing.T, in []byte, seed uint64, limit uint16) {
		max := int(limit) + 1 // none would be the default
		want, skipped, end := slowParse(in, max)
		rng := rand.New(rand.NewPCG(seed, 7))
		for _, chunk := range []func() int{func() int { return 1 << 30 }, func() int { return 1 }, func() int { return 1 + rng.IntN(9) }} {
			r := mllp.NewReader(&chunked{b: in, next: chunk}, max)
			got, err := readAll(r)
			if !slices.Equal(got, want) {
				t.Fatalf("blocks %q, want %q", got, want)
			}
			if !errors.Is(err, end) {
				t.Fatalf("ended with %v, want %v", err, end)
			}
			if end == io.EOF && r.Skipped() != skipped {
				t.Fatalf("skipped %d, want %d", r.Skipped(), skipped)
			}
		}
	})
}

// What AppendFrame takes comes back as it was, between other frames and stray bytes; what it refuses leaves no trace.
func FuzzAppendFrame(f *testing.F) {
	f.Add([]byte("MSH|^~\\&|A\rPID|1\r"))
	f.Add([]byte("a\x0bb"))
	f.Add([]byte("\x1c"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, block []byte) {
		stream := []byte("\x0bbefore\x1c\r\n")
		out, err := mllp.AppendFrame(stream, block)
		refused := len(block) == 0 || slices.Contains(block, 0x1C)
		if refused != (err != nil) {
			t.Fatalf("%q: %v", block, err)
		}
		want := []string{"before", string(block), "after"}
		if refused {
			want = []string{"before", "after"}
		}
		got, end := slowAndFast(t, append(out, "\x0bafter\x1c\r"...))
		if !slices.Equal(got, want) || end != io.EOF {
			t.Fatalf("got %q, %v; want %q", got, end, want)
		}
	})
}

func slowAndFast(t *testing.T, in []byte) (blocks []string, end error) {
	slow, _, end := slowParse(in, 16<<20)
	fast, err := readAll(mllp.NewReader(&chunked{b: in, next: func() int { return 3 }}, 0))
	if fmt.Sprint(slow, end) != fmt.Sprint(fast, err) {
		t.Fatalf("slow %q %v, fast %q %v", slow, end, fast, err)
	}
	return fast, err
}
