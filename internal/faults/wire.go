package faults

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// A Cut says at which statement a connection to PostgreSQL breaks, and what of it is carried out.
type Cut struct {
	SQL   string // how the statement begins
	After int    // so many go well first
	Times int    // so many break; 0: until Heal
	Kept  bool   // the server gets the statement and carries it out, only its answer is lost
	Panic bool   // the answer is that of a server which cannot sync its log, and then the connection ends
}

// A Wire is what a program believes to be its PostgreSQL server.
type Wire struct {
	target string
	url    string
	ln     net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	cut   *Cut
	seen  int
	cuts  int
	dead  bool
	conns map[net.Conn]bool
}

// NewWire lies before the server at address, for as long as the test runs.
func NewWire(t testing.TB, address string) *Wire {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("the server's address is no URL")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{target: u.Host, ln: ln, conns: map[net.Conn]bool{}}
	u.Host = ln.Addr().String()
	q := u.Query()
	q.Set("sslmode", "disable") // the wire reads what it carries
	u.RawQuery = q.Encode()
	w.url = u.String()
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		ln.Close()
		w.Kill()
		w.wg.Wait()
	})
	return w
}

// URL is the address that leads through the wire.
func (w *Wire) URL() string { return w.url }

// Cut arms the wire; it replaces an earlier cut.
func (w *Wire) Cut(c Cut) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut, w.seen, w.cuts = &c, 0, 0
}

// Cuts is how many connections were cut since Cut.
func (w *Wire) Cuts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cuts
}

// Heal cuts no more.
func (w *Wire) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = nil
}

// Kill ends all connections and refuses new ones: the process is dead, or the server is out of reach.
func (w *Wire) Kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
	for c := range w.conns {
		c.Close()
	}
}

// Drop ends all connections, as a server does that is restarted; new ones come in.
func (w *Wire) Drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		c.Close()
	}
}

// Revive lets connections in again.
func (w *Wire) Revive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead, w.cut = false, nil
}

func (w *Wire) accept() {
	for {
		c, err := w.ln.Accept()
		if err != nil {
			return
		}
		w.wg.Go(func() { w.carry(c) })
	}
}

// keep remembers a connection for Kill; false: there is no getting through.
func (w *Wire) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		c.Close()
		return false
	}
	w.conns[c] = true
	return true
}

// talk is one connection, both ways.
type talk struct {
	wire           *Wire
	client, server net.Conn
	stmts          map[string]string // name -> SQL

	mu       sync.Mutex
	swallow  bool // answers are lost from now on, and the connection with the end of the statement
	panicked bool
}

func (w *Wire) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !w.keep(client) || !w.keep(server) {
		return
	}
	defer func() {
		w.mu.Lock()
		delete(w.conns, client)
		delete(w.conns, server)
		w.mu.Unlock()
	}()
	t := &talk{wire: w, client: client, server: server, stmts: map[string]string{}}
	var back sync.WaitGroup
	back.Go(func() {
		t.answers()
		client.Close()
		server.Close()
	})
	t.statements()
	// The client is gone, or was cut off; a statement under way still ends at the server.
	t.mu.Lock()
	swallow := t.swallow
	t.mu.Unlock()
	if !swallow {
		server.Close()
	}
	back.Wait()
}

// message reads one message of the protocol: its type (0 at the start) and all its bytes.
func message(r *bufio.Reader, start bool) (kind byte, raw []byte, err error) {
	head := 5
	if start {
		head = 4
	}
	raw = make([]byte, head)
	if _, err := io.ReadFull(r, raw); err != nil {
		return 0, nil, err
	}
	if !start {
		kind = raw[0]
	}
	n := int(binary.BigEndian.Uint32(raw[head-4:]))
	if n < 4 || n > 1<<30 {
		return 0, nil, errors.New("no message of the protocol")
	}
	raw = append(raw, make([]byte, n-4)...)
	_, err = io.ReadFull(r, raw[head:])
	return kind, raw, err
}

// statements carries what the client says, until a cut.
func (t *talk) statements() {
	r := bufio.NewReader(t.client)
	for start := true; ; start = false {
		kind, raw, err := message(r, start)
		if err != nil {
			return
		}
		sql := ""
		switch kind {
		case 'Q':
			sql = text(raw[5:])
		case 'P':
			name := text(raw[5:])
			t.stmts[name] = text(raw[5+len(name)+1:])
		case 'B':
			portal := text(raw[5:])
			sql = t.stmts[text(raw[5+len(portal)+1:])]
		}
		if c, now := t.wire.due(sql); now {
			t.mu.Lock()
			t.swallow, t.panicked = true, c.Panic
			t.mu.Unlock()
			if !c.Kept {
				if c.Panic {
					t.panic()
				}
				t.client.Close()
				t.server.Close()
				return
			}
		}
		if _, err := t.server.Write(raw); err != nil {
			return
		}
	}
}

// due says whether this statement is the one.
func (w *Wire) due(sql string) (Cut, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.cut
	if c == nil || sql == "" || !strings.HasPrefix(strings.ToUpper(sql), strings.ToUpper(c.SQL)) {
		return Cut{}, false
	}
	if w.seen++; w.seen <= c.After || c.Times > 0 && w.seen > c.After+c.Times {
		return Cut{}, false
	}
	w.cuts++
	return *c, true
}

// answers carries what the server says.
func (t *talk) answers() {
	r := bufio.NewReader(t.server)
	for {
		kind, raw, err := message(r, false)
		if err != nil {
			return
		}
		t.mu.Lock()
		swallow, panicked := t.swallow, t.panicked
		t.mu.Unlock()
		if !swallow {
			if _, err := t.client.Write(raw); err != nil {
				return
			}
			continue
		}
		if kind == 'Z' { // the statement has ended
			if panicked {
				t.panic()
			}
			return
		}
	}
}

// panic says what a server says that cannot sync its write-ahead log (PostgreSQL: XLogWrite, issue_xlog_fsync).
func (t *talk) panic() {
	fields := "SPANIC\x00VPANIC\x00C58030\x00Mcould not fsync file\x00\x00"
	b := append([]byte{'E'}, binary.BigEndian.AppendUint32(nil, uint32(len(fields)+4))...)
	t.client.Write(append(b, fields...))
}

func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
