package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/hl7/mllp"
	"github.com/lazaret-health/lazaret/internal/hospital"
)

// A loadReport is what a process of senders has seen.
type loadReport struct {
	Accepted int     `json:"accepted"`
	Refused  int     `json:"refused"`
	Seconds  float64 `json:"seconds"`
	P50      int64   `json:"p50"` // microseconds until the answer
	P99      int64   `json:"p99"`
	Failed   string  `json:"failed,omitempty"`
}

// Rate is messages a second.
func (r loadReport) Rate() float64 { return float64(r.Accepted) / r.Seconds }

const benchWarm = time.Second // not counted: keys are made, files grow, caches fill

// load lets a process of its own send for the run's time, spread over the addresses, and returns what it has seen.
func (b *bencher) load(ctx context.Context, senders int, addresses ...string) (r loadReport, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	b.site.phase++
	c := exec.CommandContext(ctx, self, "bench-load", "--do", "send", "--to", strings.Join(addresses, ","), "--senders", fmt.Sprint(senders),
		"--for", fmt.Sprint(time.Duration(b.seconds)*time.Second), "--phase", fmt.Sprint(b.site.phase))
	c.Stderr = b.p.stderr
	stdin, err := c.StdinPipe() // open while we live
	if err != nil {
		return r, err
	}
	defer stdin.Close()
	out, err := c.Output()
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, err
	}
	switch {
	case r.Failed != "":
		return r, errors.New(r.Failed)
	case r.Refused > 0 || r.Accepted == 0:
		return r, fmt.Errorf("%d accepted, %d refused", r.Accepted, r.Refused)
	}
	return r, nil
}

// benchLoad is the hidden command of the processes around the service under test: senders, receivers, and the bare server.
func (p *program) benchLoad(ctx context.Context, args []string) error {
	f := newFlags("bench-load")
	do, to, listen := f.String("do", "", ""), f.String("to", "", ""), f.String("listen", "", "")
	senders, long, phase := f.Int("senders", 1, ""), f.Duration("for", time.Second, ""), f.Int("phase", 0, "")
	if err := f.noArguments(args); err != nil {
		return err
	}
	ctx, cancel := p.whileStdin(ctx)
	defer cancel()
	switch *do {
	case "send":
		return p.json(sendLoad(ctx, strings.Split(*to, ","), *senders, *long, *phase))
	case "receive":
		return p.receiveLoad(ctx, strings.Split(*listen, ","))
	}
	return usage("--do is send or receive", "bench")
}

// phaseNumbers is how many messages a phase may send: numbers repeat after 100 million, and a message that comes again is a
// duplicate, which costs less than a new one. It is enough for ten minutes at 20,000 a second.
const phaseNumbers = 12_000_000

// sendLoad sends messages, each of them another one, from each sender the next as soon as the one before is answered.
func sendLoad(ctx context.Context, addresses []string, senders int, long time.Duration, phase int) (r loadReport) {
	ctx, cancel := context.WithTimeout(ctx, benchWarm+long)
	defer cancel()
	begin := time.Now().Add(benchWarm)
	var mu sync.Mutex
	var all []int64
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			c := &mllp.Client{Addr: addresses[s%len(addresses)], AnyAnswer: true}
			defer c.Close()
			times := make([]int64, 0, 1<<16)
			refused := 0
			var failed string
			for n := 0; ctx.Err() == nil; n++ {
				start := time.Now()
				answer, err := c.Send(ctx, hospital.Standard(phase*phaseNumbers+n*senders+s))
				switch {
				case err != nil && ctx.Err() != nil:
				case err != nil:
					failed = err.Error()
					cancel()
				case !bytes.Contains(answer, []byte("MSA|AA|")) && !bytes.Contains(answer, []byte("MSA|CA|")):
					refused++
				case start.After(begin):
					times = append(times, time.Since(start).Microseconds())
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, times...)
			r.Refused += refused
			if failed != "" {
				r.Failed = failed
			}
		})
	}
	wg.Wait()
	r.Accepted, r.Seconds = len(all), max(time.Since(begin).Seconds(), 1e-3)
	if slices.Sort(all); len(all) > 0 {
		r.P50, r.P99 = all[len(all)/2], all[len(all)*99/100]
	}
	return r
}

// receiveLoad answers AA and keeps nothing: the bare server, and the receivers.
func (p *program) receiveLoad(ctx context.Context, listen []string) error {
	var wg sync.WaitGroup
	server := &mllp.Server{Handler: mllp.HandlerFunc(acceptAll), MaxConns: 4096, MaxConnsPerPeer: 4096, DrainTimeout: time.Second}
	for _, address := range listen {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		wg.Go(func() { server.Serve(ctx, ln) })
	}
	(&teller{p: p}).tell(childNews{Ready: true}, true)
	wg.Wait()
	return nil
}

// acceptAll answers with the least that acknowledges: MSA-2 is found by counting separators.
func acceptAll(_ context.Context, _ *mllp.Peer, block []byte) ([]byte, error) {
	head, _, _ := bytes.Cut(block, []byte{'\r'})
	if len(head) < 4 {
		return nil, errors.New("not a message")
	}
	fields := bytes.SplitN(head, head[3:4], 11)
	if len(fields) < 10 {
		return hl7.NewAckRaw(block, hl7.Ack{Code: hl7.AA}), nil
	}
	answer := make([]byte, 0, 96)
	answer = append(answer, "MSH|^~\\&|||||||ACK|"...)
	answer = append(answer, fields[9]...)
	answer = append(answer, "|P|2.5.1\rMSA|AA|"...)
	answer = append(answer, fields[9]...)
	return append(answer, '\r'), nil
}
