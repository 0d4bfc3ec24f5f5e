package control

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Probes answer monitoring. They tell nothing about anybody.
type Probes struct {
	Healthy func() error // nil while the process can do its work; its error goes to the log, not to the asker
	Ready   <-chan struct{}
	Metrics *metrics.Set
	Log     *slog.Logger
}

func (p *Probes) mount(m *http.ServeMux) {
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { p.answer(w, p.healthy()) })
	m.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ready := false
		select {
		case <-p.Ready:
			ready = p.healthy()
		default:
		}
		p.answer(w, ready)
	})
	m.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		p.Metrics.WritePrometheus(w)
		metrics.WriteProcessMetrics(w)
	})
}

func (p *Probes) healthy() bool {
	err := p.Healthy()
	if err != nil {
		p.Log.Error("health: not well", "error", err)
	}
	return err == nil
}

func (p *Probes) answer(w http.ResponseWriter, well bool) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !well {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "no\n")
		return
	}
	io.WriteString(w, "ok\n")
}

// Serve answers monitoring over TCP until ctx ends: the three probes, and nothing else.
func (p *Probes) Serve(ctx context.Context, ln net.Listener) error {
	m := http.NewServeMux()
	p.mount(m)
	return serve(ctx, &http.Server{
		Handler: m, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 1 << 14, ErrorLog: slog.NewLogLogger(p.Log.Handler(), slog.LevelWarn),
	}, ln)
}
