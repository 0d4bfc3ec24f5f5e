package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/hl7/mllp"
)

// maxFile bounds a file of messages, which is read whole.
const maxFile = 1 << 30

// An outgoing message is a block with where it came from.
type outgoing struct {
	file      string // with #N where the file holds several
	controlID string // MSH-10; "" when illegible
	block     []byte
}

// readMessages reads files of messages, batches and MLLP streams.
func (p *program) readMessages(files []string, asIs bool) (all []outgoing, err error) {
	for _, name := range files {
		text, err := p.readFile(name)
		if err != nil {
			return nil, err
		}
		blocks, err := cutFile(text, asIs)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(blocks) == 0 {
			return nil, fmt.Errorf("%s: no message in it; one begins with MSH", name)
		}
		for i, b := range blocks {
			m := outgoing{file: name, block: b, controlID: controlID(b)}
			if len(blocks) > 1 {
				m.file = fmt.Sprintf("%s#%d", name, i+1)
			}
			all = append(all, m)
		}
	}
	return all, nil
}

func (p *program) readFile(name string) ([]byte, error) {
	from := p.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	case len(text) > maxFile:
		return nil, fmt.Errorf("%s is over 1 GiB; cut it into several files", name)
	}
	return text, nil
}

// cutFile takes a file apart. An MLLP stream is known by its first byte; what else it holds is not looked at.
func cutFile(text []byte, asIs bool) (blocks [][]byte, err error) {
	if bytes.HasPrefix(text, []byte{0x0B}) {
		r := mllp.NewReader(bytes.NewReader(text), maxFile)
		for {
			b, err := r.Next()
			switch {
			case errors.Is(err, io.EOF):
				return blocks, nil
			case err != nil:
				return nil, fmt.Errorf("MLLP stream, behind block %d: %w", len(blocks), err)
			}
			blocks = append(blocks, b)
		}
	}
	if !asIs {
		text = bytes.TrimPrefix(text, []byte("\ufeff")) // editors write it; UTF-8 in HL7 has none
		text = lineEnds(text)
	}
	for part := range hl7.SplitBatch(text) {
		switch part.Kind {
		case hl7.MessagePart:
			b := part.Raw
			if !asIs {
				b = append(bytes.Clone(bytes.TrimRight(b, "\r\n")), '\r')
			}
			blocks = append(blocks, b)
		case hl7.StrayPart:
			if len(bytes.TrimSpace(part.Raw)) > 0 {
				return nil, errors.New("it does not begin with MSH, FHS or BHS")
			}
		}
	}
	return blocks, nil
}

// lineEnds makes LF and CRLF to CR where no segment ends in a CR alone: there the LF may be content.
func lineEnds(text []byte) []byte {
	for i, c := range text {
		if c == '\r' && (i+1 == len(text) || text[i+1] != '\n') {
			return text
		}
	}
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\r"))
	return bytes.ReplaceAll(text, []byte("\n"), []byte("\r"))
}

func controlID(block []byte) string {
	m, err := hl7.Parse(block)
	if err != nil {
		return ""
	}
	return m.ControlID()
}

// renamed is the message with another control ID. One that is not legible stays as it is.
func (o outgoing) renamed(suffix string) outgoing {
	m, err := hl7.Parse(o.block)
	if err != nil || m.Set(hl7.MustPath("MSH-10"), o.controlID+suffix) != nil {
		return o
	}
	o.controlID += suffix
	o.block = m.Bytes()
	return o
}
