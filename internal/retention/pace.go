package retention

import (
	"context"
	"time"
)

// A pace keeps disposal out of the engine's way: batches are as big as fit into a commit of about maxBatchTime, and after each it
// rests for rest times as long as it took. That is a seventh at most, on an idle machine; beside a busy engine most of a batch's
// time is its own wait for the commit that it shares.
type pace struct {
	now   func() time.Time
	sleep func(context.Context, time.Duration) error
	limit int
}

const (
	firstLimit   = 200
	leastLimit   = 50
	mostLimit    = 1000
	maxBatchTime = 30 * time.Millisecond
	rest         = 6
)

func newPace(now func() time.Time, sleep func(context.Context, time.Duration) error) *pace {
	return &pace{now: now, sleep: sleep, limit: firstLimit}
}

// batch runs one batch and rests.
func (p *pace) batch(ctx context.Context, run func(limit int) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	start := p.now()
	if err := run(p.limit); err != nil {
		return err
	}
	took := p.now().Sub(start)
	switch {
	case took > maxBatchTime:
		p.limit = max(p.limit/2, leastLimit)
	case took < maxBatchTime/2:
		p.limit = min(p.limit*3/2, mostLimit)
	}
	return p.sleep(ctx, rest*took)
}

// wait rests after something that took so long.
func (p *pace) wait(ctx context.Context, took time.Duration) error { return p.sleep(ctx, rest*took) }
