package faults_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/goleak"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/faults"
	"github.com/lazaret-health/lazaret/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is an engine with its database and keys, over which a test has power.
type site struct {
	t       testing.TB
	db      *db.DB
	log     *audit.Log
	engine  *engine.Engine
	metrics *metrics.Set
	stop    func()
}

// openSite opens database, keys and engine; with run it also serves.
func openSite(t testing.TB, address, keys string, channels []engine.Channel, run bool, change func(*db.Config)) (*site, error) {
	t.Helper()
	return openCounted(t, address, keys, channels, metrics.NewSet(), run, change)
}

// openCounted is openSite with a set of metrics that the transports count in too.
func openCounted(t testing.TB, address, keys string, channels []engine.Channel, set *metrics.Set, run bool, change func(*db.Config)) (*site, error) {
	t.Helper()
	ctx := context.Background()
	s := &site{t: t, metrics: set}
	cfg := dbtest.Config(t, address)
	cfg.Log = slog.New(slog.DiscardHandler)
	if change != nil {
		change(&cfg)
	}
	var err error
	if s.db, err = db.Open(ctx, cfg); err != nil {
		return nil, err
	}
	ring, err := openRing(keys)
	if err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	closeAll := func() {
		s.db.Close()
		ring.Close()
	}
	if s.log, err = audit.New(ctx, audit.Config{DB: s.db, Keys: ring, Rand: rand.Reader}); err != nil {
		closeAll()
		return nil, err
	}
	s.engine, err = engine.New(ctx, engine.Config{DB: s.db, Keys: ring, Audit: s.log, Now: time.Now, Rand: rand.Reader,
		Log: cfg.Log, Metrics: s.metrics, Organisation: "st-mary", Channels: channels})
	if err != nil {
		closeAll()
		return nil, err
	}
	if !run {
		s.stop = closeAll
		return s, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.engine.Run(ctx) }()
	var once sync.Once
	s.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, db.ErrStopped) {
				t.Errorf("the engine ended with %v", err)
			}
			closeAll()
		})
	}
	t.Cleanup(s.stop)
	<-s.engine.Ready()
	return s, nil
}

func openRing(dir string) (*seal.Ring, error) {
	file := filepath.Join(dir, "root", "key")
	root, err := seal.FileRoot(file)
	if err != nil {
		if err := seal.CreateFileRoot(file); err != nil {
			return nil, err
		}
		if root, err = seal.FileRoot(file); err != nil {
			return nil, err
		}
	}
	store, err := seal.DirStore(filepath.Join(dir, "data"))
	if err != nil {
		return nil, err
	}
	return seal.Open(context.Background(), seal.Config{Root: root, Store: store, Now: time.Now, Rand: rand.Reader})
}

// channel is one channel with the usual settings.
func channel(s engine.Source, to ...engine.Destination) []engine.Channel {
	c := engine.Channel{Name: "adt", Enabled: true, Settings: []byte("{}"), Unacceptable: engine.AnswerAE, Source: s, Destinations: to}
	c.Admit.RejectedQuota, c.Admit.Duplicates = 1<<20, time.Hour
	return []engine.Channel{c}
}

func destination(name string, s engine.Sender, change ...func(*engine.Destination)) engine.Destination {
	d := engine.Destination{Name: name, Enabled: true, Order: engine.OrderStrict, Window: 8, OnReject: engine.Retry, OnError: engine.Hold,
		Retry: engine.Backoff{First: 5 * time.Millisecond, Max: 50 * time.Millisecond}, Sender: s}
	for _, f := range change {
		f(&d)
	}
	return d
}

// door is a source that a test knocks at directly.
type door struct{ handler chan engine.Handler }

func newDoor() *door { return &door{make(chan engine.Handler, 1)} }

func (d *door) Open() error  { return nil }
func (d *door) Addr() string { return "in process" }
func (d *door) Run(ctx context.Context, h engine.Handler) error {
	d.handler <- h
	<-ctx.Done()
	return nil
}

var ward = engine.Peer{Name: "ward", Addr: netip.MustParseAddrPort("127.0.0.1:40000")}

// inbox is a receiver that takes everything.
type inbox struct{}

func (inbox) Send(context.Context, []byte) (engine.Reply, error) {
	return engine.Reply{Taken: true, Code: "AA"}, nil
}
func (inbox) Close() error { return nil }

// adt is an invented admission, padded to so many bytes.
func adt(control, patient string, size int) string {
	m := "MSH|^~\\&|WARD|NORTH|LAZARET|HUB|20260301120000||ADT^A01^ADT_A01|" + control + "|P|2.5.1\r" +
		"EVN|A01|20260301120000\rPID|1||" + patient + "^^^NORTH^MR||Invented^Person||19700101|F\rPV1|1|I|W1\r"
	if len(m) < size {
		m += "ZPD|" + strings.Repeat("x", size-len(m)-5) + "\r"
	}
	return m
}

// messages lists everything stored, by control ID; a control ID that is stored twice is an error.
func (s *site) messages() (map[string]engine.Summary, error) {
	byID := map[string]engine.Summary{}
	q := engine.Query{Limit: 1000, Status: "accepted"}
	for {
		page, err := s.engine.List(context.Background(), engine.Actor{}, q)
		if err != nil {
			return nil, err
		}
		for _, m := range page.Messages {
			if _, twice := byID[m.ControlID]; twice {
				return nil, fmt.Errorf("message %s is stored twice", m.ControlID)
			}
			byID[m.ControlID] = m
		}
		if q.Before = page.Next; q.Before == 0 {
			return byID, nil
		}
	}
}

// recorded counts the entries of an event, by the message they are about.
func (s *site) recorded(event audit.Event) (map[string]int, error) {
	n := map[string]int{}
	err := s.db.Read(context.Background(), func(tx *db.Tx) error {
		q := audit.Query{AllOrgs: true, Event: event, Limit: 1000}
		for {
			page, err := s.log.Search(tx, q)
			if err != nil {
				return err
			}
			for _, r := range page.Records {
				n[r.ResourceID]++
			}
			if q.Seq = page.Next; q.Seq == 0 {
				return nil
			}
		}
	})
	return n, err
}

func (s *site) recompute() error {
	return s.db.Read(context.Background(), func(tx *db.Tx) error { _, err := s.log.Recompute(tx, nil); return err })
}

// settled waits until every queue is empty and its results are stored.
func (s *site) settled(t testing.TB) {
	t.Helper()
	for range 12000 {
		list, err := s.engine.Channels(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		idle := true
		for _, c := range list {
			for _, d := range c.Destinations {
				idle = idle && d.Waiting == 0 && d.Oldest.IsZero()
			}
		}
		if idle {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the queues do not become empty")
}

// marked lists a destination's deliveries in the order of acceptance.
func (s *site) marked(t testing.TB, name string) (list []faults.Stored) {
	t.Helper()
	byID, err := s.messages()
	if err != nil {
		t.Fatal(err)
	}
	all := slices.SortedFunc(maps.Values(byID), func(a, b engine.Summary) int { return int(a.Number - b.Number) })
	for _, m := range all {
		for _, d := range m.Deliveries {
			if d.Destination == name {
				list = append(list, faults.Stored{ControlID: m.ControlID,
					Marked: strings.Contains(strings.Join(d.Notes, " "), "possible duplicate")})
			}
		}
	}
	return list
}
