package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/engine"
)

const demoHelp = `See it work: a simulated hospital sends, Lazaret keeps and delivers, three systems receive.

Usage: lazaret demo [--once] [--dir DIR] [--count N] [--rate N]

It needs no configuration. In an empty DIR it makes keys, certificates and lazaret.yaml, starts the service with mutual TLS on
every connection, and starts the hospital and the receivers as processes of their own. One receiver is down for a while; one
refuses a kind of message. Every message is invented. The configuration stays in DIR, and every other command works on it.

    --dir DIR    where everything is kept (default ./lazaret-demo); a former demo's folder is used again
    --once       send the sample, wait until all queues are empty, compare what the hospital says it sent with what the
                 receivers say they got, and end. The exit code is 0 only if every message arrived once, in order, and with
                 the right bytes
    --count N    how many messages --once sends (default 400)
    --rate N     messages a second (default 4, and 200 with --once)

Examples:
    lazaret demo                                                      until Ctrl-C
    lazaret demo --once --dir /tmp/demo                               in a test
    lazaret message list --config lazaret-demo/lazaret.yaml           meanwhile, in another terminal
`

// demoOptions are the command line of demo.
type demoOptions struct {
	dir   string
	once  bool
	count int
	rate  float64
}

func (p *program) demo(ctx context.Context, args []string) error {
	f := newFlags("demo")
	var o demoOptions
	f.StringVar(&o.dir, "dir", "lazaret-demo", "")
	f.BoolVar(&o.once, "once", false, "")
	f.IntVar(&o.count, "count", 400, "")
	f.Float64Var(&o.rate, "rate", 0, "")
	switch err := f.noArguments(args); {
	case err != nil:
		return err
	case o.count < 1 || o.rate < 0:
		return usage("--count and --rate take numbers above zero", "demo")
	}
	switch {
	case o.rate > 0:
	case o.once:
		o.rate = 200
	default:
		o.rate = 4
	}
	site, fresh, err := prepareDemo(o.dir, p.now())
	if err != nil {
		return err
	}
	c, err := config.Load(site.config())
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile(filepath.Join(o.dir, "lazaret.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	if fresh {
		p.say("made %s: keys, certificates, lazaret.yaml", clean(o.dir))
	}
	d := &demo{p: p, o: o, site: site, start: p.now(), screen: live{p: p}}
	err = d.run(ctx, c, slog.New(slog.NewTextHandler(logFile, nil)), logFile)
	if err != nil && !errors.Is(err, errFound) {
		err = hint(err, "the log is "+logFile.Name())
	}
	return err
}

// demo is one run of it.
type demo struct {
	p       *program
	o       demoOptions
	site    *demoSite
	service *service
	start   time.Time
	screen  live

	hospital  *child
	receivers []*child
	example   string // id of a message worth looking at
}

// run starts the receivers, the service and the hospital, in this order, watches them, and stops them in the reverse one.
func (d *demo) run(ctx context.Context, c *config.Config, log *slog.Logger, logFile *os.File) (err error) {
	defer func() { err = errors.Join(err, d.stopReceivers()) }()
	for _, r := range demoReceivers() {
		args := []string{"demo-receiver", "--dir", d.o.dir, "--name", r.name, "--listen", d.site.Receivers[r.name]}
		if r.away {
			args = append(args, "--away-after", fmt.Sprint(max(1, d.o.count/8)), "--away-for", "3s")
		}
		child, err := startChild(r.name, logFile, args...)
		if err != nil {
			return err
		}
		d.receivers = append(d.receivers, child)
	}
	for _, r := range d.receivers {
		if err := r.ready(ctx); err != nil {
			return err
		}
	}
	if d.service, err = d.p.openService(ctx, c, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.service.close()) }()

	serving, stopService := context.WithCancel(context.WithoutCancel(ctx))
	defer stopService()
	g, inner := errgroup.WithContext(serving)
	g.Go(func() error { return d.service.run(inner) })
	err = d.watch(ctx, inner, logFile)
	if d.hospital != nil {
		err = errors.Join(err, d.hospital.stop())
	}
	if err == nil && !d.o.once {
		d.settle()
	}
	d.example = d.find(ctx)
	stopService()
	if err := errors.Join(err, g.Wait()); err != nil {
		return err
	}
	return d.finish()
}

// watch starts the hospital once the service is ready, and draws until the user has enough or, with --once, all is done.
// service ends when the service has failed.
func (d *demo) watch(ctx, service context.Context, logFile *os.File) (err error) {
	select {
	case <-d.service.engine.Ready():
	case <-service.Done():
		return errors.New("the service did not start")
	case <-ctx.Done():
		return ctx.Err()
	}
	args := []string{"demo-sender", "--dir", d.o.dir, "--adt", d.site.ADT, "--oru", d.site.ORU,
		"--rate", fmt.Sprint(d.o.rate), "--seed", fmt.Sprint(d.site.Runs)}
	if d.o.once {
		args = append(args, "--count", fmt.Sprint(d.o.count))
	} else {
		d.next("while it runs, in another terminal:", true)
	}
	if d.hospital, err = startChild("hospital", logFile, args...); err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for empty := 0; ; {
		select {
		case <-ctx.Done():
			if d.o.once {
				return ctx.Err()
			}
			return nil
		case <-service.Done():
			return errors.New("the service has ended")
		case <-tick.C:
		}
		d.draw()
		for _, r := range d.receivers {
			if gone, err := r.ended(); gone {
				return errors.Join(fmt.Errorf("receiver %s has ended", r.name), err)
			}
		}
		gone, err := d.hospital.ended()
		switch {
		case err != nil:
			return fmt.Errorf("the hospital has ended: %w", err)
		case gone && d.waiting() == 0:
			// Twice in a row, for a message counts as waiting a moment after it was answered.
			if empty++; empty >= 2 {
				return nil
			}
		default:
			empty = 0
		}
	}
}

// settle gives the queues a moment after the hospital has stopped, so that the summary is not full of what waits.
func (d *demo) settle() {
	for range 50 {
		if d.waiting() == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// find looks for a message to show as an example: one that was set aside, for its way is the most interesting.
func (d *demo) find(ctx context.Context) string {
	for _, status := range []string{"error", "filtered", "sent"} {
		page, err := d.service.engine.List(context.WithoutCancel(ctx), engine.Actor{}, engine.Query{Status: status, Limit: 1})
		if err == nil && len(page.Messages) > 0 {
			return page.Messages[0].ID.String()
		}
	}
	return "ID"
}

func (d *demo) stopReceivers() (err error) {
	for _, r := range d.receivers {
		err = errors.Join(err, r.stop())
	}
	return err
}

// finish shows the summary, and with --once what the ledgers say.
func (d *demo) finish() error {
	d.draw()
	d.summary()
	if !d.o.once {
		d.next("it can be started again, or served without the hospital:", false)
		return nil
	}
	same, err := d.p.compareLedgers(d.o.dir)
	if err != nil {
		return err
	}
	d.next("what to try next:", false)
	if !same {
		return errFound
	}
	return nil
}

// next shows the commands to try, such that they can be copied. They need a running service.
func (d *demo) next(head string, running bool) {
	at, id := " --config "+d.site.config(), cmp.Or(d.example, "ID")
	list := []string{"lazaret message list" + at, "lazaret message trace" + at + " " + id, "lazaret message show" + at + " " + id, "lazaret channel list" + at}
	if !running {
		list = append([]string{"lazaret serve" + at + " &"}, list...)
	}
	d.p.say("%s", head)
	for _, line := range list {
		d.p.say("    %s", clean(line))
	}
}
