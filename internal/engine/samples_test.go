package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/hl7/mllp"
	connect "github.com/lazaret-health/lazaret/internal/connect/mllp"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// collectedMessages reads the collection of real sample messages that lies beside the project, where there is one.
func collectedMessages(t *testing.T) (messages [][]byte, files int) {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Skip("no go.mod above the test: the sample messages cannot be found")
		}
		dir = filepath.Dir(dir)
	}
	root := filepath.Join(dir, "..", "shared", "data")
	if _, err := os.Stat(root); err != nil {
		t.Skip("the folder of sample messages is not beside the project; nothing to send")
	}
	endings := []string{".hl7", ".txt", ".er7", ".hl7v2", ".mllp"}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains(endings, strings.ToLower(filepath.Ext(path))) || strings.HasPrefix(d.Name(), "LICENSE") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		contents := [][]byte{b}
		if strings.EqualFold(filepath.Ext(path), ".mllp") {
			contents = nil
			for r := mllp.NewReader(bytes.NewReader(b), 0); ; {
				block, err := r.Next()
				if err != nil {
					break
				}
				contents = append(contents, block)
			}
		}
		for _, c := range contents {
			for part := range hl7.SplitBatch(c) {
				if part.Kind == hl7.MessagePart {
					messages = append(messages, part.Raw)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return messages, files
}

// A receiver is an MLLP server that takes everything and keeps its bytes.
type receiver struct {
	mu  sync.Mutex
	got [][]byte
}

func (r *receiver) Handle(_ context.Context, _ *mllp.Peer, block []byte) ([]byte, error) {
	m, err := hl7.Parse(block)
	if err != nil {
		return hl7.NewAckRaw(block, hl7.Ack{Code: hl7.AE, ControlID: "R"}), nil
	}
	r.mu.Lock()
	r.got = append(r.got, block)
	r.mu.Unlock()
	return hl7.NewAck(m, hl7.Ack{Code: hl7.AA, ControlID: "R"}), nil
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

// TestTheCollectionGoesThrough sends every collected message over real sockets: in by MLLP, sealed, stored, and out by MLLP to a
// receiver, byte for byte and in order. What nobody can read is refused, and kept byte for byte.
func TestTheCollectionGoesThrough(t *testing.T) {
	messages, files := collectedMessages(t)
	if len(messages) < 1170 {
		t.Errorf("the collection has 1,170 messages; only %d were found", len(messages))
	}
	each(t, func(t *testing.T, address, keys string) {
		log := slog.New(slog.NewTextHandler(t.Output(), nil))
		r := &receiver{}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		serving, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- (&mllp.Server{Handler: r, Log: log}).Serve(serving, ln) }()
		defer func() { stop(); <-ended }()

		source, err := connect.NewSource(connect.SourceConfig{Channel: "all", Listen: "127.0.0.1:0", Now: time.Now, Log: log, Metrics: metrics.NewSet()})
		if err != nil {
			t.Fatal(err)
		}
		sender, err := connect.NewSender(connect.SenderConfig{Address: ln.Addr().String(), AnswerTimeout: 10 * time.Second, Now: time.Now, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		channels := channel(newDoor(), func(c *engine.Channel) { c.Source, c.Admit.RejectedQuota = source, 64<<20 },
			destination("lab", sender, func(d *engine.Destination) { d.Window = 64 }))
		h := start(t, address, keys, channels)

		conn, err := net.Dial("tcp", source.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		answers := mllp.NewReader(conn, 0)
		var taken, refused [][]byte
		silent := 0
		for i, block := range messages {
			frame, err := mllp.AppendFrame(nil, block)
			if err != nil {
				t.Fatalf("message %d cannot be framed: %v", i+1, err)
			}
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := conn.Write(frame); err != nil {
				t.Fatal(err)
			}
			m, illegible := hl7.Parse(block)
			if illegible == nil {
				taken = append(taken, block)
				if accept, _ := hl7.AckConditions(m); accept == "NE" || accept == "ER" {
					silent++
					continue
				}
			} else {
				refused = append(refused, block)
			}
			answer, err := answers.Next()
			if err != nil {
				t.Fatalf("message %d got no answer: %v", i+1, err)
			}
			a, err := hl7.ParseAck(answer)
			if err != nil || a.Code.Accepted() != (illegible == nil) || illegible == nil && a.ControlID != m.ControlID() {
				t.Errorf("message %d was answered %+v, %v; legible: %v", i+1, a, err, illegible)
			}
		}
		eventually(t, fmt.Sprintf("%d messages at the receiver", len(taken)), func() bool { return r.count() >= len(taken) })
		h.settled(t)
		different := 0
		for i, got := range r.got {
			if i >= len(taken) || !bytes.Equal(got, taken[i]) {
				different++
			}
		}
		if len(r.got) != len(taken) || different > 0 {
			t.Errorf("%d arrived, %d of them not what was sent at that place; want %d", len(r.got), different, len(taken))
		}
		kept := h.list(engine.Query{Status: "rejected", Limit: 1000})
		slices.Reverse(kept)
		if len(kept) != len(refused) {
			t.Fatalf("%d are kept as rejected, want %d", len(kept), len(refused))
		}
		for i, m := range kept {
			d, err := h.engine.Show(context.Background(), clerk(), m.ID)
			if err != nil || !bytes.Equal(d.Content, refused[i]) || m.Reason == "" {
				t.Errorf("rejected message %d is not kept as it came: %v", i+1, err)
			}
		}
		h.verify()
		t.Logf("%d messages of %d files: %d through byte for byte and in order (%d of them asked for no answer), %d refused and kept byte for byte",
			len(messages), files, len(r.got), silent, len(kept))
	})
}
