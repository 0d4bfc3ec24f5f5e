package retention_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/goleak"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/retention"
	"github.com/lazaret-health/lazaret/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is set by the test.
type clock struct {
	mu   sync.Mutex
	at   time.Time
	runs time.Time // since when it runs as the machine's does; zero: it stands
}

func newClock(day string) *clock { return &clock{at: date(day)} }

func date(day string) time.Time {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		panic(err)
	}
	return t.Add(12 * time.Hour)
}

// now moves a little with each look, as a clock does.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(time.Microsecond)
	if !c.runs.IsZero() {
		return c.at.Add(time.Since(c.runs))
	}
	return c.at
}

func (c *clock) set(day string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = date(day)
}

// door is a source that tests knock at directly.
type door struct {
	open    chan struct{}
	handler engine.Handler
}

func (d *door) Open() error  { return nil }
func (d *door) Addr() string { return "in process" }
func (d *door) Run(ctx context.Context, h engine.Handler) error {
	d.handler = h
	close(d.open)
	<-ctx.Done()
	d.open = make(chan struct{})
	return nil
}

// ward is a receiver, which may be away.
type ward struct {
	mu   sync.Mutex
	away bool
	took int
}

func (w *ward) Send(context.Context, []byte) (engine.Reply, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away {
		return engine.Reply{}, &engine.NotSent{Err: errors.New("away")}
	}
	w.took++
	return engine.Reply{Taken: true, Code: "AA"}, nil
}
func (w *ward) Close() error { return nil }

// house is an engine and its keeper over a database, with channels adt and lab.
type house struct {
	t       testing.TB
	address string
	dir     string
	clock   *clock
	policy  retention.Policy
	doors   map[string]*door
	ward    *ward
	sleep   func(context.Context, time.Duration) error
	fault   atomic.Pointer[func(db.Stage) error]

	db     *db.DB
	ring   *seal.Ring
	log    *audit.Log
	engine *engine.Engine
	keeper *retention.Keeper
	stop   func()
}

var who = retention.Actor{OSUser: "invented", Program: "test"}

// each runs a suite on each database; on PostgreSQL as the role of the service, which does not own the tables.
func each(t *testing.T, suite func(t *testing.T, address string)) {
	t.Helper()
	dbtest.Each(t, suite, audit.Migrate, engine.Migrate, retention.Migrate)
}

func build(t testing.TB, address string, c *clock, p retention.Policy) *house {
	h := &house{t: t, address: address, dir: t.TempDir(), clock: c, policy: p, ward: &ward{},
		sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *house) start() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cfg := dbtest.Config(h.t, h.address)
	cfg.Now = h.clock.now
	cfg.Fault = func(s db.Stage) error {
		if fault := h.fault.Load(); fault != nil {
			return (*fault)(s)
		}
		return nil
	}
	quiet := slog.New(slog.DiscardHandler)
	cfg.Log = quiet
	var err error
	if h.db, err = db.Open(ctx, cfg); err != nil {
		h.t.Fatal(err)
	}
	h.ring = openRing(h.t, h.dir, h.clock)
	if h.log, err = audit.New(ctx, audit.Config{DB: h.db, Keys: h.ring, Rand: rand.Reader}); err != nil {
		h.t.Fatal(err)
	}
	h.doors = map[string]*door{}
	var channels []engine.Channel
	for _, name := range []string{"adt", "lab"} {
		d := &door{open: make(chan struct{})}
		h.doors[name] = d
		channels = append(channels, engine.Channel{Name: name, Enabled: true, Settings: []byte("{}"), Unacceptable: engine.AnswerAE, Source: d,
			Admit: engine.Admit{Types: []string{"ADT", "ORU"}, Duplicates: time.Hour, RejectedQuota: 1 << 20},
			Destinations: []engine.Destination{{Name: "archive", Enabled: true, Order: engine.OrderPatient, Window: 8, OnReject: engine.Hold,
				OnError: engine.Hold, Retry: engine.Backoff{First: time.Millisecond, Max: time.Millisecond}, Sender: h.ward}}})
	}
	h.engine, err = engine.New(ctx, engine.Config{DB: h.db, Keys: h.ring, Audit: h.log, Now: h.clock.now, Rand: rand.Reader, Log: quiet,
		Metrics: metrics.NewSet(), Organisation: "st-mary", Channels: channels})
	if err != nil {
		h.t.Fatal(err)
	}
	h.keeper, err = retention.New(ctx, retention.Config{DB: h.db, Keys: h.ring, Audit: h.log, Messages: h.engine,
		Organisation: h.engine.OrganisationNumber(), Replica: db.ID{1}, Policy: h.policy, At: 3 * time.Hour, Now: h.clock.now,
		Sleep: func(ctx context.Context, d time.Duration) error { return h.sleep(ctx, d) }, Log: quiet})
	if err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- h.engine.Run(ctx) }()
	<-h.engine.Ready()
	for _, d := range h.doors {
		<-d.open
	}
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, db.ErrStopped) {
				h.t.Errorf("the engine ended with %v", err)
			}
			h.db.Close()
			h.ring.Close()
		})
	}
}

func (h *house) restart() {
	h.stop()
	h.start()
}

func openRing(t testing.TB, dir string, c *clock) *seal.Ring {
	t.Helper()
	path := filepath.Join(dir, "root", "key")
	root, err := seal.FileRoot(path)
	if err != nil {
		if err := seal.CreateFileRoot(path); err != nil {
			t.Fatal(err)
		}
		if root, err = seal.FileRoot(path); err != nil {
			t.Fatal(err)
		}
	}
	store, err := seal.DirStore(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := seal.Open(context.Background(), seal.Config{Root: root, Store: store, Now: c.now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

var sender = engine.Peer{Name: "ward", Addr: netip.MustParseAddrPort("127.0.0.1:40000")}

// send gives a channel an invented admission and returns its id. typ other than ADT and ORU is refused.
func (h *house) send(channel, control, patient, typ string) db.ID {
	h.t.Helper()
	h.knock(channel, control, patient, typ)
	page, err := h.engine.List(context.Background(), engine.Actor{OSUser: "invented"}, engine.Query{Channel: channel, ControlID: control})
	if err != nil || len(page.Messages) != 1 {
		h.t.Fatalf("after sending %s there are %d of it: %v", control, len(page.Messages), err)
	}
	return page.Messages[0].ID
}

// knock gives a channel an invented message.
func (h *house) knock(channel, control, patient, typ string) {
	h.t.Helper()
	block := "MSH|^~\\&|WARD|NORTH|LAZARET|HUB|20260301120000||" + typ + "|" + control + "|P|2.5.1\r" +
		"PID|1||" + patient + "^^^NORTH^MR||Invented^Person||19700101|F\r"
	if _, err := h.doors[channel].handler.Accept(context.Background(), sender, []byte(block)); err != nil {
		h.t.Fatal(err)
	}
}

// fill sends n admissions to a channel on a day, waits for their delivery, and returns their ids.
func (h *house) fill(channel, day string, n int) (ids []db.ID) {
	h.t.Helper()
	h.clock.set(day)
	for i := range n {
		ids = append(ids, h.send(channel, fmt.Sprintf("%s-%s-%d", channel, day, i), fmt.Sprintf("P%d", i), "ADT^A01"))
	}
	h.settled()
	return ids
}

func (h *house) settled() {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		list, err := h.engine.Channels(context.Background())
		if err != nil {
			h.t.Fatal(err)
		}
		waiting := h.count(`SELECT count(*) FROM delivery WHERE state <= 2`)
		if len(list) == 2 && waiting == 0 {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("%d deliveries still wait", waiting)
		}
	}
}

func (h *house) count(sql string, args ...any) (n int64) {
	h.t.Helper()
	if err := h.db.Read(context.Background(), func(tx *db.Tx) error { return tx.QueryRow(sql, args, &n) }); err != nil {
		h.t.Fatal(err)
	}
	return n
}

func (h *house) verify() {
	h.t.Helper()
	err := h.db.Read(context.Background(), func(tx *db.Tx) error { _, err := h.log.Recompute(tx, nil); return err })
	if err != nil {
		h.t.Errorf("the audit log does not verify: %v", err)
	}
}

// run carries the policy out as a person would, and waits for the end.
func (h *house) run() retention.Progress {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	before := h.keeper.Progress().Number
	go func() { ended <- h.keeper.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, db.ErrStopped) {
			h.t.Errorf("the keeper ended with %v", err)
		}
	}()
	if p := h.wait(before + 1); p.Error != "" { // what was unfinished
		return p
	}
	if err := h.keeper.Start(who); err != nil {
		h.t.Fatal(err)
	}
	return h.wait(before + 2)
}

// wait is until run number n has ended.
func (h *house) wait(n int) retention.Progress {
	h.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if p := h.keeper.Progress(); p.Number >= n && !p.Running {
			return p
		}
		if time.Now().After(end) {
			h.t.Fatalf("the run does not end: %+v", h.keeper.Progress())
		}
	}
}

func (h *house) plan() map[string]retention.Month {
	h.t.Helper()
	p, err := h.keeper.Plan(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	months := map[string]retention.Month{}
	for _, m := range p.Months {
		months[m.Period] = m
	}
	return months
}

func (h *house) show(id db.ID) error {
	_, err := h.engine.Show(context.Background(), engine.Actor{OSUser: "invented", Purpose: "TREAT"}, id)
	return err
}

func days(n int) retention.Span  { return retention.Span{Days: n} }
func years(n int) retention.Span { return retention.Span{Years: n} }

// ninety keeps content for 90 days.
func ninety() retention.Policy {
	return retention.Policy{Content: days(90), Rejected: days(90)}
}
