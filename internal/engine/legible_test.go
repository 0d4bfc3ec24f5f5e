package engine_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// A tap lies on the line to PostgreSQL and keeps what goes to the server.
type tap struct {
	mu   sync.Mutex
	sent bytes.Buffer
}

func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent.Write(b)
}

// on starts listening before the server of address and returns the address that leads through it.
func (p *tap) on(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	server := u.Host
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var lines sync.WaitGroup
	t.Cleanup(func() { ln.Close(); lines.Wait() })
	lines.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			lines.Go(func() { io.Copy(io.MultiWriter(far, p), client); far.Close() })
			lines.Go(func() { io.Copy(client, far); client.Close() })
		}
	})
	u.Host = ln.Addr().String()
	return u.String()
}

// TestNothingLegibleGoesToPostgreSQL listens to all that the engine says to the server: statements and values. So nothing that the
// server could log, pgAudit could copy or somebody on the way could read says who a message is about. Types, peers and times do go.
func TestNothingLegibleGoesToPostgreSQL(t *testing.T) {
	if os.Getenv(dbtest.Variable) == "" {
		t.Skip("no " + dbtest.Variable + `: the suite "postgres" runs this`)
	}
	p := &tap{}
	address := p.on(t, split(t).App)
	d, w := newDoor(), newWard()
	h := start(t, address, t.TempDir(), channel(d, func(c *engine.Channel) { c.Admit.Duplicates = time.Hour },
		destination("lab", w, func(c *engine.Destination) { c.Steps = steps(t, "PV1-3", "MARKERSTEP") })))
	const markers = "MARKERCONTROL MARKERPATIENT MARKERFAMILY MARKERGIVEN MARKERSTREET MARKERSSN MARKERNOTE MARKERGARBAGE MARKERSTEP 19010203"
	for i := range 20 {
		d.mustSend(t, strings.NewReplacer("Invented^Person", "MARKERFAMILY^MARKERGIVEN", "19700101|F\r", "19010203|F|||MARKERSTREET||||||||MARKERSSN\rNTE|1||MARKERNOTE\r").
			Replace(adt(fmt.Sprintf("MARKERCONTROL%d", i), "MARKERPATIENT")))
	}
	d.mustSend(t, adt("MARKERCONTROL1", "MARKERPATIENT"))
	d.send("not a message: MARKERGARBAGE")
	w.wait(t, 21)
	h.settled(t)
	if found := h.list(engine.Query{Patient: "MARKERPATIENT", ControlID: "MARKERCONTROL3"}); len(found) != 1 {
		t.Fatalf("found %d messages, want 1", len(found))
	} else {
		if _, err := h.engine.Show(context.Background(), clerk(), found[0].ID); err != nil {
			t.Fatal(err)
		}
		if _, err := h.engine.Resend(context.Background(), clerk(), found[0].ID, nil); err != nil {
			t.Fatal(err)
		}
	}
	w.wait(t, 22)
	h.settled(t)
	h.stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !bytes.Contains(p.sent.Bytes(), []byte("ADT^A01")) || !bytes.Contains(p.sent.Bytes(), []byte("INSERT INTO message")) {
		t.Fatal("the tap heard nothing of it")
	}
	for marker := range strings.FieldsSeq(markers) {
		for how, text := range map[string]string{"as it is": marker, "in small letters": strings.ToLower(marker), "in hexadecimal": hex.EncodeToString([]byte(marker)),
			"in base64": base64.StdEncoding.EncodeToString([]byte(marker))[:len(marker)/3*4]} {
			if bytes.Contains(p.sent.Bytes(), []byte(text)) {
				t.Errorf("%s went to the server, %s", marker, how)
			}
		}
	}
	t.Logf("%d bytes heard", p.sent.Len())
}
