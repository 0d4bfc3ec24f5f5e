package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/errgroup"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/control"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/retention"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// A service is everything that serve and demo run, put together. It is opened, run once and closed.
type service struct {
	cfg       *config.Config
	log       *slog.Logger
	metrics   *metrics.Set
	db        *db.DB
	ring      *seal.Ring
	audit     *audit.Log
	engine    *engine.Engine
	retention *retention.Keeper
	root      seal.Root
	keys      *seal.Keeper
	control   *control.Server
	probes    *control.Probes
	socket    net.Listener
	scrape    net.Listener // of the probes; nil where none is wanted
	replica   *os.File     // locked while this process lives

	host    map[string]string // what protects this process's memory
	newRoot string            // where the root key was made just now; "" when there was one
}

// openService builds everything and binds the control socket. Sources are bound by run. On an error nothing stays open.
func (p *program) openService(ctx context.Context, c *config.Config, log *slog.Logger) (_ *service, err error) {
	s := &service{cfg: c, log: log, metrics: metrics.NewSet()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := os.MkdirAll(string(c.Data), 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	if err := p.openDatabase(ctx, s); err != nil {
		return nil, err
	}
	if err := p.openKeys(ctx, s); err != nil {
		return nil, err
	}
	if s.audit, err = audit.New(ctx, audit.Config{DB: s.db, Keys: s.ring, Rand: p.rand}); err != nil {
		return nil, err
	}
	replica, err := s.takeReplica()
	if err != nil {
		return nil, err
	}
	channels, err := engineChannels(c, p.now, log, s.metrics)
	if err != nil {
		return nil, err
	}
	s.engine, err = engine.New(ctx, engine.Config{
		DB: s.db, Keys: s.ring, Audit: s.audit, Now: p.now, Rand: p.rand, Log: log, Metrics: s.metrics,
		Organisation: c.Organisation, Channels: channels, Replica: replica,
	})
	if err != nil {
		return nil, err
	}
	if err := p.openRetention(ctx, s, replica); err != nil {
		return nil, err
	}
	if err := p.openKeeper(s); err != nil {
		return nil, err
	}
	s.probes = &control.Probes{Healthy: s.db.Err, Ready: s.engine.Ready(), Metrics: s.metrics, Log: log}
	s.control, err = control.New(control.Config{Engine: s.engine, Retention: s.retention, Keys: s.keys, Host: s.host, Probes: s.probes, Owner: uint32(os.Geteuid()), Log: log, Now: p.now, Rand: p.rand})
	if err != nil {
		return nil, err
	}
	if s.socket, err = control.Listen(string(c.Control.Socket)); err != nil {
		return nil, err
	}
	if a := string(c.Listen.Metrics); a != "" {
		if s.scrape, err = net.Listen("tcp", a); err != nil {
			return nil, fmt.Errorf("listen.metrics: %w", err)
		}
	}
	return s, nil
}

func (p *program) openDatabase(ctx context.Context, s *service) error {
	url, err := s.cfg.Database.DSN()
	if err != nil {
		return err
	}
	if s.cfg.Database.Kind == "sqlite" {
		if err := os.MkdirAll(filepath.Dir(s.cfg.Database.Path), 0o700); err != nil {
			return fmt.Errorf("make the database's folder: %w", err)
		}
	}
	if err := examineDatabase(ctx, s.cfg, s.log); err != nil {
		return err
	}
	s.db, err = db.Open(ctx, db.Config{URL: url, Now: p.now, Rand: p.rand, Log: s.log, Stopped: func(err error) {
		// Linux may call the next fsync good although the failed one's pages never reached the disk. So nothing may be
		// acknowledged any more, and a stop in good order would do just that.
		s.log.Error("an fsync failed; the process ends at once", "error", err, "next", "look at the disk, then start again")
		p.exit(exitFound)
	}})
	if errors.Is(err, db.ErrInUse) {
		return hint(err, "another lazaret runs on "+s.cfg.Database.String()+": stop it, or use its commands")
	}
	return err
}

// inUse says whether anything was ever recorded here, or the key store holds keys that a root wrapped.
func (s *service) inUse(ctx context.Context) (used bool, err error) {
	if entries, err := os.ReadDir(string(s.cfg.Keys.Store)); err == nil && len(entries) > 0 {
		return true, nil
	}
	err = s.db.Read(ctx, func(tx *db.Tx) error {
		line, err := tx.Line()
		if err == nil {
			used = line.TreeSize > 0
		}
		return err
	})
	return used, err
}

// run serves until ctx ends, and then stops from outside in: commands and sources, then the queues. Put on record.
func (s *service) run(ctx context.Context) error {
	if err := s.record(ctx, audit.ServiceStarted); err != nil {
		return err
	}
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return s.engine.Run(inner) })
	g.Go(func() error { s.announce(inner); return nil })
	g.Go(func() error { return s.retention.Run(inner) })
	g.Go(func() error { return s.keys.Run(inner) })
	g.Go(func() error { return s.control.Serve(inner, s.socket) })
	if s.scrape != nil {
		g.Go(func() error { return s.probes.Serve(inner, s.scrape) })
	}
	err := g.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	if s.db.Err() != nil {
		return err
	}
	return errors.Join(err, s.record(context.WithoutCancel(ctx), audit.ServiceStopped))
}

// announce says when all sources listen.
func (s *service) announce(ctx context.Context) {
	select {
	case <-s.engine.Ready():
		s.log.Info("ready: all sources listen", "channels", len(s.cfg.Channels), "database", s.cfg.Database.Kind, "socket", string(s.cfg.Control.Socket))
	case <-ctx.Done():
	}
}

// record puts the start or the end of the service into the audit log.
func (s *service) record(ctx context.Context, what audit.Event) error {
	b := thisBuild()
	e := audit.Entry{
		Event: what, Action: audit.Execute, Result: audit.Success, Program: "lazaret serve", OSUser: osUser(),
		ResourceType: "service", ResourceID: s.cfg.Organisation,
		Details: []audit.Detail{audit.Text("version", b.Version), audit.Text("commit", b.Commit)},
	}
	list := []audit.Entry{e}
	if what == audit.ServiceStarted && s.newRoot != "" {
		list = append(list, audit.Entry{Event: audit.KeyCreated, Action: audit.Create, Result: audit.Success,
			Program: e.Program, OSUser: e.OSUser, ResourceType: "root-key"})
	}
	return s.db.Commit(ctx, 512*len(list), func(tx *db.Tx) error {
		// How many changes of tables there have been: "lazaret migrate", which makes them, has no keys and writes no entry.
		made, err := tx.Migrations()
		if err != nil {
			return err
		}
		list[0].Details = append(slices.Clip(e.Details), audit.Int("table_changes", int64(len(made))))
		for _, e := range list {
			if _, err := s.audit.Append(tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// close lets go of everything, the database last.
func (s *service) close() error {
	var failed []error
	for _, ln := range []net.Listener{s.socket, s.scrape} {
		if ln == nil {
			continue
		}
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			failed = append(failed, err)
		}
	}
	if s.ring != nil {
		s.ring.Close()
	}
	if s.db != nil {
		failed = append(failed, s.db.Close())
	}
	if s.replica != nil {
		failed = append(failed, s.replica.Close())
	}
	return errors.Join(failed...)
}
