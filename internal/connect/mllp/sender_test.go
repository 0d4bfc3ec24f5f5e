package mllp_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lazaret-health/lazaret/hl7"
	wire "github.com/lazaret-health/lazaret/hl7/mllp"
	"github.com/lazaret-health/lazaret/internal/connect/mllp"
	"github.com/lazaret-health/lazaret/internal/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver answers each block with what answer returns, over a real socket.
func receiver(t *testing.T, answer func(block []byte) []byte) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &wire.Server{Handler: wire.HandlerFunc(func(_ context.Context, _ *wire.Peer, block []byte) ([]byte, error) { return answer(block), nil })}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return ln.Addr().String()
}

func sender(t *testing.T, address string) *mllp.Sender {
	t.Helper()
	s, err := mllp.NewSender(mllp.SenderConfig{Address: address, ConnectTimeout: time.Second, AnswerTimeout: 20 * time.Second, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// message is an invented admission that asks for acknowledgements as MSH-15 and MSH-16 say.
func message(accept, application string) []byte {
	return []byte("MSH|^~\\&|A|B|C|D|20260301||ADT^A01|C1|P|2.5.1|||" + accept + "|" + application + "\rPID|1||P1\r")
}

func TestVerdicts(t *testing.T) {
	ack := func(code hl7.AckCode, errs ...hl7.AckError) func([]byte) []byte {
		return func(block []byte) []byte {
			m, err := hl7.Parse(block)
			if err != nil {
				return nil
			}
			return hl7.NewAck(m, hl7.Ack{Code: code, ControlID: "A1", Errors: errs, Text: "words"})
		}
	}
	nothing := func([]byte) []byte { return nil }
	for _, c := range []struct {
		name   string
		send   []byte
		answer func([]byte) []byte
		want   engine.Reply
	}{
		{"AA takes the message", message("", ""), ack(hl7.AA), engine.Reply{Taken: true, Code: "AA"}},
		{"CA takes the message", message("AL", "NE"), ack(hl7.CA), engine.Reply{Taken: true, Code: "CA"}},
		{"AE refuses it, with its code", message("", ""), ack(hl7.AE, hl7.AckError{Code: "103", Text: "no"}), engine.Reply{Code: "AE 103"}},
		{"AR refuses it", message("", ""), ack(hl7.AR, hl7.AckError{Code: "207"}), engine.Reply{Code: "AR 207"}},
		{"an answer that was not asked for counts all the same", message("NE", "NE"), ack(hl7.AE, hl7.AckError{Code: "101"}), engine.Reply{Code: "AE 101"}},
		{"silence takes a message that asks for no answer", message("NE", "NE"), nothing, engine.Reply{Taken: true, Code: "no answer asked for"}},
		{"silence takes a message that asks for answers to errors", message("ER", "NE"), nothing, engine.Reply{Taken: true, Code: "no answer asked for"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := sender(t, receiver(t, c.answer)).Send(context.Background(), c.send)
			got.Text = ""
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestWhatHasNoVerdict(t *testing.T) {
	t.Run("silence to a message that asks for an answer is an error after which nobody knows", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		_, err := sender(t, receiver(t, func([]byte) []byte { return nil })).Send(ctx, message("AL", "NE"))
		var not *engine.NotSent
		if err == nil || errors.As(err, &not) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nobody listens: nothing was sent, whatever the message asks for", func(t *testing.T) {
		t.Parallel()
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		for _, m := range [][]byte{message("", ""), message("NE", "NE")} {
			_, err = sender(t, ln.Addr().String()).Send(context.Background(), m)
			var not *engine.NotSent
			if !errors.As(err, &not) {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("a block that MLLP cannot carry is never sent", func(t *testing.T) {
		t.Parallel()
		m := append(message("", ""), "ZZZ|\x1c|\r"...)
		_, err := sender(t, receiver(t, func([]byte) []byte { return nil })).Send(context.Background(), m)
		var never *engine.Unsendable
		if !errors.As(err, &never) || strings.Contains(err.Error(), "P1") {
			t.Errorf("got %v", err)
		}
	})
}
