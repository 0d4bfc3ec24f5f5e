package mllp_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

func TestReaderTakesBlocks(t *testing.T) {
	long := strings.Repeat("x", 64<<10)
	for _, c := range []struct {
		name    string
		in      string
		want    []string
		end     error
		skipped int64
	}{
		{name: "one frame", in: "\x0bMSH|a\x1c\r", want: []string{"MSH|a"}, end: io.EOF},
		{name: "nothing at all", in: "", end: io.EOF},
		{name: "several frames in a packet", in: "\x0ba\x1c\r\x0bb\x1c\r\x0bc\x1c\r", want: []string{"a", "b", "c"}, end: io.EOF},
		{name: "stray bytes before, between and after are skipped and counted", in: "ab\x0b1\x1c\r\r\n\x0b2\x1c\rxyz", want: []string{"1", "2"}, end: io.EOF, skipped: 7},
		{name: "no final CR before the next frame", in: "\x0ba\x1c\x0bb\x1c\r", want: []string{"a", "b"}, end: io.EOF},
		{name: "no final CR at the end of the stream", in: "\x0ba\x1c", want: []string{"a"}, end: io.EOF},
		{name: "an LF for the CR keeps the block open, for it may be content", in: "\x0ba\x1c\nb\x1c\r", want: []string{"a\x1c\nb"}, end: io.EOF},
		{name: "the end byte inside content", in: "\x0ba\x1cb\x1c\x1c\r", want: []string{"a\x1cb\x1c"}, end: io.EOF},
		{name: "the start byte inside content", in: "\x0ba\x0bb\x1c\r", want: []string{"a\x0bb"}, end: io.EOF},
		{name: "an empty block is a block", in: "\x0b\x1c\r\x0ba\x1c\r", want: []string{"", "a"}, end: io.EOF},
		{name: "content of the full length", in: "\x0b" + strings.Repeat("y", 100) + "\x1c\r", want: []string{strings.Repeat("y", 100)}, end: io.EOF},
		{name: "content one byte too long", in: "\x0ba\x1c\r\x0b" + strings.Repeat("y", 101) + "\x1c\r\x0bb\x1c\r", want: []string{"a"}, end: mllp.ErrTooLong},
		{name: "too long before it ends", in: "\x0b" + long, end: mllp.ErrTooLong},
		{name: "cut inside a block", in: "\x0ba\x1c\r\x0bb", want: []string{"a"}, end: io.ErrUnexpectedEOF},
		{name: "cut after the start byte", in: "\x0b", end: io.ErrUnexpectedEOF},
		{name: "as many stray bytes as are borne", in: long + "\x0ba\x1c\r", want: []string{"a"}, end: io.EOF, skipped: 64 << 10},
		{name: "one stray byte more", in: long + "x\x0ba\x1c\r", end: mllp.ErrStray, skipped: 64<<10 + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, how := range []struct {
				name string
				wrap func(io.Reader) io.Reader
			}{
				{"whole", func(r io.Reader) io.Reader { return r }},
				{"a byte at a time", iotest.OneByteReader},
				{"error beside the last bytes", iotest.DataErrReader},
			} {
				r := mllp.NewReader(how.wrap(strings.NewReader(c.in)), 100)
				got, end := readAll(r)
				if strings.Join(got, "·") != strings.Join(c.want, "·") || len(got) != len(c.want) {
					t.Errorf("%s: blocks %q, want %q", how.name, got, c.want)
				}
				if !errors.Is(end, c.end) {
					t.Errorf("%s: ended with %v, want %v", how.name, end, c.end)
				}
				if c.end != mllp.ErrStray && r.Skipped() != c.skipped {
					t.Errorf("%s: skipped %d bytes, want %d", how.name, r.Skipped(), c.skipped)
				}
				if _, again := r.Next(); !errors.Is(again, c.end) {
					t.Errorf("%s: after the end: %v", how.name, again)
				}
			}
		})
	}
}

func TestABlockEndsWhenNothingFollowsItsEndByte(t *testing.T) {
	src := &timingOut{parts: []string{"\x0ba\x1c", "", "\r\x0bb\x1c", "c\x1c\r", ""}}
	r := mllp.NewReader(src, 0)
	for _, want := range []string{"a", "b\x1cc"} {
		got, err := r.Next()
		if err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	if _, err := r.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a time-out outside a block: %v", err)
	}
	src.parts = []string{"\x0bd\x1c\r", "\x0be", ""}
	if got, err := r.Next(); err != nil || string(got) != "d" {
		t.Fatalf("after a time-out outside a block: %q, %v", got, err)
	}
	for range 2 {
		if _, err := r.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a time-out inside a block: %v", err)
		}
	}
	if r.Skipped() != 1 {
		t.Errorf("the CR that came late is a stray byte; counted %d", r.Skipped())
	}
}

// timingOut gives one part a read; an empty part is a time-out.
type timingOut struct{ parts []string }

func (s *timingOut) Read(p []byte) (int, error) {
	if len(s.parts) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	part := s.parts[0]
	s.parts = s.parts[1:]
	if part == "" {
		return 0, os.ErrDeadlineExceeded
	}
	return copy(p, part), nil
}

// A block belongs to the caller: later reads must not change it, whether it was copied or left with its buffer.
func TestBlocksAreTheCallers(t *testing.T) {
	var stream []byte
	var want [][]byte
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 4095, 4096, 5000, 1 << 16, 1<<16 + 1, 3, 1 << 20, 100_000, 2, 70_000, 10} {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte('a' + rng.IntN(26))
		}
		want = append(want, b)
		var err error
		if stream, err = mllp.AppendFrame(stream, b); err != nil {
			t.Fatal(err)
		}
	}
	for _, chunk := range []int{1 << 30, 1000, 4096, 65536} {
		r := mllp.NewReader(&chunked{b: stream, next: func() int { return chunk }}, 1<<20)
		var got [][]byte
		for range want {
			b, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b)
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("chunks of %d: block %d of %d bytes has changed", chunk, i, len(want[i]))
			}
		}
	}
}

// An announced or endless length costs nothing until the bytes come, and then no more than a few times the limit.
func TestMemoryIsBoundedByTheLimit(t *testing.T) {
	const limit = 1 << 20
	r := mllp.NewReader(io.MultiReader(strings.NewReader("\x0b"), endless{}), limit)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := r.Next()
	runtime.ReadMemStats(&after)
	if !errors.Is(err, mllp.ErrTooLong) {
		t.Fatalf("without end: %v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 4*limit {
		t.Errorf("allocated %d bytes for a limit of %d", used, limit)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestAppendFrame(t *testing.T) {
	if got, err := mllp.AppendFrame([]byte("<"), []byte("MSH|\t\n\x0b\r")); err != nil || string(got) != "<\x0bMSH|\t\n\x0b\r\x1c\r" {
		t.Errorf("got %q, %v", got, err)
	}
	for in, want := range map[string]int{"\x1cab": 0, "abc\x1c": 3, "a\x0b\x1c\r\x1c": 2} {
		got, err := mllp.AppendFrame([]byte("kept"), []byte(in))
		var bad *mllp.ContentError
		if !errors.As(err, &bad) || bad.Offset != want || string(got) != "kept" {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if _, err := mllp.AppendFrame(nil, nil); !errors.Is(err, mllp.ErrEmpty) {
		t.Errorf("empty: %v", err)
	}
}

func readAll(r *mllp.Reader) (blocks []string, end error) {
	for {
		b, err := r.Next()
		if err != nil {
			return blocks, err
		}
		blocks = append(blocks, string(b))
	}
}

// chunked gives what it holds in pieces of next() bytes.
type chunked struct {
	b    []byte
	next func() int
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.b[:min(max(c.next(), 1), len(c.b))])
	c.b = c.b[n:]
	return n, nil
}
