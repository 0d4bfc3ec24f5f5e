package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/connect/mllp"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// engineChannels turns the configuration's channels into the engine's, with their transports. Nothing is bound or dialled.
func engineChannels(c *config.Config, now func() time.Time, log *slog.Logger, set *metrics.Set) ([]engine.Channel, error) {
	var out []engine.Channel
	var wrong config.Errors
	for i := range c.Channels {
		ch := &c.Channels[i]
		parts, problems := compileChannel(c, ch)
		if wrong = append(wrong, problems...); len(wrong) > 0 {
			continue
		}
		one, err := engineChannel(c, ch, parts, now, log, set)
		if err != nil {
			return nil, fmt.Errorf("channel %q: %w", ch.Name, err)
		}
		out = append(out, one)
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return out, nil
}

func engineChannel(c *config.Config, ch *config.Channel, parts []compiled, now func() time.Time, log *slog.Logger, set *metrics.Set) (engine.Channel, error) {
	m := ch.Source.MLLP // the only transport so far: the configuration requires it
	settings, err := channelSettings(c, ch)
	if err != nil {
		return engine.Channel{}, err
	}
	source, err := mllp.NewSource(mllp.SourceConfig{
		Channel: ch.Name, Listen: string(m.Listen), TLS: sourceTLS(m.TLS), Allow: m.Allow,
		MaxBlock: int(m.MaxMessage), MaxConns: m.Connections, MaxConnsPerPeer: m.ConnectionsPerPeer,
		IdleTimeout: orNever(m.IdleTimeout), ReadTimeout: orNever(m.ReadTimeout), WriteTimeout: orNever(m.WriteTimeout),
		KeepAlive: orNever(m.KeepAlive), Now: now, Log: log, Metrics: set,
	})
	if err != nil {
		return engine.Channel{}, err
	}
	out := engine.Channel{
		Name: ch.Name, Description: ch.Description, Enabled: ch.Enabled, Settings: settings, Charset: m.Charset,
		Unacceptable: engine.Unacceptable(ch.Source.Unacceptable), Source: source,
		Admit: engine.Admit{
			Types: texts(ch.Admit.Types), Versions: texts(ch.Admit.Versions), ProcessingIDs: texts(ch.Admit.ProcessingIDs),
			MaxSize: int(ch.Admit.MaxSize), Duplicates: ch.Admit.Duplicates, RejectedQuota: int64(ch.Admit.RejectedQuota),
		},
	}
	if r := ch.Admit.Rate; r != nil {
		out.Admit.Rate = &engine.Rate{Messages: r.Messages, Per: r.Per, Burst: r.Burst}
	}
	for i := range ch.Destinations {
		d, err := engineDestination(&ch.Destinations[i], parts[i], now, log)
		if err != nil {
			return engine.Channel{}, fmt.Errorf("destination %q: %w", ch.Destinations[i].Name, err)
		}
		out.Destinations = append(out.Destinations, d)
	}
	return out, nil
}

func engineDestination(d *config.Destination, part compiled, now func() time.Time, log *slog.Logger) (engine.Destination, error) {
	settings := mllp.SenderConfig{
		Address: string(d.MLLP.Address), TLS: senderTLS(d.MLLP.TLS),
		ConnectTimeout: d.MLLP.ConnectTimeout, AnswerTimeout: d.MLLP.AnswerTimeout, Now: now, Log: log,
	}
	sender, err := mllp.NewSender(settings)
	if err != nil {
		return engine.Destination{}, err
	}
	return engine.Destination{
		Name: d.Name, Enabled: d.Enabled, Filter: part.filter, Steps: part.steps, Order: engine.Order(d.Order), Window: d.Window,
		Retry: engine.Backoff{
			First: d.Retry.First, Max: d.Retry.Max, Jitter: d.Retry.Jitter,
			GiveUpAfter: d.Retry.GiveUpAfter.After, GiveUpAttempts: d.Retry.GiveUpAfter.Attempts,
		},
		OnReject: engine.Policy(d.OnReject), OnError: engine.Policy(d.OnError), Timeout: settings.Timeout(), Sender: sender,
	}, nil
}

// channelSettings is what makes a revision: the channel, and the tables that its steps use. It holds no secret, for a
// config.Secret does not show itself.
func channelSettings(c *config.Config, ch *config.Channel) ([]byte, error) {
	used := map[string]config.Table{}
	for _, d := range ch.Destinations {
		for _, s := range d.Steps {
			if s.Map == nil {
				continue
			}
			if t, ok := c.Tables[s.Map.Table]; ok {
				used[s.Map.Table] = t
			}
		}
	}
	return json.Marshal(struct {
		Channel *config.Channel
		Tables  map[string]config.Table `json:",omitempty"`
	}{ch, used})
}

func sourceTLS(t *config.ServerTLS) *mllp.TLS {
	if t == nil {
		return nil
	}
	out := &mllp.TLS{Certificate: string(t.Certificate), Key: string(t.Key), Peers: string(t.Clients), Names: texts(t.Names)}
	if t.MinVersion == "1.3" {
		out.MinVersion = tls.VersionTLS13
	}
	return out
}

func senderTLS(t *config.ClientTLS) *mllp.TLS {
	if t == nil {
		return nil
	}
	return &mllp.TLS{Certificate: string(t.Certificate), Key: string(t.Key), Peers: string(t.CA), ServerName: t.ServerName}
}

// orNever: the configuration writes "off" as zero, package mllp as less than zero.
func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func texts(list []config.Text) (out []string) {
	for _, t := range list {
		out = append(out, string(t))
	}
	return out
}
