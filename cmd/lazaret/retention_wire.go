package main

import (
	"context"
	"time"

	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/retention"
)

// retentionPolicy is the configuration's policy, every channel with its own times.
func retentionPolicy(c *config.Config) retention.Policy {
	r := &c.Retention
	p := retention.Policy{Content: span(r.Content), Rejected: span(r.OfRejected()), Metadata: span(r.Metadata), AuditDetails: span(r.AuditDetails)}
	for i := range c.Channels {
		ch := &c.Channels[i]
		content, rejected := c.Kept(ch)
		p.Channels = append(p.Channels, retention.Channel{Name: ch.Name, Content: span(content), Rejected: span(rejected), AtLeast: ch.Admit.Duplicates})
	}
	return p
}

func span(k config.Keep) retention.Span { return retention.Span{Years: k.Years, Days: k.Days} }

// openRetention makes the keeper of the policy over what the service has open.
func (p *program) openRetention(ctx context.Context, s *service, replica db.ID) (err error) {
	at, err := time.Parse("15:04", string(s.cfg.Retention.Daily))
	if err != nil {
		return err
	}
	s.retention, err = retention.New(ctx, retention.Config{
		DB: s.db, Keys: s.ring, Audit: s.audit, Messages: s.engine, Organisation: s.engine.OrganisationNumber(),
		Replica: replica, Policy: retentionPolicy(s.cfg),
		At: time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute, Now: p.now, Sleep: sleep, Log: s.log,
	})
	return err
}

// sleep waits as long as ctx lasts.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
