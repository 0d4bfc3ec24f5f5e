package mllp

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// AppendFrame appends block, framed, to dst. It refuses an empty block (ErrEmpty: the standard asks for one byte) and
// one that holds 0x1C (*ContentError). Other control bytes, which the standard forbids too, pass; see the package
// comment. On error dst is returned as it was.
func AppendFrame(dst, block []byte) ([]byte, error) {
	if err := carriable(block); err != nil {
		return dst, err
	}
	dst = append(dst, startByte)
	dst = append(dst, block...)
	return append(dst, endByte, lastByte), nil
}

// carriable says why block cannot be content.
func carriable(block []byte) error {
	if len(block) == 0 {
		return ErrEmpty
	}
	if i := bytes.IndexByte(block, endByte); i >= 0 {
		return &ContentError{Offset: i}
	}
	return nil
}

// A Reader takes blocks out of a stream. Its memory grows with what arrives, up to the limit and one buffer more.
type Reader struct {
	src io.Reader
	max int

	buf        []byte // buf[start:end] has been read and not been taken
	start, end int
	err        error // of src, to be told once buf is used up
	broken     error // why nothing more can be read
	skipped    int64

	// gate is called before each read of src, which may block. Its error ends Next.
	gate func(position) error
}

// position says where in the stream a read happens.
type position int

const (
	greeting position = iota // TLS handshake
	nowhere                  // not reading
	between                  // no block has begun
	inside
	afterEnd // 0x1C has come; the next byte decides whether it was the end
)

// NewReader reads blocks of up to limit bytes of content. Zero or less: 16 MiB.
func NewReader(r io.Reader, limit int) *Reader {
	if limit <= 0 {
		limit = defaultMaxBlock
	}
	return &Reader{src: r, max: limit}
}

// Next returns the content of the next block; the slice is the caller's. An empty block is empty, not nil.
//
// io.EOF: the stream ended outside a block. io.ErrUnexpectedEOF: inside one. ErrTooLong, ErrStray or another error of
// the stream. Only a time-out (os.ErrDeadlineExceeded) outside a block may be followed by another Next; after 0x1C it
// ends the block instead.
func (r *Reader) Next() ([]byte, error) {
	if r.broken != nil {
		return nil, r.broken
	}
	if err := r.begin(); err != nil {
		return nil, err
	}
	scan := 0 // after r.start; fill moves the buffer
	for {
		i := bytes.IndexByte(r.buf[r.start+scan:r.end], endByte)
		if i < 0 {
			scan = r.end - r.start
			if scan > r.max {
				return nil, r.fail(ErrTooLong)
			}
			if err := r.fill(inside); err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return nil, r.fail(err)
			}
			continue
		}
		n := scan + i
		if n > r.max {
			return nil, r.fail(ErrTooLong)
		}
		if r.start+n+1 == r.end {
			err := r.fill(afterEnd)
			if err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) {
				return r.take(n, n+1), nil
			}
			if err != nil {
				return nil, r.fail(err)
			}
		}
		switch r.buf[r.start+n+1] {
		case lastByte:
			return r.take(n, n+2), nil
		case startByte:
			return r.take(n, n+1), nil
		default:
			scan = n + 1
		}
	}
}

// Skipped counts the bytes outside blocks so far.
func (r *Reader) Skipped() int64 { return r.skipped }

// Buffered counts the bytes that were read from the stream and belong to no block returned so far.
func (r *Reader) Buffered() int { return r.end - r.start }

// begin goes past the next 0x0B.
func (r *Reader) begin() error {
	gap := 0
	for {
		i := bytes.IndexByte(r.buf[r.start:r.end], startByte)
		stray := i
		if i < 0 {
			stray = r.end - r.start
		}
		gap += stray
		r.skipped += int64(stray)
		if gap > maxStray {
			return r.fail(ErrStray)
		}
		r.start += stray
		if i >= 0 {
			r.start++
			return nil
		}
		if err := r.fill(between); err != nil {
			return err
		}
	}
}

// take cuts n bytes of content out and goes on after used bytes.
func (r *Reader) take(n, used int) []byte {
	var block []byte
	if n >= handOver && n >= len(r.buf)/3 {
		block = r.buf[r.start : r.start+n : r.start+n]
		rest := r.buf[r.start+used : r.end]
		r.buf = make([]byte, max(firstBuffer, 2*len(rest)))
		r.start, r.end = 0, copy(r.buf, rest)
		return block
	}
	block = make([]byte, n)
	copy(block, r.buf[r.start:])
	r.start += used
	return block
}

// fill reads at least one byte, or returns an error.
func (r *Reader) fill(at position) error {
	if r.err != nil {
		return r.err
	}
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.end == len(r.buf) {
		r.room()
	}
	for range emptyReads {
		if r.gate != nil {
			if err := r.gate(at); err != nil {
				return err
			}
		}
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		if n > 0 {
			// An error beside data is told when the data is used up. A time-out is not: the next read has its own.
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				r.err = err
			}
			return nil
		}
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				r.err = err
			}
			return err
		}
	}
	return io.ErrNoProgress
}

// room makes place for at least one byte more at the end: it moves what is there to the front, or doubles. A block
// within the limit needs max+2 bytes at most; Next ends before it would ask for more.
func (r *Reader) room() {
	size := max(firstBuffer, min(2*len(r.buf), r.max+firstBuffer))
	if size <= len(r.buf) || r.start > len(r.buf)/2 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
		return
	}
	bigger := make([]byte, size)
	r.end = copy(bigger, r.buf[r.start:r.end])
	r.start, r.buf = 0, bigger
}

func (r *Reader) fail(err error) error {
	r.broken = err
	return err
}

// prefix returns the first bytes of the block that was too long.
func (r *Reader) prefix() []byte {
	return bytes.Clone(r.buf[r.start:min(r.end, r.start+prefixLength)])
}

// release gives the buffer back; nothing can be read any more.
func (r *Reader) release() {
	r.buf, r.start, r.end = nil, 0, 0
	r.broken = ErrTooLong
}
