package engine_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/hospital"
)

// BenchmarkAccept is the durable rate without sockets: everything kept, one delivery a message, nothing delivered.
func BenchmarkAccept(b *testing.B) {
	for _, senders := range []int{1, 64} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			d := newDoor()
			startBench(b, channel(d, func(c *engine.Channel) { c.Admit.Duplicates = 24 * time.Hour },
				destination("lab", newWard(), func(d *engine.Destination) { d.Enabled = true; d.Sender = away{} })))
			flood(b, d, senders)
		})
	}
}

// BenchmarkThrough is the whole way: four channels' lines, every message settled before the clock stops.
func BenchmarkThrough(b *testing.B) {
	d := newDoor()
	var taken atomic.Int64
	h := startBench(b, channel(d, func(c *engine.Channel) { c.Admit.Duplicates = 24 * time.Hour },
		destination("lab", counter{&taken}, func(d *engine.Destination) { d.Window = 64 })))
	flood(b, d, 64)
	for taken.Load() < int64(b.N) {
		time.Sleep(time.Millisecond)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "settled/s")
	h()
}

type away struct{}

func (away) Send(ctx context.Context, _ []byte) (engine.Reply, error) {
	<-ctx.Done()
	return engine.Reply{}, ctx.Err()
}
func (away) Close() error { return nil }

type counter struct{ n *atomic.Int64 }

func (c counter) Send(context.Context, []byte) (engine.Reply, error) {
	c.n.Add(1)
	return engine.Reply{Taken: true, Code: "AA"}, nil
}
func (counter) Close() error { return nil }

func startBench(b *testing.B, channels []engine.Channel) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cfg := dbtest.Config(b, dbtest.SQLite(b))
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	d, err := db.Open(ctx, cfg)
	if err != nil {
		b.Fatal(err)
	}
	ring := openRing(b, b.TempDir())
	log, err := audit.New(ctx, audit.Config{DB: d, Keys: ring, Rand: rand.Reader})
	if err != nil {
		b.Fatal(err)
	}
	e, err := engine.New(ctx, engine.Config{DB: d, Keys: ring, Audit: log, Now: time.Now, Rand: rand.Reader, Log: cfg.Log,
		Metrics: metrics.NewSet(), Organisation: "bench", Channels: channels})
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	<-e.Ready()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
			d.Close()
			ring.Close()
		})
	}
	b.Cleanup(stop)
	return stop
}

func flood(b *testing.B, d *door, senders int) {
	var wg sync.WaitGroup
	var next atomic.Int64
	b.ResetTimer()
	for range senders {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > b.N {
					return
				}
				if _, err := d.send(string(hospital.Standard(i))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	b.StartTimer()
}
