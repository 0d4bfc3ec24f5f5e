package mllp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

// BenchmarkEcho is the limit beside which durable receiving is stated: the server does nothing but answer. One block
// of 1.25 KB under way on each connection, over loopback TCP, sender and receiver on the same machine.
func BenchmarkEcho(b *testing.B) {
	block := append(message("1"), bytes.Repeat([]byte("NTE|1||invented\r"), 70)...)[:1250]
	answer := ack("1")
	handler := mllp.HandlerFunc(func(context.Context, *mllp.Peer, []byte) ([]byte, error) { return answer, nil })
	for _, conns := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) { echo(b, &mllp.Server{Handler: handler}, nil, conns, block) })
	}
	b.Run("tls/conns=64", func(b *testing.B) {
		ca := newAuthority(b, "Hospital CA")
		s := &mllp.Server{Handler: handler, TLS: &tls.Config{Certificates: []tls.Certificate{ca.server()}}}
		echo(b, s, &tls.Config{RootCAs: ca.pool()}, 64, block)
	})
}

func echo(b *testing.B, s *mllp.Server, conf *tls.Config, conns int, block []byte) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- s.Serve(ctx, ln) }()
	clients := make([]*mllp.Client, conns)
	for i := range clients {
		clients[i] = &mllp.Client{Addr: ln.Addr().String(), TLS: conf}
		if _, err := clients[i].Send(ctx, block); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for n := i; n < b.N; n += conns {
				if _, err := c.Send(ctx, block); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	for _, c := range clients {
		c.Close()
	}
	stop()
	if err := <-served; err != nil {
		b.Error(err)
	}
}

// BenchmarkReader is the cost of framing alone.
func BenchmarkReader(b *testing.B) {
	stream := bytes.Repeat([]byte(frame(bytes.Repeat([]byte("x"), 1250))), 100)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		r := mllp.NewReader(bytes.NewReader(stream), 0)
		for range 100 {
			if _, err := r.Next(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
