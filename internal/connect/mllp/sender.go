package mllp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/hl7/mllp"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// writeTimeout bounds the writing of one block. A receiver that does not read for so long is taken for gone.
const writeTimeout = 30 * time.Second

// SenderConfig is what a Sender needs. Address, Now and Log are required.
type SenderConfig struct {
	Address        string // HOST:PORT
	TLS            *TLS   // nil: plain
	ConnectTimeout time.Duration
	AnswerTimeout  time.Duration
	Now            func() time.Time
	Log            *slog.Logger
}

// A Sender sends to one receiver over one connection, which it keeps.
type Sender struct{ client *mllp.Client }

// NewSender checks the settings and reads the TLS files. It dials nothing yet.
func NewSender(c SenderConfig) (*Sender, error) {
	switch {
	case c.Address == "":
		return nil, errors.New("mllp sender: Address must be given")
	case c.Now == nil || c.Log == nil:
		return nil, errors.New("mllp sender: Now and Log must be given")
	}
	client := &mllp.Client{
		Addr: c.Address, ConnectTimeout: c.ConnectTimeout, WriteTimeout: writeTimeout, AnswerTimeout: c.AnswerTimeout,
		// The engine spaces the attempts itself and knows why; two back-offs would add up.
		Backoff: mllp.Backoff{Min: time.Millisecond, Max: time.Millisecond},
	}
	if c.TLS != nil {
		creds, err := c.TLS.load(c.Now, c.Log.With("receiver", c.Address))
		if err != nil {
			return nil, err
		}
		client.TLSFrom = func() (*tls.Config, error) {
			conf, err := creds.Client()
			if err != nil {
				return nil, err
			}
			conf.MinVersion, conf.ServerName = max(conf.MinVersion, c.TLS.MinVersion), c.TLS.ServerName
			return conf, nil
		}
	}
	return &Sender{client: client}, nil
}

// Timeout is the longest that one Send takes with these settings.
func (c SenderConfig) Timeout() time.Duration {
	return c.ConnectTimeout + writeTimeout + c.AnswerTimeout
}

// silence is how long a message that asks for no answer is given to be answered all the same, as most receivers do.
const silence = 3 * time.Second

// Send sends a block and judges the answer. Where the message itself asks for none (MSH-15 NE, or ER and all is well; HL7
// v2.5.1 section 2.9.3), silence after it was written means that it was taken.
func (s *Sender) Send(ctx context.Context, block []byte) (engine.Reply, error) {
	waiting := ctx
	mayBeSilent := asksForSilence(block)
	if mayBeSilent {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeoutCause(ctx, silence, errSilent)
		defer cancel()
	}
	answer, err := s.client.Send(waiting, block)
	if err != nil {
		var content *mllp.ContentError
		if errors.As(err, &content) {
			return engine.Reply{}, &engine.Unsendable{Err: err}
		}
		var se *mllp.SendError
		if errors.As(err, &se) && !se.Sent {
			return engine.Reply{}, &engine.NotSent{Err: err}
		}
		if mayBeSilent && ctx.Err() == nil && errors.Is(err, errSilent) && se != nil && se.Op == "answer" {
			return engine.Reply{Taken: true, Code: "no answer asked for"}, nil
		}
		return engine.Reply{}, err
	}
	return judge(answer)
}

var errSilent = errors.New("no answer came, and the message asks for none")

// asksForSilence says whether a receiver that follows the standard may leave a message that it took without an answer.
func asksForSilence(block []byte) bool {
	m, err := hl7.Parse(block)
	if err != nil {
		return false
	}
	accept, application := hl7.AckConditions(m)
	never := func(s string) bool { return s == "NE" || s == "ER" }
	return never(accept) && (never(application) || application == "") || accept == "" && never(application)
}

// judge reads an answer that belongs to what was sent.
func judge(answer []byte) (engine.Reply, error) {
	ack, err := hl7.ParseAck(answer)
	if err != nil {
		return engine.Reply{}, fmt.Errorf("mllp sender: the receiver's answer: %w", err)
	}
	code := string(ack.Code)
	if isCode(ack.ErrorCode) {
		code += " " + ack.ErrorCode
	}
	return engine.Reply{Taken: ack.Code.Accepted(), Code: code, Text: ack.Text}, nil
}

// isCode says whether ERR-3 holds what it is for, a code of table 0357. Anything else is the receiver's text, which may hold
// what the message held, and codes are stored in the clear.
func isCode(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(s) == 3
}

// Close ends the connection, and a Send that is under way.
func (s *Sender) Close() error { return s.client.Close() }
