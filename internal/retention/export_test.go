package retention

import "context"

// Scheduled is the daily run, without the wait for its time.
func (k *Keeper) Scheduled(ctx context.Context) error {
	return k.scheduled(ctx, Actor{Program: "retention schedule"})
}

// Unfinished is what a start does first.
func (k *Keeper) Unfinished(ctx context.Context) error {
	return k.unfinished(ctx, Actor{Program: "retention schedule"})
}
