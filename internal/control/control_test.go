package control_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/goleak"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/connect/mllp"
	"github.com/lazaret-health/lazaret/internal/control"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/seal"

	wire "github.com/lazaret-health/lazaret/hl7/mllp"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(strangerSocket); path != "" {
		os.Exit(beStranger(path))
	}
	goleak.VerifyTestMain(m)
}

// site is a running engine with a control server before it.
type site struct {
	socket, mllp string
	client       *control.Client
	log          *lockedBuffer
	healthy      error // what the probes are told; set before asking
	db           *db.DB
	audit        *audit.Log
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T) *site { return startFor(t, uint32(os.Geteuid())) }

// startFor makes a site whose socket is this user's.
func startFor(t *testing.T, owner uint32) *site {
	t.Helper()
	s := &site{log: &lockedBuffer{}}
	log := slog.New(slog.NewTextHandler(s.log, nil))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	s.db = dbtest.Open(t, dbtest.Config(t, dbtest.SQLite(t)))
	keys := filepath.Join(t.TempDir(), "keys")
	must(t, seal.CreateFileRoot(filepath.Join(keys, "root")))
	root, err := seal.FileRoot(filepath.Join(keys, "root"))
	must(t, err)
	store, err := seal.DirStore(filepath.Join(keys, "data"))
	must(t, err)
	ring, err := seal.Open(ctx, seal.Config{Root: root, Store: store, Now: time.Now, Rand: rand.Reader})
	must(t, err)
	t.Cleanup(ring.Close)
	s.audit, err = audit.New(ctx, audit.Config{DB: s.db, Keys: ring, Rand: rand.Reader})
	must(t, err)
	source, err := mllp.NewSource(mllp.SourceConfig{Channel: "adt", Listen: "127.0.0.1:0", Now: time.Now, Log: log})
	must(t, err)
	sender, err := mllp.NewSender(mllp.SenderConfig{Address: "127.0.0.1:1", ConnectTimeout: time.Second, AnswerTimeout: time.Second, Now: time.Now, Log: log})
	must(t, err)
	set := metrics.NewSet()
	e, err := engine.New(ctx, engine.Config{DB: s.db, Keys: ring, Audit: s.audit, Now: time.Now, Rand: rand.Reader, Log: log, Metrics: set, Organisation: "st-mary",
		Channels: []engine.Channel{{Name: "adt", Enabled: true, Settings: []byte("{}"), Unacceptable: engine.AnswerAE, Source: source,
			Admit: engine.Admit{Types: []string{"ADT^*"}, RejectedQuota: 1 << 20},
			Destinations: []engine.Destination{{Name: "lab", Enabled: true, Order: engine.OrderStrict, Window: 1, OnReject: engine.Hold, OnError: engine.Hold,
				Retry: engine.Backoff{First: time.Hour, Max: time.Hour}, Timeout: time.Second, Sender: sender}}}}})
	must(t, err)
	probes := &control.Probes{Healthy: func() error { return s.healthy }, Ready: e.Ready(), Metrics: set, Log: log}
	server, err := control.New(control.Config{Engine: e, Probes: probes, Owner: owner, Log: log, Now: time.Now, Rand: rand.Reader})
	must(t, err)
	s.socket = filepath.Join(t.TempDir(), "run", "control.sock")
	ln, err := control.Listen(s.socket)
	must(t, err)
	wg.Go(func() {
		if err := server.Serve(ctx, ln); err != nil {
			t.Errorf("Serve ended with %v", err)
		}
	})
	wg.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
	<-e.Ready()
	s.mllp = source.Addr()
	s.client = control.Dial(s.socket, "control test")
	t.Cleanup(s.client.Close)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// send sends an invented admission of a patient.
func (s *site) send(t *testing.T, id, patient string) {
	t.Helper()
	c := &wire.Client{Addr: s.mllp, AnswerTimeout: 10 * time.Second}
	defer c.Close()
	block := fmt.Sprintf("MSH|^~\\&|HIS|STMARY|LAZARET|STMARY|20260301120000||ADT^A01^ADT_A01|%s|P|2.5.1\rPID|1||%s^^^STMARY^MR||Testperson^Ada\r", id, patient)
	answer, err := c.Send(t.Context(), []byte(block))
	if err != nil || !bytes.Contains(answer, []byte("MSA|AA|")) {
		t.Fatalf("send %s: %q, %v", id, answer, err)
	}
}

func TestMessages(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	s.send(t, "C1", "4711")
	s.send(t, "C2", "4712")
	page, err := s.client.List(ctx, "TREAT", control.Search{Patient: "4711"})
	must(t, err)
	if len(page.Messages) != 1 || page.Messages[0].ControlID != "C1" {
		t.Fatalf("the patient's messages: %+v, want C1", page.Messages)
	}
	id := page.Messages[0].ID.String()
	d, err := s.client.Show(ctx, "TREAT", id)
	must(t, err)
	if !bytes.Contains(d.Content, []byte("Testperson^Ada")) {
		t.Errorf("content: %q", d.Content)
	}
	list, err := s.client.Resend(ctx, id, []string{"lab"})
	must(t, err)
	if len(list) != 1 || list[0].Destination != "lab" {
		t.Errorf("resent: %+v", list)
	}
	trace, err := s.client.Trace(ctx, id)
	must(t, err)
	me, err := user.Current()
	must(t, err)
	var read, resent bool
	for _, e := range trace.Entries {
		switch e.Event {
		case string(audit.ContentRead):
			read = e.OSUser == me.Username && e.Purpose == "TREAT"
		case string(audit.MessageResent):
			resent = e.OSUser == me.Username
		}
	}
	if !read || !resent {
		t.Errorf("reading on record as %s for TREAT: %v, resending: %v; entries %+v", me.Username, read, resent, trace.Entries)
	}
	if strings.Contains(s.log.String(), "4711") || strings.Contains(s.log.String(), "Testperson") {
		t.Error("the log names a patient")
	}
	empty, err := s.client.List(ctx, "", control.Search{Type: "ORU"})
	must(t, err)
	if empty.Messages == nil || len(empty.Messages) != 0 {
		t.Errorf("an empty list is %v, want an empty one and not null", empty.Messages)
	}
}

func TestSwitches(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	state := func() (channel, destination string) {
		list, err := s.client.Channels(ctx)
		must(t, err)
		return list[0].State, list[0].Destinations[0].State
	}
	wait := func(what string, good func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !good(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				ch, d := state()
				t.Fatalf("%s: channel %q, destination %q", what, ch, d)
			}
		}
	}
	must(t, s.client.PauseDestination(ctx, "adt", "lab"))
	wait("pause", func() bool { _, d := state(); return d == "paused" })
	must(t, s.client.ResumeDestination(ctx, "adt", "lab"))
	wait("resume", func() bool { _, d := state(); return d != "paused" })
	must(t, s.client.StopChannel(ctx, "adt"))
	wait("stop", func() bool { ch, _ := state(); return ch == "stopped" })
	must(t, s.client.StartChannel(ctx, "adt"))
	wait("start", func() bool { ch, _ := state(); return ch == "listening" })
}

func TestProblems(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		name, method, path, body, purpose string
		status                            int
		title, detail, not                string
	}{
		{name: "an unknown id is not found", method: "POST", path: "/v1/messages/01993a5e-8c1f-7d3a-b5f2-6f0c3b1d2e4a/trace", status: 404, title: "not found"},
		{name: "what is no id is not found either", method: "POST", path: "/v1/messages/4711/trace", status: 404, title: "not found"},
		{name: "content needs a purpose", method: "POST", path: "/v1/messages/01993a5e-8c1f-7d3a-b5f2-6f0c3b1d2e4a/show", status: 400, title: "the request is wrong"},
		{name: "a purpose that there is not", method: "POST", path: "/v1/messages/01993a5e-8c1f-7d3a-b5f2-6f0c3b1d2e4a/show", purpose: "CURIOSITY", status: 400, title: "unknown purpose of use"},
		{name: "a key that the search does not have, and the answer does not repeat it", method: "POST", path: "/v1/messages/search", body: `{"secret4711": "x"}`, status: 400, title: "the request is wrong", not: "secret4711"},
		{name: "more behind the search", method: "POST", path: "/v1/messages/search", body: `{} {}`, status: 400, title: "the request is wrong"},
		{name: "a search of a megabyte", method: "POST", path: "/v1/messages/search", body: `{"patient": "` + strings.Repeat("9", 1<<20) + `"}`, status: 413, title: "the request is too long"},
		{name: "an unknown channel", method: "POST", path: "/v1/channels/nobody/stop", status: 404, title: "not found", detail: `channel "nobody"`},
		{name: "an unknown destination", method: "POST", path: "/v1/channels/adt/destinations/nobody/pause", status: 404, title: "not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := http.NewRequest(c.method, "http://lazaret"+c.path, strings.NewReader(c.body))
			must(t, err)
			if c.purpose != "" {
				r.Header.Set("Lazaret-Purpose", c.purpose)
			}
			status, kind, text := s.ask(t, r)
			var p control.Problem
			if err := json.Unmarshal([]byte(text), &p); err != nil || status != c.status || kind != "application/problem+json" {
				t.Fatalf("%d %s: %s (%v)", status, kind, text, err)
			}
			if p.Status != c.status || p.Title != c.title || !strings.HasPrefix(p.Instance, "urn:uuid:") {
				t.Errorf("problem %+v, want %d %q", p, c.status, c.title)
			}
			if c.detail != "" && p.Detail != c.detail {
				t.Errorf("detail %q, want %q", p.Detail, c.detail)
			}
			if c.not != "" && (strings.Contains(text, c.not) || strings.Contains(s.log.String(), c.not)) {
				t.Errorf("%q came back in %s or the log", c.not, text)
			}
		})
	}
	t.Run("nothing can be changed by GET", func(t *testing.T) {
		for _, path := range []string{"/v1/channels/adt/stop", "/v1/messages/search", "/v1/messages/x/show"} {
			r, err := http.NewRequest("GET", "http://lazaret"+path, nil)
			must(t, err)
			if status, _, _ := s.ask(t, r); status != http.StatusMethodNotAllowed {
				t.Errorf("GET %s: %d", path, status)
			}
		}
	})
}

// ask sends a request as it stands, past the client.
func (s *site) ask(t *testing.T, r *http.Request) (status int, kind, text string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.socket)
	}}
	answer, err := transport.RoundTrip(r)
	must(t, err)
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	must(t, err)
	return answer.StatusCode, answer.Header.Get("Content-Type"), string(b)
}

func TestProbes(t *testing.T) {
	set := metrics.NewSet()
	set.NewCounter("lazaret_test_total").Add(7)
	ready := make(chan struct{})
	var unwell error
	p := &control.Probes{Healthy: func() error { return unwell }, Ready: ready, Metrics: set, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, ln) }()
	get := func(path string) (int, string) {
		t.Helper()
		transport := &http.Transport{DisableKeepAlives: true}
		r, err := http.NewRequest("GET", "http://"+ln.Addr().String()+path, nil)
		must(t, err)
		answer, err := transport.RoundTrip(r)
		must(t, err)
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		must(t, err)
		return answer.StatusCode, string(b)
	}
	want := func(path string, status int, holds string) {
		t.Helper()
		if got, text := get(path); got != status || !strings.Contains(text, holds) {
			t.Errorf("%s: %d %q, want %d with %q", path, got, text, status, holds)
		}
	}
	want("/healthz", 200, "ok")
	want("/readyz", 503, "no")
	close(ready)
	want("/readyz", 200, "ok")
	want("/metrics", 200, "lazaret_test_total 7")
	unwell = errors.New("fsync of /secret/path failed")
	want("/healthz", 503, "no")
	want("/readyz", 503, "no")
	if _, text := get("/healthz"); strings.Contains(text, "secret") {
		t.Errorf("the probe tells why: %q", text)
	}
	want("/v1/channels", 404, "")
	want("/v1/messages/search", 404, "")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve ended with %v", err)
	}
}
