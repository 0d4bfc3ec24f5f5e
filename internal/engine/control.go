package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
)

// A ChannelStatus is what a channel does now.
type ChannelStatus struct {
	Name         string              `json:"name"`
	Description  string              `json:"description,omitempty"`
	Enabled      bool                `json:"enabled"`
	State        string              `json:"state"`   // listening, stopped, or why it cannot listen
	Address      string              `json:"address"` // where its source listens
	Revision     int64               `json:"revision"`
	Destinations []DestinationStatus `json:"destinations"`
}

// A DestinationStatus is what a destination's queue does now.
type DestinationStatus struct {
	Name    string    `json:"name"`
	Enabled bool      `json:"enabled"`
	State   string    `json:"state"`   // idle, delivers, paused, held: why, waits for the next attempt, ...
	Waiting int64     `json:"waiting"` // deliveries that are not settled
	Oldest  time.Time `json:"oldest,omitzero"`
}

const oldestWaiting = `SELECT m.accepted_at FROM delivery d JOIN message m ON m.number = d.message
	WHERE d.queue = $1 AND d.number >= $2 AND d.state <= 2 ORDER BY d.number LIMIT 1`

// Channels tells what each channel does, in the order of the configuration.
func (e *Engine) Channels(ctx context.Context) ([]ChannelStatus, error) {
	list := []ChannelStatus{}
	err := e.db.Read(ctx, func(tx *db.Tx) error {
		for _, ch := range e.channels {
			ch.mu.Lock()
			s := ChannelStatus{Name: ch.cfg.Name, Description: ch.cfg.Description, Enabled: ch.cfg.Enabled, State: ch.state,
				Address: ch.cfg.Source.Addr(), Revision: ch.revision, Destinations: []DestinationStatus{}}
			ch.mu.Unlock()
			for _, q := range ch.queues {
				if e.db.Engine() == db.PostgreSQL {
					if err := q.count(tx); err != nil { // other replicas accept and deliver too
						return err
					}
				}
				q.mu.Lock()
				d := DestinationStatus{Name: q.cfg.Name, Enabled: q.cfg.Enabled, State: q.state, Waiting: q.depth.Load()}
				q.mu.Unlock()
				var at, low int64
				if err := tx.QueryRow(`SELECT low FROM queue WHERE number = $1`, []any{q.number}, &low); err != nil {
					return err
				}
				if err := tx.QueryRow(oldestWaiting, []any{q.number, low}, &at); err == nil {
					d.Oldest = moment(at)
				} else if err != db.ErrNoRows {
					return err
				}
				s.Destinations = append(s.Destinations, d)
			}
			list = append(list, s)
		}
		return nil
	})
	return list, err
}

// StartChannel lets a stopped channel listen and deliver again. It changes nothing if it does already.
func (e *Engine) StartChannel(ctx context.Context, who Actor, name string) error {
	return e.switchChannel(ctx, who, name, false)
}

// StopChannel ends a channel's connections after their present message, and its deliveries; both survive a restart.
func (e *Engine) StopChannel(ctx context.Context, who Actor, name string) error {
	return e.switchChannel(ctx, who, name, true)
}

func (e *Engine) switchChannel(ctx context.Context, who Actor, name string, stop bool) error {
	e.switching.Lock()
	defer e.switching.Unlock()
	ch, err := e.channel(name)
	if err != nil {
		return err
	}
	if !ch.cfg.Enabled {
		return fmt.Errorf("channel %q is not enabled in the configuration: %w", name, ErrConflict)
	}
	event := audit.ChannelStarted
	if stop {
		event = audit.ChannelStopped
	}
	err = e.db.Commit(ctx, 0, func(tx *db.Tx) error {
		if _, err := tx.Exec(`UPDATE channel SET stopped = $1 WHERE number = $2`, bit(stop), ch.number); err != nil {
			return err
		}
		return e.record(tx, who.entry(audit.Entry{Event: event, Action: audit.Execute, Result: audit.Success,
			ResourceType: "channel", ResourceID: name}))
	})
	if err != nil {
		return fmt.Errorf("switch channel %q: %w", name, err)
	}
	ch.setStopped(stop)
	return nil
}

// PauseDestination ends deliveries to one destination; messages go on being accepted and queued for it.
func (e *Engine) PauseDestination(ctx context.Context, who Actor, channel, destination string) error {
	return e.switchDestination(ctx, who, channel, destination, true)
}

// ResumeDestination lets a paused or held destination deliver again.
func (e *Engine) ResumeDestination(ctx context.Context, who Actor, channel, destination string) error {
	return e.switchDestination(ctx, who, channel, destination, false)
}

func (e *Engine) switchDestination(ctx context.Context, who Actor, channel, destination string, pause bool) error {
	e.switching.Lock()
	defer e.switching.Unlock()
	ch, err := e.channel(channel)
	if err != nil {
		return err
	}
	queues, err := ch.queuesNamed([]string{destination})
	if err != nil {
		return err
	}
	q := queues[0]
	event := audit.DestinationResumed
	if pause {
		event = audit.DestinationPaused
	}
	err = e.db.Commit(ctx, 0, func(tx *db.Tx) error {
		const pauseQueue = `UPDATE queue SET paused = 1 WHERE number = $1`
		const resumeQueue = `UPDATE queue SET paused = 0, held = '' WHERE number = $1`
		sql := resumeQueue
		if pause {
			sql = pauseQueue
		}
		if _, err := tx.Exec(sql, q.number); err != nil {
			return err
		}
		return e.record(tx, who.entry(audit.Entry{Event: event, Action: audit.Execute, Result: audit.Success,
			ResourceType: "destination", ResourceID: channel + "/" + destination}))
	})
	if err != nil {
		return fmt.Errorf("switch destination %q of channel %q: %w", destination, channel, err)
	}
	q.mu.Lock()
	if q.paused = pause; !pause {
		q.held = ""
	}
	q.mu.Unlock()
	q.wake()
	return nil
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
