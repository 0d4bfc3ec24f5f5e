package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const benchHelp = `Measure what this machine does, beside what it could do at most. Encryption, audit and fsync are on.

Usage: lazaret bench [--seconds N] [--dir DIR] [--database URL] [--only NAME,...] [--json]

The service runs as its own process on a configuration of its own, the load comes from another one, all on loopback without
TLS. Each figure stands beside its limit from the same run: a bare MLLP server that stores nothing, an fdatasync of a file that
is reused, a scan of memory.

    --seconds N      how long each measurement runs (default 5, at most 600)
    --dir DIR        where the data lies meanwhile (default: a new folder here, removed at the end). The disk matters
    --database URL   PostgreSQL instead of SQLite: an empty database, which is filled
    --only NAME,...  accept, one, deliver, parse, start, memory; several with commas
    --json           the figures as JSON

Examples:
    lazaret bench
    lazaret bench --only accept --seconds 60
    lazaret bench --database 'postgres://lazaret@localhost/bench?sslmode=disable'
`

// A figure is one line of bench.
type figure struct {
	Name      string  `json:"name"`
	What      string  `json:"what"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Limit     float64 `json:"limit,omitempty"` // in the same unit; 0: none
	LimitWhat string  `json:"limit_what,omitempty"`
	Goal      string  `json:"goal"`
	Met       bool    `json:"met"`
	Note      string  `json:"note,omitempty"`
}

// bencher is one run of bench.
type bencher struct {
	p        *program
	dir      string
	database string
	seconds  int
	only     map[string]bool
	site     *benchSite

	echo    loadReport // of 64 senders against the bare server
	figures []figure
}

func (p *program) bench(ctx context.Context, args []string) (err error) {
	f := newFlags("bench")
	seconds, dir, database := f.Int("seconds", 5, ""), f.String("dir", "", ""), f.String("database", "", "")
	only, asJSON := f.String("only", "", ""), f.Bool("json", false, "")
	if err := f.noArguments(args); err != nil {
		return err
	}
	b := &bencher{p: p, dir: *dir, database: *database, seconds: *seconds, only: map[string]bool{}}
	if *seconds < 1 || *seconds > 600 {
		return usage("--seconds is 1 to 600", "bench")
	}
	for _, name := range strings.FieldsFunc(*only, func(c rune) bool { return c == ',' }) {
		if err := oneOf(f, "only", name, "accept", "one", "deliver", "parse", "start", "memory"); err != nil {
			return err
		}
		b.only[name] = true
	}
	made := *dir == ""
	if made {
		if b.dir, err = os.MkdirTemp(".", "lazaret-bench-"); err != nil {
			return err
		}
	} else if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return err
	}
	if made {
		defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	}
	if inMemory(b.dir) {
		p.say("warning: %s lies in memory, where a sync costs nothing: name a folder on a disk with --dir", clean(b.dir))
	}
	if err := b.run(ctx); err != nil {
		return err
	}
	if *asJSON {
		return p.json(struct {
			Build    build    `json:"build"`
			Database string   `json:"database"`
			Seconds  int      `json:"seconds"`
			Figures  []figure `json:"figures"`
		}{thisBuild(), b.kind(), b.seconds, b.figures})
	}
	p.print(b.table())
	return nil
}

func (b *bencher) kind() string {
	if b.database == "" {
		return "SQLite"
	}
	return "PostgreSQL"
}

func (b *bencher) wants(name string) bool { return len(b.only) == 0 || b.only[name] }

// run measures one thing after another, so that none disturbs another.
func (b *bencher) run(ctx context.Context) (err error) {
	if b.wants("parse") {
		b.saying("parse")
		b.parse()
	}
	if !b.wants("accept") && !b.wants("one") && !b.wants("deliver") && !b.wants("memory") && !b.wants("start") {
		return nil
	}
	if b.site, err = b.p.makeBenchSite(b.dir, b.database); err != nil {
		return err
	}
	if err := b.site.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.site.end()) }()
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{{"accept", b.accept}, {"one", b.one}, {"deliver", b.deliver}, {"memory", b.memory}, {"start", b.restart}} {
		if !b.wants(step.name) && (step.name != "accept" || !b.wants("deliver") && !b.wants("memory")) {
			continue
		}
		b.saying(step.name)
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("bench %s: %w", step.name, err)
		}
	}
	return nil
}

func (b *bencher) saying(name string) {
	b.p.say("measuring: %s", map[string]string{
		"accept": "durable accept, 64 senders", "one": "one sender", "deliver": "accept, steps, deliver, settle",
		"parse": "parse and address", "start": "start to the first accepted message", "memory": "memory",
	}[name])
}

func (b *bencher) add(f figure) { b.figures = append(b.figures, f) }

// accept is the main figure: 64 senders, everything kept, beside a server that keeps nothing.
func (b *bencher) accept(ctx context.Context) (err error) {
	b.site.idle = b.site.resident()
	if b.echo, err = b.load(ctx, 64, b.site.echoAddress); err != nil {
		return err
	}
	got, err := b.load(ctx, 64, b.site.address("accept"))
	if err != nil {
		return err
	}
	b.site.accepted = got.Rate()
	if !b.wants("accept") {
		return nil
	}
	share := got.Rate() / b.echo.Rate()
	b.add(figure{
		Name: "accept", What: "durable accept, 64 senders", Value: got.Rate(), Unit: "messages/s",
		Limit: b.echo.Rate(), LimitWhat: "a bare MLLP server that stores nothing", Goal: "25 % of the limit", Met: share >= 0.25,
		Note: fmt.Sprintf("p50 %s, p99 %s", micros(got.P50), micros(got.P99)),
	})
	return nil
}

// one is the time that a single sender waits for its answer.
func (b *bencher) one(ctx context.Context) error {
	trip, err := b.load(ctx, 1, b.site.echoAddress)
	if err != nil {
		return err
	}
	sync, err := medianSync(filepath.Join(b.dir, "sync"), time.Duration(min(b.seconds, 3))*time.Second)
	if err != nil {
		return err
	}
	got, err := b.load(ctx, 1, b.site.address("accept"))
	if err != nil {
		return err
	}
	limit := float64(trip.P50) + float64(sync.Microseconds())
	b.add(figure{
		Name: "one", What: "one sender, p50", Value: float64(got.P50), Unit: "µs", Limit: limit,
		LimitWhat: fmt.Sprintf("fdatasync of a reused file %s + loopback round trip %s", micros(sync.Microseconds()), micros(trip.P50)),
		Goal:      "1.25 × the limit", Met: float64(got.P50) <= 1.25*limit,
		Note: fmt.Sprintf("p99 %s, %.0f messages/s", micros(got.P99), got.Rate()),
	})
	return nil
}

// deliver measures the whole way: from the first message accepted to the last one settled.
func (b *bencher) deliver(ctx context.Context) error {
	before, err := b.site.settled(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	got, err := b.load(ctx, 64, b.site.address("line-1"), b.site.address("line-2"), b.site.address("line-3"), b.site.address("line-4"))
	if err != nil {
		return err
	}
	during, err := b.site.settled(ctx)
	if err != nil {
		return err
	}
	sending := time.Since(start)
	after, took, err := b.site.drained(ctx, start, 5*time.Duration(b.seconds)*time.Second+10*time.Second)
	if err != nil {
		return err
	}
	rate := float64(after-before) / took.Seconds()
	b.add(figure{
		Name: "deliver", What: "accept, steps, deliver, settle; 64 senders, 4 lines", Value: rate, Unit: "messages/s",
		Limit: b.site.accepted, LimitWhat: "durable accept", Goal: "50 % of the limit", Met: rate >= b.site.accepted/2,
		Note: fmt.Sprintf("accepted meanwhile %.0f/s, settled meanwhile %.0f/s", got.Rate(), float64(during-before)/sending.Seconds()),
	})
	return nil
}

// memory is the resident memory of the service's process: before the load, and the highest so far.
func (b *bencher) memory(context.Context) error {
	if b.site.idle == 0 {
		return nil // this system does not tell
	}
	b.add(figure{Name: "memory idle", What: "memory, idle", Value: b.site.idle, Unit: "MB", Goal: "at most 40 MB", Met: b.site.idle <= 40})
	peak := b.site.highest()
	b.add(figure{Name: "memory load", What: "memory, highest under the load above", Value: peak, Unit: "MB", Goal: "at most 200 MB", Met: peak <= 200})
	return nil
}

// restart is the time from starting the process to the first accepted message, with what the load above has left behind.
func (b *bencher) restart(ctx context.Context) error {
	if err := b.site.stop(); err != nil {
		return err
	}
	begun := time.Now()
	if err := b.site.start(ctx); err != nil {
		return err
	}
	if err := b.site.sendOne(ctx); err != nil {
		return err
	}
	took := time.Since(begun)
	b.add(figure{Name: "start", What: "start to the first accepted message", Value: float64(took.Milliseconds()), Unit: "ms", Goal: "at most 300 ms", Met: took <= 300*time.Millisecond})
	return nil
}

func (b *bencher) parse() {
	gbs, fields := measureParse(time.Duration(b.seconds) * time.Second / 2)
	scan := measureScan(time.Duration(b.seconds) * time.Second / 4)
	b.add(figure{
		Name: "parse", What: "parse a 1.25 KB ADT and read 4 fields, one core", Value: gbs, Unit: "GB/s",
		Limit: scan, LimitWhat: "a scan of memory for one byte", Goal: "at least 3 GB/s", Met: gbs >= 3, Note: fmt.Sprintf("%.0f ns a message", fields),
	})
}

// table lays the figures out for people.
func (b *bencher) table() string {
	var rows [][]string
	for _, f := range b.figures {
		limit, share := "", ""
		if f.Limit > 0 {
			limit = amount(f.Limit, f.Unit)
			share = fmt.Sprintf("%.2f ×", f.Value/f.Limit)
		}
		met := "missed"
		if f.Met {
			met = "met"
		}
		rows = append(rows, []string{f.What, amount(f.Value, f.Unit), limit, share, f.Goal, met})
	}
	text := columns([]string{"what", "measured", "limit", "share", "goal", ""}, rows)
	for _, f := range b.figures {
		if f.LimitWhat != "" {
			text += fmt.Sprintf("\n%s\n    limit: %s", f.What, f.LimitWhat)
			if f.Note != "" {
				text += "\n    " + f.Note
			}
		}
	}
	return text + "\n\ndatabase: " + b.kind() + ", sealed, audited, fsync on; no TLS; each " + (time.Duration(b.seconds) * time.Second).String() + "\n"
}

func amount(v float64, unit string) string {
	switch {
	case v >= 100:
		return thousands(int64(v+0.5)) + " " + unit
	case v >= 10:
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.2f %s", v, unit)
}

func micros(us int64) string { return thousands(us) + " µs" }
