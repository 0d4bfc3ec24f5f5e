package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/hl7/mllp"
)

// receiving is a receiving system of the demo, in a process of its own.
type receiving struct {
	p       *program
	who     demoReceiver
	ledger  *ledger
	teller  teller
	awayFor time.Duration

	mu    sync.Mutex
	news  childNews
	after int                // how many it takes before it goes away; 0: it stays
	leave context.CancelFunc // of the Serve under way
}

// demoReceiver is the hidden command behind a receiver: it answers AA, writes down what it was given, and is down for a while
// if it was told to. It ends with its standard input.
func (p *program) demoReceiver(ctx context.Context, args []string) error {
	f := newFlags("demo-receiver")
	dir, name, listen := f.String("dir", "", ""), f.String("name", "", ""), f.String("listen", "", "")
	after, awayFor := f.Int("away-after", 0, ""), f.Duration("away-for", 0, "")
	if err := f.noArguments(args); err != nil {
		return err
	}
	r := &receiving{p: p, after: *after, awayFor: *awayFor, teller: teller{p: p}}
	for _, known := range demoReceivers() {
		if known.name == *name {
			r.who = known
		}
	}
	if r.who.name == "" {
		return usage("there is no receiver "+quoted(*name), "demo")
	}
	var err error
	if r.ledger, err = openLedger(*dir, *name); err != nil {
		return err
	}
	defer r.ledger.close()
	creds, err := mllp.LoadTLS(demoTLS(*dir, *name, p.now))
	if err != nil {
		return err
	}
	conf, err := creds.Server()
	if err != nil {
		return err
	}
	ctx, cancel := p.whileStdin(ctx)
	defer cancel()
	for ctx.Err() == nil {
		ln, err := net.Listen("tcp", *listen)
		if err != nil {
			return fmt.Errorf("receiver %s: %w", *name, err)
		}
		serving, leave := context.WithCancel(ctx)
		r.mu.Lock()
		r.leave = leave
		r.news.Away, r.news.Ready = false, true
		r.teller.tell(r.news, true)
		r.mu.Unlock()
		err = (&mllp.Server{Handler: r, TLS: conf, DrainTimeout: 5 * time.Second}).Serve(serving, ln)
		leave()
		if err != nil {
			return err
		}
		if ctx.Err() == nil {
			r.away(ctx)
		}
	}
	return nil
}

// demoTLS names the files of one of the demo's parties.
func demoTLS(dir, name string, now func() time.Time) mllp.TLSFiles {
	file := func(name string) string { return filepath.Join(dir, "certs", name) }
	return mllp.TLSFiles{Certificate: file(name + ".pem"), Key: file(name + ".key"), Peers: file("ca.pem"), Now: now}
}

// away is the time in which nobody listens.
func (r *receiving) away(ctx context.Context) {
	r.mu.Lock()
	r.news.Away = true
	r.teller.tell(r.news, true)
	r.mu.Unlock()
	t := time.NewTimer(r.awayFor)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Handle writes a message down before it answers: what is answered AA is in the ledger.
func (r *receiving) Handle(_ context.Context, _ *mllp.Peer, block []byte) ([]byte, error) {
	m, err := hl7.Parse(block)
	if err != nil {
		return nil, errors.New("not a message")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	code, event, _ := m.Type()
	typ := code + "^" + event
	e := ledgerEntry{Time: r.p.now(), What: ledgerTaken, Type: typ, ID: m.ControlID(), SHA256: hash(block)}
	answer := hl7.Ack{Code: hl7.AA, Time: e.Time}
	if r.who.refuses(typ) {
		e.What = ledgerRefused
		answer.Code, answer.Text = hl7.AE, "this event is not supported here"
	}
	if err := r.ledger.write(e); err != nil {
		return nil, err
	}
	if e.What == ledgerTaken {
		r.news.Taken++
	} else {
		r.news.Refused++
	}
	if r.after > 0 && r.news.Taken >= r.after {
		r.after = 0
		r.leave() // this message is answered still: the server drains
	}
	r.teller.tell(r.news, false)
	return hl7.NewAck(m, answer), nil
}
