package faults_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/hl7/mllp"
	connect "github.com/lazaret-health/lazaret/internal/connect/mllp"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
	"github.com/lazaret-health/lazaret/internal/faults"
	"github.com/lazaret-health/lazaret/internal/transform"
)

// Bounds for whatever comes in. They are far above what good messages of the same size cost on a slow machine.
const (
	maxHeapGrowth = 160 << 20
	maxTime       = 10 * time.Second
)

const head = "MSH|^~\\&|WARD|NORTH|LAZARET|HUB|20260301120000||ADT^A01^ADT_A01|X1|P|2.5.1"

// frame is a whole MLLP block.
func frame(content string) []byte { return []byte("\x0b" + content + "\x1c\r") }

// TestBadInput sends what no sender should over a real socket and looks at the answer, at what is kept and why, at the metrics, at
// the time and at the memory. After each a good message is taken.
func TestBadInput(t *testing.T) {
	noise := make([]byte, 100<<10)
	lot := rand.NewChaCha8([32]byte{1})
	lot.Read(noise)
	binary := string(bytes.Map(func(r rune) rune { return r | 0x80 }, bytes.ReplaceAll(noise, []byte{0x1c}, nil)))
	for _, c := range []struct {
		name   string
		bytes  []byte
		long   int    // instead of bytes: a block of so many, sent as it goes
		answer string // MSA-1; "": none, and the connection ends
		code   string // in ERR: table 0357
		status string // what is kept; "": nothing
		reason string // part of the stored reason
		ended  mllp.Reason
	}{
		{name: "a block that ends with its connection", bytes: []byte("\x0b" + head + "\rPID|1||P"), ended: mllp.PeerCut},
		{name: "bytes before any block", bytes: []byte(strings.Repeat("x", 70<<10)), ended: mllp.StrayBytes},
		{name: "a block of 200 MB", long: 200 << 20, answer: "AE", code: "207", status: "rejected", reason: "longer", ended: mllp.LongBlock},
		{name: "an empty block", bytes: frame(""), answer: "AE", code: "100", status: "rejected", reason: "not legible"},
		{name: "no MSH", bytes: frame("PID|1||P1^^^NORTH^MR\r"), answer: "AE", code: "100", status: "rejected", reason: "not legible"},
		{name: "MSH behind another segment", bytes: frame("EVN|A01\r" + head + "\r"), answer: "AE", code: "100", status: "rejected", reason: "not legible"},
		{name: "MSH alone", bytes: frame("MSH"), answer: "AE", code: "100", status: "rejected", reason: "not legible"},
		{name: "separators that are letters", bytes: frame("MSHabcdefWARD\rPIDa1\r"), answer: "AE", code: "100", status: "rejected", reason: "not legible"},
		{name: "no encoding characters", bytes: frame("MSH||WARD|NORTH|LAZARET|HUB|20260301||ADT|X1|P|2.5.1\r"), answer: "AA", status: "accepted"},
		{name: "the field separator among the encoding characters", bytes: frame("MSH||||||WARD||A||ADT|X1|P|2.5.1\r"), answer: "AA", status: "accepted"},
		{name: "random bytes", bytes: frame(binary), answer: "AE", code: "100", status: "rejected", reason: "not legible"},
		{name: "random bytes in a field", bytes: frame(head + "\rOBX|1|ED|X||" + strings.NewReplacer("\r", "", "|", "", "\x0b", "").Replace(binary) + "\r"), answer: "AA", status: "accepted"},
		{name: "UTF-16, which MLLP cannot carry for sure", bytes: frame(wide(head + "\r")), answer: "AA", status: "accepted"},
		{name: "bytes that its character set does not have", bytes: frame(head + "||||||UNICODE UTF-8\rPID|1||P1||M\xfcller\r"), answer: "AA", status: "accepted"},
		{name: "a character set that nobody knows", bytes: frame(head + "||||||KLINGON\rPID|1||P1||M\xfcller\r"), answer: "AA", status: "accepted"},
		{name: "escapes without end", bytes: frame(head + "\rPID|1||P1||" + strings.Repeat(`\`, 1<<20) + "\r"), answer: "AA", status: "accepted"},
		{name: "a long hexadecimal escape", bytes: frame(head + "\rPID|1||P1||\\X" + strings.Repeat("41", 4<<20) + "\\\r"), answer: "AA", status: "accepted"},
		{name: "escapes that ask for much room", bytes: frame(head + "\rPID|1||P1||" + strings.Repeat(`\.sp999999999\`, 1<<16) + "\r"), answer: "AA", status: "accepted"},
		{name: "a million escapes", bytes: frame(head + "\rPID|1||P1||" + strings.Repeat(`\T\`, 1<<20) + "\r"), answer: "AA", status: "accepted"},
		{name: "100,000 segments", bytes: frame(head + "\r" + strings.Repeat("OBX|1|ST|X||1\r", 100000)), answer: "AA", status: "accepted"},
		{name: "a million empty segments", bytes: frame(head + strings.Repeat("\r", 1<<20)), answer: "AA", status: "accepted"},
		{name: "100,000 patients", bytes: frame(head + "\r" + patients(100000)), answer: "AA", status: "accepted"},
		{name: "100,000 identifiers of a patient", bytes: frame(head + "\rPID|1||" + identifiers(100000) + "\r"), answer: "AA", status: "accepted"},
		{name: "a million repetitions", bytes: frame(head + "\rPID|1||P1||" + strings.Repeat("~", 1<<20) + "\r"), answer: "AA", status: "accepted"},
		{name: "a million components", bytes: frame(head + "\rPID|1||P1||" + strings.Repeat("^", 1<<20) + "\r"), answer: "AA", status: "accepted"},
		{name: "a million subcomponents", bytes: frame(head + "\rPID|1||P1||" + strings.Repeat("&", 1<<20) + "\r"), answer: "AA", status: "accepted"},
		{name: "a control ID of a megabyte", bytes: frame(strings.Replace(head, "|X1|", "|"+strings.Repeat("X", 1<<20)+"|", 1) + "\r"), answer: "AA", status: "accepted"},
		{name: "a type that is no type", bytes: frame(strings.Replace(head, "ADT^A01^ADT_A01", strings.Repeat("ADT^", 1000), 1) + "\r"), answer: "AA", status: "accepted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := openGate(t)
			before := g.counters()
			conn, err := net.Dial("tcp", g.source.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(maxTime))
			heap := watchHeap()
			start := time.Now()
			if c.long > 0 {
				sendLong(conn, c.long)
			} else if _, err := conn.Write(c.bytes); err != nil && c.ended == "" {
				t.Fatal(err)
			}
			if c.answer == "" {
				conn.(*net.TCPConn).CloseWrite()
			}
			block, err := mllp.NewReader(conn, 0).Next()
			took := time.Since(start)
			if c.answer == "" {
				if err == nil {
					t.Errorf("it was answered %q", block)
				}
			} else {
				g.mustAnswer(t, block, err, c.answer, c.code)
			}
			if c.status == "accepted" {
				g.receiver.Wait(t, 1)
			}
			if grew := heap(); grew > maxHeapGrowth {
				t.Errorf("the heap grew by %d MiB", grew>>20)
			}
			if took > maxTime/2 {
				t.Errorf("the answer took %s", took)
			}
			g.mustKeep(t, c.status, c.reason)
			g.mustCount(t, before, c.status, c.ended)
			g.mustTakeGood(t)
		})
	}
}

// gate is a channel with a real socket, whose destination opens fields of each message.
type gate struct {
	*site
	source   *connect.Source
	receiver *faults.Receiver
}

func openGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{receiver: faults.NewReceiver()}
	filter, err := transform.CompileExpr(`PID-5.1 != "nobody"`)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := transform.CompileSteps([]transform.Step{{Set: []transform.Assignment{{Field: "MSH-5", Expr: "PID-3.1"}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	channels := channel(nil, destination("lab", g.receiver, func(d *engine.Destination) {
		d.Filter, d.Steps, d.Order, d.OnError = filter, steps, engine.OrderPatient, engine.Skip
	}))
	set := metrics.NewSet()
	channels[0].Admit.RejectedQuota = 64 << 20
	g.source, err = connect.NewSource(connect.SourceConfig{Channel: "adt", Listen: "127.0.0.1:0", Now: time.Now, Log: slog.New(slog.DiscardHandler),
		DrainTimeout: time.Second, Metrics: set})
	if err != nil {
		t.Fatal(err)
	}
	channels[0].Source = g.source
	if g.site, err = openCounted(t, dbtest.SQLite(t), t.TempDir(), channels, set, true, nil); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gate) mustAnswer(t *testing.T, block []byte, err error, code, errorCode string) {
	t.Helper()
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	ack, err := hl7.ParseAck(block)
	if err != nil {
		t.Fatalf("the answer is not legible: %v", err)
	}
	if string(ack.Code) != code || ack.ErrorCode != errorCode {
		t.Errorf("answered %s with error %q (%s), want %s with %q", ack.Code, ack.ErrorCode, ack.Text, code, errorCode)
	}
}

// mustKeep checks what is stored of the one message that came.
func (g *gate) mustKeep(t *testing.T, status, reason string) {
	t.Helper()
	page, err := g.engine.List(context.Background(), engine.Actor{}, engine.Query{})
	if err != nil {
		t.Fatal(err)
	}
	if status == "" {
		if len(page.Messages) != 0 {
			t.Errorf("%d messages are kept of nothing whole", len(page.Messages))
		}
		return
	}
	if len(page.Messages) != 1 {
		t.Fatalf("%d messages are kept", len(page.Messages))
	}
	m := page.Messages[0]
	if m.Status != status || !strings.Contains(m.Reason, reason) || (status == "rejected") != (m.Reason != "") {
		t.Errorf("kept as %s for %q, want %s for %q", m.Status, m.Reason, status, reason)
	}
}

// counters reads all counters of the site.
func (g *gate) counters() string {
	var b bytes.Buffer
	g.metrics.WritePrometheus(&b)
	return b.String()
}

// mustCount checks that what happened is in the metrics.
func (g *gate) mustCount(t *testing.T, before, status string, ended mllp.Reason) {
	t.Helper()
	want := ""
	switch {
	case status != "":
		want = fmt.Sprintf(`lazaret_messages_total{channel="adt",result=%q} 1`, status)
	case ended != "":
		want = fmt.Sprintf(`lazaret_mllp_connections_ended_total{channel="adt",reason=%q} 1`, ended)
	}
	for range 200 { // a connection is counted when it is over on both sides
		if strings.Contains(g.counters(), want) && !strings.Contains(before, want) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("the metrics do not say %s", want)
}

func (g *gate) mustTakeGood(t *testing.T) {
	t.Helper()
	c := &mllp.Client{Addr: g.source.Addr()}
	defer c.Close()
	answer, err := c.Send(context.Background(), []byte(adt("GOOD", "P9", 0)))
	g.mustAnswer(t, answer, err, "AA", "")
}

// watchHeap returns a function that says by how much the heap had grown at its largest.
func watchHeap() (stop func() uint64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	first, most := m.HeapAlloc, m.HeapAlloc
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-end:
				return
			case <-time.After(10 * time.Millisecond):
			}
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}()
	return func() uint64 {
		close(end)
		<-done
		return most - first
	}
}

// sendLong sends a block in pieces, without holding it, until it is done or turned away.
func sendLong(w io.Writer, n int) {
	piece := []byte(strings.Repeat("OBX|1|ST|X||1\r", 1<<12))
	sent, _ := w.Write([]byte("\x0b" + head + "\r"))
	for sent < n {
		k, err := w.Write(piece)
		if err != nil {
			return
		}
		sent += k
	}
	w.Write([]byte("\x1c\r"))
}

func wide(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		b.WriteByte(0)
		b.WriteByte(c)
	}
	return b.String()
}

func patients(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "PID|1||Q%d\r", i)
	}
	return b.String()
}

func identifiers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "Q%d~", i)
	}
	return b.String()
}
