//go:build interop

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

const each = 24 // messages

// keeper is a Handler that acknowledges and keeps.
type keeper struct {
	mu     sync.Mutex
	blocks [][]byte
	names  map[string]bool // of peers
}

func (k *keeper) Handle(_ context.Context, p *mllp.Peer, block []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.blocks = append(k.blocks, block)
	if k.names == nil {
		k.names = map[string]bool{}
	}
	k.names[p.Name] = true
	return fmt.Appendf(nil, "MSH|^~\\&|LAB|STMARY|ADM|STMARY|20260301||ACK|A%d|P|2.5\rMSA|AA|%s\r", len(k.blocks), controlID(block)), nil
}

func (k *keeper) kept() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([][]byte(nil), k.blocks...)
}

func controlID(message []byte) []byte {
	fields := bytes.SplitN(message, []byte("|"), 11)
	if len(fields) < 10 {
		return nil
	}
	return fields[9]
}

// serve runs our server until the test ends.
func serve(t *testing.T, s *mllp.Server) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// acknowledged says whether answer i accepts message i.
// acknowledged wants AA for each message, or CA where it asks for enhanced mode and the service answered.
func acknowledged(t *testing.T, messages, answers [][]byte) {
	t.Helper()
	if len(answers) != len(messages) {
		t.Fatalf("%d answers to %d messages", len(answers), len(messages))
	}
	for i := range messages {
		id := controlID(messages[i])
		enhanced := bytes.Contains(messages[i], []byte("|AL|NE|")) && bytes.Contains(answers[i], append([]byte("MSA|CA|"), id...))
		if want := append([]byte("MSA|AA|"), id...); !enhanced && !bytes.Contains(answers[i], want) {
			t.Errorf("answer %d lacks %s", i, want)
		}
	}
}

func same(t *testing.T, want, got [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d blocks arrived, %d were sent", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			at := 0
			for at < min(len(got[i]), len(want[i])) && got[i][at] == want[i][at] {
				at++
			}
			t.Errorf("block %d: %d bytes, want %d, the first difference at %d: %.40q, want %.40q", i, len(got[i]), len(want[i]), at, got[i][at:], want[i][at:])
		}
	}
}

func contents(s Sender, messages [][]byte) (want [][]byte) {
	for _, m := range messages {
		if s.Content != nil {
			m = s.Content(m)
		}
		want = append(want, m)
	}
	return want
}

func TestForeignSenders(t *testing.T) {
	for _, s := range Senders() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			k := &keeper{}
			addr := serve(t, &mllp.Server{Handler: k})
			messages := Messages("S", each, s.UTF8)
			answers, err := s.Send(t, addr, messages, nil)
			if err != nil {
				t.Fatal(err)
			}
			acknowledged(t, messages, answers)
			same(t, contents(s, messages), k.kept())
		})
	}
}

func TestForeignReceivers(t *testing.T) {
	for _, r := range Receivers() {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			running := r.Start(t, nil)
			messages := Messages("R", each, r.UTF8)
			var answers [][]byte
			c := &mllp.Client{Addr: running.Addr, AnswerTimeout: 10 * time.Second}
			for _, m := range messages {
				answer, err := c.Send(t.Context(), m)
				if err != nil {
					t.Fatal(err)
				}
				answers = append(answers, answer)
				if r.Once {
					c.Close()
					c = &mllp.Client{Addr: running.Addr, AnswerTimeout: 10 * time.Second}
				}
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			acknowledged(t, messages, answers)
			same(t, messages, running.Blocks(len(messages)))
		})
	}
}

// A receiver that answers the first message of a connection for ever must be found out, never believed.
func TestAnotherMessagesAnswerIsFoundOut(t *testing.T) {
	for _, r := range Receivers() {
		if !r.Once {
			continue
		}
		running := r.Start(t, nil)
		c := &mllp.Client{Addr: running.Addr, AnswerTimeout: 10 * time.Second}
		defer c.Close()
		for i, m := range Messages("T", 6, true) {
			_, err := c.Send(t.Context(), m)
			var se *mllp.SendError
			if i%2 == 0 && err != nil {
				t.Errorf("%s: message %d, the first of its connection: %v", r.Name, i, err)
			}
			if i%2 == 1 && (!errors.Is(err, mllp.ErrMismatch) || !errors.As(err, &se) || !se.Sent) {
				t.Errorf("%s: message %d, the second of its connection: %v", r.Name, i, err)
			}
		}
	}
}
