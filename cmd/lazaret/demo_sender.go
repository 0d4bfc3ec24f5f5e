package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/hl7/mllp"
	"github.com/lazaret-health/lazaret/internal/hospital"
)

// demoStrays is how many orders the hospital sends to the ADT channel by mistake: it takes none, and says so.
const demoStrays = 3

// hospitalSending is the demo's hospital, in a process of its own.
type hospitalSending struct {
	p      *program
	ledger *ledger
	teller teller
	tls    *tls.Config

	mu   sync.Mutex
	news childNews
}

// demoSender is the hidden command behind the hospital: two systems, each with one connection, on which the next message is
// sent only after the answer to the one before. It ends after --count messages, or with its standard input.
func (p *program) demoSender(ctx context.Context, args []string) error {
	f := newFlags("demo-sender")
	dir, adt, oru := f.String("dir", "", ""), f.String("adt", "", ""), f.String("oru", "", "")
	total, perSecond, seed := f.Int("count", 0, ""), f.Float64("rate", 0, ""), f.Uint64("seed", 0, "")
	if err := f.noArguments(args); err != nil {
		return err
	}
	h, err := hospital.New(hospital.Config{Seed: *seed, Start: p.now().Add(-24 * time.Hour), Facility: "STMARY", Patients: 60})
	if err != nil {
		return err
	}
	s := &hospitalSending{p: p, teller: teller{p: p}}
	if s.ledger, err = openLedger(*dir, "hospital"); err != nil {
		return err
	}
	defer s.ledger.close()
	creds, err := mllp.LoadTLS(demoTLS(*dir, "hospital", p.now))
	if err != nil {
		return err
	}
	if s.tls, err = creds.Client(); err != nil {
		return err
	}
	ctx, cancel := p.whileStdin(ctx)
	defer cancel()
	feeds := map[string]chan hospital.Message{hospital.FeedADT: make(chan hospital.Message), hospital.FeedORU: make(chan hospital.Message)}
	var wg sync.WaitGroup
	var failed error
	for feed, address := range map[string]string{hospital.FeedADT: *adt, hospital.FeedORU: *oru} {
		wg.Go(func() {
			if err := s.feed(ctx, feed, address, feeds[feed]); err != nil && ctx.Err() == nil {
				s.mu.Lock()
				failed = errors.Join(failed, fmt.Errorf("hospital, %s: %w", feed, err))
				s.mu.Unlock()
				cancel()
			}
		})
	}
	s.happen(ctx, h, feeds, *total, *perSecond)
	for _, c := range feeds {
		close(c)
	}
	wg.Wait()
	s.teller.tell(s.news, true)
	return failed
}

// happen lets things happen in the hospital and hands each message to its system.
func (s *hospitalSending) happen(ctx context.Context, h *hospital.Hospital, feeds map[string]chan hospital.Message, total int, perSecond float64) {
	limit := rate.NewLimiter(rate.Inf, 1)
	if perSecond > 0 {
		limit = rate.NewLimiter(rate.Limit(perSecond), 1)
	}
	strays := demoStrays
	for n := 0; total == 0 || n < total; {
		m := h.Next()
		feed := m.Feed
		if feed == hospital.FeedORM {
			if strays == 0 {
				continue
			}
			strays--
			feed = hospital.FeedADT
		}
		if limit.Wait(ctx) != nil {
			return
		}
		select {
		case feeds[feed] <- m:
			n++
		case <-ctx.Done():
			return
		}
	}
}

// feed sends one system's messages. Like a real one it sends a message again until it has an answer.
func (s *hospitalSending) feed(ctx context.Context, feed, address string, messages <-chan hospital.Message) error {
	c := &mllp.Client{Addr: address, TLS: s.tls, Backoff: mllp.Backoff{Min: 100 * time.Millisecond, Max: time.Second}}
	defer c.Close()
	// What is under way when the hospital is told to stop gets its answer still, if it comes soon.
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(5*time.Second, cut) })()
	for m := range messages {
		e := ledgerEntry{Time: s.p.now(), What: ledgerSent, Feed: feed, Type: m.Type + "^" + m.Event, ID: m.ControlID, SHA256: hash(m.Bytes), Patients: m.Patients}
		if toLaboratory(e.Type) {
			e.Laboratory = hash(forLaboratory(m.Bytes))
		}
		if err := s.ledger.write(e); err != nil {
			return err
		}
		ack, err := sendUntilAnswered(sending, c, m.Bytes)
		if err != nil {
			return err
		}
		answer := ledgerEntry{Time: s.p.now(), What: ledgerAccepted, ID: m.ControlID}
		if !ack.Code.Accepted() {
			answer.What = ledgerRefused
		}
		if err := s.ledger.write(answer); err != nil {
			return err
		}
		s.mu.Lock()
		s.news.Sent++
		if ack.Code.Accepted() {
			s.news.Accepted++
		} else {
			s.news.Refused++
		}
		s.teller.tell(s.news, false)
		s.mu.Unlock()
	}
	return nil
}

// sendUntilAnswered ends with an answer to this message, or with ctx.
func sendUntilAnswered(ctx context.Context, c *mllp.Client, block []byte) (hl7.AckResult, error) {
	for {
		answer, err := c.Send(ctx, block)
		if err == nil {
			var ack hl7.AckResult
			if ack, err = hl7.ParseAck(answer); err == nil {
				return ack, nil
			}
		}
		if ctx.Err() != nil {
			return hl7.AckResult{}, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
