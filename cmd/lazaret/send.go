package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/connect/mllp"
	"github.com/lazaret-health/lazaret/internal/engine"
)

const sendHelp = `Send HL7 messages over MLLP, one after another, and show the answers.

Usage: lazaret send FILE... --to HOST:PORT [OPTION...]

FILE holds a message, several one after another, a batch (FHS, BHS) or an MLLP stream; "-" is standard input. In a file
without any CR behind a segment, LF and CRLF are sent as CR, as HL7 wants it; --as-is sends the bytes as they are.

    --to HOST:PORT       where to
    --tls                speak TLS; --cert, --key and --ca say so too
    --cert FILE          mutual TLS: our certificate (PEM) ...
    --key FILE           ... and its private key
    --ca FILE            the authorities one of which must have signed the receiver's certificate; else the system's
    --server-name NAME   the name that the receiver's certificate must bear; else HOST
    --plaintext REASON   without TLS to another machine: say why that is acceptable
    --count N            send N messages, starting again at the first file; repeats get a control ID of their own
    --rate N             at most N messages a second, over all connections
    --connections N      this many at once; order holds only within one (default 1)
    --timeout TIME       how long to wait for an answer (default 30s)
    --as-is              change no line end
    --quiet              show only what was not accepted
    --json               the answers as JSON

The exit code is 0 when every message was accepted (AA, CA), else 1.

Examples:
    lazaret send adt.hl7 --to localhost:2575
    lazaret send *.hl7 --to lis.example:2575 --cert me.pem --key me.key --ca lis-ca.pem
    lazaret send adt.hl7 --to localhost:2575 --count 10000 --connections 8 --quiet
`

// sendOptions are the command line of send.
type sendOptions struct {
	to, cert, key, ca, serverName, plaintext string
	tls, asIs, quiet, json                   bool
	count, connections                       int
	rate                                     float64
	timeout                                  time.Duration
}

// An answered message is one line of what send shows.
type answered struct {
	File      string `json:"file"`
	ControlID string `json:"control_id,omitempty"`
	Code      string `json:"code,omitempty"`  // MSA-1; "" when there was no answer
	Error     string `json:"error,omitempty"` // table 0357
	Text      string `json:"text,omitempty"`  // the receiver's words, or why there is no answer
	Maybe     bool   `json:"may_have_arrived,omitempty"`
	Micros    int64  `json:"microseconds"`
}

func (p *program) send(ctx context.Context, args []string) error {
	o, files, err := sendArguments(args)
	if err != nil {
		return err
	}
	messages, err := p.readMessages(files, o.asIs)
	if err != nil {
		return err
	}
	if o.count == 0 {
		o.count = len(messages)
	}
	s := &sending{p: p, o: o, messages: messages}
	for range min(o.connections, o.count) {
		sender, err := mllp.NewSender(o.sender(p))
		if err != nil {
			return err
		}
		defer sender.Close()
		s.senders = append(s.senders, sender)
	}
	return s.run(ctx)
}

func sendArguments(args []string) (o sendOptions, files []string, err error) {
	f := newFlags("send")
	for name, v := range map[string]*string{"to": &o.to, "cert": &o.cert, "key": &o.key, "ca": &o.ca, "server-name": &o.serverName, "plaintext": &o.plaintext} {
		f.StringVar(v, name, "", "")
	}
	for name, v := range map[string]*bool{"tls": &o.tls, "as-is": &o.asIs, "quiet": &o.quiet, "json": &o.json} {
		f.BoolVar(v, name, false, "")
	}
	f.IntVar(&o.count, "count", 0, "")
	f.IntVar(&o.connections, "connections", 1, "")
	f.Float64Var(&o.rate, "rate", 0, "")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "")
	if files, err = f.parse(args); err != nil {
		return o, nil, err
	}
	host, _, split := net.SplitHostPort(o.to)
	o.tls = o.tls || o.cert != "" || o.key != "" || o.ca != ""
	switch {
	case o.to == "":
		err = usage("--to HOST:PORT is not given", "send")
	case split != nil:
		err = usage("--to "+quoted(o.to)+" is not HOST:PORT", "send")
	case len(files) == 0:
		err = usage("no file is given; - is standard input", "send")
	case (o.cert == "") != (o.key == ""):
		err = usage("--cert and --key belong together", "send")
	case o.count < 0 || o.connections < 1 || o.connections > 4096 || o.rate < 0 || o.timeout <= 0:
		err = usage("--count, --connections, --rate and --timeout take numbers above zero", "send")
	case !o.tls && o.plaintext == "" && !isLoopback(host):
		err = usage(o.to+" is another machine, and without TLS everybody on the way could read the messages: use --tls, or say why that is acceptable with --plaintext REASON", "send")
	}
	return o, files, err
}

// isLoopback says whether a host is this machine for certain. A name other than localhost is not: it may mean anything.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// sender is how a connection is made: as the engine's own, so that both judge an answer, or its absence, alike.
func (o *sendOptions) sender(p *program) mllp.SenderConfig {
	c := mllp.SenderConfig{Address: o.to, ConnectTimeout: o.timeout, AnswerTimeout: o.timeout, Now: p.now, Log: slog.New(slog.DiscardHandler)}
	if o.tls {
		c.TLS = &mllp.TLS{Certificate: o.cert, Key: o.key, Peers: o.ca, ServerName: o.serverName}
	}
	return c
}

// sending is one run of send.
type sending struct {
	p        *program
	o        sendOptions
	messages []outgoing
	senders  []*mllp.Sender // a connection each
	live     live

	mu       sync.Mutex
	next     int
	answers  []answered // kept for --json only
	accepted int
	refused  int
	failed   int
	lost     error // why a connection was given up: the messages after it were not sent
}

func (s *sending) run(ctx context.Context) error {
	s.live = live{p: s.p}
	limit := rate.NewLimiter(rate.Inf, 1)
	if s.o.rate > 0 {
		limit = rate.NewLimiter(rate.Limit(s.o.rate), 1)
	}
	start := s.p.now()
	var wg sync.WaitGroup
	for _, sender := range s.senders {
		wg.Go(func() { s.connection(ctx, sender, limit) })
	}
	wg.Wait()
	took := s.p.now().Sub(start)
	unsent := s.o.count - s.accepted - s.refused - s.failed
	if s.o.json {
		if err := s.p.json(struct {
			Sent     int        `json:"sent"`
			Accepted int        `json:"accepted"`
			Refused  int        `json:"refused"`
			Failed   int        `json:"failed"`
			Unsent   int        `json:"not_sent"`
			Seconds  float64    `json:"seconds"`
			Answers  []answered `json:"answers"`
		}{s.o.count - unsent, s.accepted, s.refused, s.failed, unsent, took.Seconds(), s.answers}); err != nil {
			return err
		}
	} else if s.o.count > 1 {
		s.p.printf("%s accepted, %s refused, %s without an answer, %s not sent, in %s (%.0f/s)\n", thousands(int64(s.accepted)),
			thousands(int64(s.refused)), thousands(int64(s.failed)), thousands(int64(unsent)), since(took), float64(s.accepted+s.refused)/max(took.Seconds(), 1e-6))
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.accepted < s.o.count:
		return errFound
	}
	return nil
}

// connection sends what is next until nothing is left. After a message without an answer it stops: order matters to the
// receiver, and whether to send that message again is the user's decision.
func (s *sending) connection(ctx context.Context, sender *mllp.Sender, limit *rate.Limiter) {
	for {
		m, ok := s.take()
		if !ok || limit.Wait(ctx) != nil {
			return
		}
		begun := s.p.now()
		reply, err := sender.Send(ctx, m.block)
		one := answered{File: m.file, ControlID: m.controlID, Text: reply.Text, Micros: s.p.now().Sub(begun).Microseconds()}
		if one.Code, one.Error, _ = strings.Cut(reply.Code, " "); err == nil && !hl7.AckCode(one.Code).Valid() {
			one.Code, one.Error, one.Text = "", "", reply.Code // the message asks for no answer, and got none
		}
		var never *engine.Unsendable
		var notSent *engine.NotSent
		if err != nil {
			one.Text, one.Maybe = err.Error(), !errors.As(err, &never) && !errors.As(err, &notSent)
		}
		s.done(one, reply.Taken, err)
		if err != nil && never == nil {
			return
		}
	}
}

// take gives the next message. From the second round on it gets a control ID of its own, or it would be a duplicate.
func (s *sending) take() (outgoing, bool) {
	s.mu.Lock()
	i := s.next
	s.next++
	stop := i >= s.o.count || s.lost != nil
	s.mu.Unlock()
	if stop {
		return outgoing{}, false
	}
	m := s.messages[i%len(s.messages)]
	if round := i / len(s.messages); round > 0 {
		m = m.renamed(fmt.Sprintf("-%d", round+1))
	}
	return m, true
}

func (s *sending) done(one answered, accepted bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		s.failed++
		var never *engine.Unsendable // about this message only; the next may go
		if !errors.As(err, &never) {
			s.lost = cmp.Or(s.lost, err)
		}
	case accepted:
		s.accepted++
	default:
		s.refused++
	}
	if s.o.json {
		s.answers = append(s.answers, one)
	} else if !accepted || !s.o.quiet {
		s.p.print(one.line())
	}
	if s.o.count > 1 && (s.o.quiet || s.o.json) {
		n := int64(s.accepted + s.refused + s.failed)
		text := fmt.Sprintf("%s of %s answered", thousands(n), thousands(int64(s.o.count)))
		if n%64 == 0 || n == int64(s.o.count) {
			s.live.draw([]string{bar(n, int64(s.o.count), 30) + " " + text}, text)
		}
	}
}

// line is CODE [ERROR] CONTROLID FILE [TEXT].
func (a answered) line() string {
	code := strings.TrimSpace(cmp.Or(a.Code, "--") + " " + a.Error)
	text := fmt.Sprintf("%-7s %-20s %s", code, cmp.Or(a.ControlID, "-"), a.File)
	if a.Text != "" {
		text += ": " + a.Text
	}
	if a.Maybe && !strings.Contains(a.Text, "may have arrived") {
		text += " (it may have arrived)"
	}
	return clean(text) + "\n"
}
