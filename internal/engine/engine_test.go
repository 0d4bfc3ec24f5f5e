package engine_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/goleak"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/retention"
	"github.com/lazaret-health/lazaret/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A door is a source that tests knock at directly.
type door struct {
	mu      sync.Mutex
	handler engine.Handler
	open    chan struct{}
}

func newDoor() *door { return &door{open: make(chan struct{})} }

func (d *door) Open() error  { return nil }
func (d *door) Addr() string { return "in process" }
func (d *door) Run(ctx context.Context, h engine.Handler) error {
	d.mu.Lock()
	d.handler = h
	close(d.open)
	d.mu.Unlock()
	<-ctx.Done()
	d.mu.Lock()
	d.open = make(chan struct{})
	d.mu.Unlock()
	return nil
}

var peer = engine.Peer{Name: "ward", Addr: netip.MustParseAddrPort("127.0.0.1:40000")}

func (d *door) send(block string) (answer string, err error) {
	d.mu.Lock()
	open := d.open
	d.mu.Unlock()
	<-open
	a, err := d.handler.Accept(context.Background(), peer, []byte(block))
	return string(a), err
}

// A ward is a receiver that keeps a ledger, and does to each message what the test says.
type ward struct {
	mu     sync.Mutex
	ledger []string
	do     func(n int, block []byte) (engine.Reply, error) // nil: takes all; n counts attempts from 1
	n      int
	came   chan struct{}
}

func newWard() *ward { return &ward{came: make(chan struct{}, 100000)} }

func (w *ward) Send(ctx context.Context, block []byte) (engine.Reply, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	reply := engine.Reply{Taken: true, Code: "AA"}
	if w.do != nil {
		var err error
		if reply, err = w.do(w.n, block); err != nil {
			return engine.Reply{}, err
		}
	}
	if reply.Taken {
		w.ledger = append(w.ledger, string(block))
		w.came <- struct{}{}
	}
	return reply, nil
}

func (w *ward) Close() error { return nil }

func (w *ward) got() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.ledger...)
}

func (w *ward) wait(t *testing.T, n int) []string {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if got := w.got(); len(got) >= n {
			return got
		}
		select {
		case <-w.came:
		case <-deadline:
			t.Fatalf("the receiver has %d messages, want %d", len(w.got()), n)
		}
	}
}

// house is an engine with its database and keys.
type house struct {
	t       *testing.T
	address string
	keys    string
	db      *db.DB
	log     *audit.Log
	engine  *engine.Engine
	metrics *metrics.Set
	stop    func()
}

type option func(*db.Config)

// start runs an engine over a database, which may have been used before. It stops with the test.
func start(t *testing.T, address, keys string, channels []engine.Channel, options ...option) *house {
	t.Helper()
	return startWith(t, address, keys, channels, func(c *db.Config, _ *engine.Config) {
		for _, o := range options {
			o(c)
		}
	})
}

// startWith is start with other settings of the database and of the engine.
func startWith(t *testing.T, address, keys string, channels []engine.Channel, change func(*db.Config, *engine.Config)) *house {
	t.Helper()
	ctx := context.Background()
	h := &house{t: t, address: address, keys: keys, metrics: metrics.NewSet()}
	cfg := dbtest.Config(t, address)
	own := engine.Config{Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Metrics: h.metrics,
		Organisation: "st-mary", Channels: channels}
	change(&cfg, &own)
	var err error
	if h.db, err = db.Open(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	ring := openRing(t, keys)
	if h.log, err = audit.New(ctx, audit.Config{DB: h.db, Keys: ring, Rand: rand.Reader}); err != nil {
		t.Fatal(err)
	}
	replica, release := takeReplica(t, keys)
	own.DB, own.Keys, own.Audit, own.Replica = h.db, ring, h.log, replica
	h.engine, err = engine.New(ctx, own)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- h.engine.Run(ctx) }()
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, db.ErrStopped) {
				t.Errorf("the engine ended with %v", err)
			}
			h.db.Close()
			ring.Close()
			release()
		})
	}
	t.Cleanup(h.stop)
	<-h.engine.Ready()
	return h
}

// takeReplica does what the command does: whoever gets the lock bears the earlier process's name, and may have its queues at
// once. A second engine beside the first is another replica.
func takeReplica(t *testing.T, dir string) (id db.ID, release func() error) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "replica"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return db.ID{}, f.Close
	}
	if _, err := f.ReadAt(id[:], 0); err != nil {
		rand.Read(id[:])
		if _, err := f.WriteAt(id[:], 0); err != nil {
			t.Fatal(err)
		}
	}
	return id, f.Close
}

func openRing(t testing.TB, dir string) *seal.Ring {
	t.Helper()
	rootFile := filepath.Join(dir, "root", "key")
	root, err := seal.FileRoot(rootFile)
	if err != nil {
		if err := seal.CreateFileRoot(rootFile); err != nil {
			t.Fatal(err)
		}
		if root, err = seal.FileRoot(rootFile); err != nil {
			t.Fatal(err)
		}
	}
	store, err := seal.DirStore(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := seal.Open(context.Background(), seal.Config{Root: root, Store: store, Now: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// verify recomputes the audit log from its rows.
func (h *house) verify() {
	h.t.Helper()
	err := h.db.Read(context.Background(), func(tx *db.Tx) error { _, err := h.log.Recompute(tx, nil); return err })
	if err != nil {
		h.t.Errorf("the audit log does not verify: %v", err)
	}
}

func destination(name string, s engine.Sender, change ...func(*engine.Destination)) engine.Destination {
	d := engine.Destination{Name: name, Enabled: true, Order: engine.OrderStrict, Window: 8, OnReject: engine.Hold, OnError: engine.Hold,
		Retry: engine.Backoff{First: 5 * time.Millisecond, Max: 20 * time.Millisecond}, Sender: s}
	for _, f := range change {
		f(&d)
	}
	return d
}

func channel(d *door, change func(*engine.Channel), to ...engine.Destination) []engine.Channel {
	c := engine.Channel{Name: "adt", Enabled: true, Settings: []byte("{}"), Unacceptable: engine.AnswerAE, Source: d, Destinations: to}
	c.Admit.RejectedQuota = 1 << 20
	if change != nil {
		change(&c)
	}
	return []engine.Channel{c}
}

// adt is an invented admission.
func adt(control, patient string) string {
	return "MSH|^~\\&|WARD|NORTH|LAZARET|HUB|20260301120000||ADT^A01^ADT_A01|" + control + "|P|2.5.1\r" +
		"EVN|A01|20260301120000\rPID|1||" + patient + "^^^NORTH^MR||Invented^Person||19700101|F\rPV1|1|I|W1\r"
}

func mustAnswer(t *testing.T, answer string, err error, code string) hl7.AckResult {
	t.Helper()
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	a, err := hl7.ParseAck([]byte(answer))
	if err != nil {
		t.Fatalf("the answer is not legible: %v", err)
	}
	if string(a.Code) != code {
		t.Fatalf("answered %s (%s), want %s", a.Code, a.Text, code)
	}
	return a
}

// each runs a test on each database.
func each(t *testing.T, test func(t *testing.T, address, keys string)) {
	dbtest.Each(t, func(t *testing.T, address string) { test(t, address, t.TempDir()) }, audit.Migrate, engine.Migrate, retention.Migrate)
}

func TestAMessageArrivesAsItCame(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		d, w := newDoor(), newWard()
		h := start(t, address, keys, channel(d, nil, destination("lab", w)))
		in := adt("C1", "P1")
		answer, err := d.send(in)
		a := mustAnswer(t, answer, err, "AA")
		if a.ControlID != "C1" {
			t.Errorf("MSA-2 is %q", a.ControlID)
		}
		if got := w.wait(t, 1); got[0] != in {
			t.Errorf("the receiver got\n%q, want\n%q", got[0], in)
		}
		page, err := h.engine.List(context.Background(), engine.Actor{}, engine.Query{})
		if err != nil || len(page.Messages) != 1 {
			t.Fatalf("listed %d, %v", len(page.Messages), err)
		}
		h.settled(t)
		page, _ = h.engine.List(context.Background(), engine.Actor{}, engine.Query{})
		m := page.Messages[0]
		if m.Type != "ADT^A01" || m.ControlID != "C1" || m.From != "WARD at NORTH" || len(m.Deliveries) != 1 || m.Deliveries[0].State != "sent" {
			t.Errorf("listed as %+v", m)
		}
		detail, err := h.engine.Show(context.Background(), engine.Actor{OSUser: "kim", Purpose: "HOPERAT"}, m.ID)
		if err != nil || string(detail.Content) != in {
			t.Errorf("shown as %q, %v", detail.Content, err)
		}
		trace, err := h.engine.Trace(context.Background(), engine.Actor{}, m.ID)
		if err != nil {
			t.Fatal(err)
		}
		var events []string
		for _, e := range trace.Entries {
			events = append(events, e.Event)
		}
		if got := strings.Join(events, " "); got != "message-accepted delivery-sent patient-record" {
			t.Errorf("on record: %s", got)
		}
		h.verify()
	})
}

// settled waits until every queue is empty and its results are stored.
func (h *house) settled(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		list, err := h.engine.Channels(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		idle := true
		for _, c := range list {
			for _, d := range c.Destinations {
				if d.Waiting > 0 || !d.Oldest.IsZero() {
					idle = false
				}
			}
		}
		if idle {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the queues do not become empty")
}

func TestManySendersManyMessagesKeepTheirOrder(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		d := newDoor()
		strict, patient, none := newWard(), newWard(), newWard()
		h := start(t, address, keys, channel(d, nil,
			destination("strict", strict),
			destination("patient", patient, func(d *engine.Destination) { d.Order = engine.OrderPatient }),
			destination("none", none, func(d *engine.Destination) { d.Order = engine.OrderNone })))
		const senders, n = 8, 60
		var wg sync.WaitGroup
		for s := range senders {
			wg.Go(func() {
				for i := range n {
					answer, err := d.send(adt(fmt.Sprintf("S%d-%d", s, i), fmt.Sprintf("P%d", s)))
					if err != nil || !strings.Contains(answer, "MSA|AA|") {
						t.Errorf("answer %q, %v", answer, err)
					}
				}
			})
		}
		wg.Wait()
		for name, w := range map[string]*ward{"strict": strict, "patient": patient, "none": none} {
			mustBeInOrder(t, name, w.wait(t, senders*n), senders, n)
		}
		h.settled(t)
		h.verify()
	})
}

// mustBeInOrder checks that each sender's messages came once and in their order.
func mustBeInOrder(t *testing.T, name string, ledger []string, senders, n int) {
	t.Helper()
	if len(ledger) != senders*n {
		t.Errorf("%s: %d messages, want %d", name, len(ledger), senders*n)
	}
	next := make([]int, senders)
	for _, block := range ledger {
		m, err := hl7.Parse([]byte(block))
		if err != nil {
			t.Fatal(err)
		}
		var s, i int
		fmt.Sscanf(m.ControlID(), "S%d-%d", &s, &i)
		if i != next[s] {
			t.Errorf("%s: sender %d: message %d came where %d was due", name, s, i, next[s])
			return
		}
		next[s]++
	}
}

func TestNothingLegibleLiesInTheDatabase(t *testing.T) {
	d, w := newDoor(), newWard()
	dir := t.TempDir()
	h := start(t, "sqlite:"+filepath.Join(dir, "l.db"), t.TempDir(), channel(d, func(c *engine.Channel) { c.Admit.Duplicates = time.Hour }, destination("lab", w)))
	for i := range 20 {
		d.send(adt(fmt.Sprintf("MARKERCONTROL%d", i), "MARKERPATIENT"))
	}
	d.send("not a message: MARKERGARBAGE")
	w.wait(t, 20)
	h.settled(t)
	h.engine.List(context.Background(), engine.Actor{OSUser: "kim"}, engine.Query{Patient: "MARKERPATIENT"})
	h.stop()
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) == 0 {
		t.Fatal("no files to look into")
	}
	for _, f := range files {
		b := readFile(t, f)
		for _, marker := range []string{"MARKER", "Invented"} {
			if bytes.Contains(b, []byte(marker)) {
				t.Errorf("%s holds %q in the clear", filepath.Base(f), marker)
			}
		}
	}
}
