package retention_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/hospital"
)

// BenchmarkAcceptWhileDisposing measures how many messages 64 senders get accepted beside a disposal, as a share of what they
// get accepted before it and after it in the same run. With -benchtime=NNNx the month that goes has NNN messages.
func BenchmarkAcceptWhileDisposing(b *testing.B) {
	for _, engine := range []string{"SQLite", "PostgreSQL"} {
		b.Run(engine, func(b *testing.B) {
			if engine == "PostgreSQL" && os.Getenv(dbtest.Variable) == "" {
				b.Skip("no PostgreSQL")
			}
			address := dbtest.SQLite(b)
			if engine == "PostgreSQL" {
				address = dbtest.PostgreSQL(b)
			}
			c := newClock("2026-01-10")
			c.runs = time.Now()
			h := build(b, address, c, ninety())
			h.sleep = func(ctx context.Context, d time.Duration) error {
				select {
				case <-time.After(d):
				case <-ctx.Done():
				}
				return ctx.Err()
			}
			var next atomic.Int64
			knock := func() {
				n := int(next.Add(1))
				if _, err := h.doors["adt"].handler.Accept(context.Background(), sender, hospital.Standard(n)); err != nil {
					b.Error(err)
				}
			}
			flood := func(until func() bool) float64 {
				var wg sync.WaitGroup
				first, start := next.Load(), time.Now()
				for range 64 {
					wg.Go(func() {
						for !until() {
							knock()
						}
					})
				}
				wg.Wait()
				return float64(next.Load()-first) / time.Since(start).Seconds()
			}
			flood(func() bool { return next.Load() >= int64(b.N) })
			h.settled()
			c.set("2026-06-01")

			b.ResetTimer()
			const alone = 2 * time.Second
			span := func() func() bool {
				end := time.Now().Add(alone)
				return func() bool { return time.Now().After(end) }
			}
			before := flood(span())
			ended := make(chan struct{})
			var took time.Duration
			go func() {
				defer close(ended)
				start := time.Now()
				if p := h.run(); p.Error != "" || len(p.Certificates) != 1 {
					b.Errorf("the disposal: %+v", p)
				}
				took = time.Since(start)
			}()
			beside := flood(func() bool {
				select {
				case <-ended:
					return true
				default:
					return false
				}
			})
			after := flood(span())
			b.StopTimer()
			b.ReportMetric(beside/((before+after)/2), "of-accept-rate")
			b.ReportMetric(before, "accepted/s-before")
			b.ReportMetric(beside, "accepted/s-beside")
			b.ReportMetric(after, "accepted/s-after")
			b.ReportMetric(float64(b.N)/took.Seconds(), "disposed/s")
			fmt.Printf("%s: %d messages disposed of in %s\n", engine, b.N, took.Round(time.Millisecond))
		})
	}
}
