//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed peers/*.py peers/*.js package.json package-lock.json
var files embed.FS

// debianPython is named in full: python3-hl7 belongs to it, and another python3 may come first in PATH.
const debianPython = "/usr/bin/python3"

// TLS names the PEM files of one side: its own certificate and key, and the authority that signed the other side's.
type TLS struct{ Authority, Certificate, Key string }

// A Sender sends blocks to an MLLP server, one after the other, and returns the answers.
type Sender struct {
	Name string
	// Content says what the server receives of a message; nil: its very bytes.
	Content func(message []byte) []byte
	UTF8    bool // it cannot send anything else
	Speaks  bool // TLS

	start func(t testing.TB, addr, list string, secure *TLS) *exec.Cmd
	// read takes the answers out of what it prints; nil: lines of JSON.
	read func(printed []byte) [][]byte
}

// Senders lists those that there are.
func Senders() []Sender {
	return []Sender{
		{
			Name: "python3-hl7 mllp_send", read: pythonLines,
			// It strips 0x0D from both ends of what it reads, and so the last segment's terminator.
			Content: func(m []byte) []byte { return bytes.TrimSuffix(m, []byte("\r")) },
			start: func(t testing.TB, addr, list string, _ *TLS) *exec.Cmd {
				host, port := split(t, addr)
				return exec.Command("mllp_send", "--port", port, "--file", framed(t, list), host)
			},
		},
		{
			Name: "python3-hl7 asyncio", Speaks: true,
			start: func(t testing.TB, addr, list string, secure *TLS) *exec.Cmd {
				host, port := split(t, addr)
				return exec.Command(debianPython, secure.arguments(script(t, "python_send.py"), host, port, list)...)
			},
		},
		{
			Name: "node-hl7-client", UTF8: true,
			// Its message ends with its last segment, without the terminator.
			Content: func(m []byte) []byte { return bytes.TrimSuffix(m, []byte("\r")) },
			start: func(t testing.TB, addr, list string, _ *TLS) *exec.Cmd {
				host, port := split(t, addr)
				return node(t, "node_hl7_send.js", host, port, list)
			},
		},
		{
			Name: "simple-hl7", UTF8: true,
			// It trims white space from both ends of the message, and so the last terminator.
			Content: bytes.TrimSpace,
			start: func(t testing.TB, addr, list string, _ *TLS) *exec.Cmd {
				host, port := split(t, addr)
				return node(t, "simple_hl7_send.js", host, port, list)
			},
		},
	}
}

// Send runs the sender. A nil secure is plain TCP.
func (s Sender) Send(t testing.TB, addr string, messages [][]byte, secure *TLS) (answers [][]byte, err error) {
	t.Helper()
	list := filepath.Join(t.TempDir(), "messages.json")
	text, err := json.Marshal(messages)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := s.start(t, addr, list, secure)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	end := limit(cmd, time.Minute)
	err = cmd.Run()
	end()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", s.Name, err, errs.Bytes())
	}
	if s.read != nil {
		return s.read(out.Bytes()), err
	}
	for line := range bytes.Lines(out.Bytes()) {
		var l struct{ Answer []byte }
		if json.Unmarshal(line, &l) == nil {
			answers = append(answers, l.Answer)
		}
	}
	return answers, err
}

// A Receiver is an MLLP server that acknowledges everything.
type Receiver struct {
	Name   string
	UTF8   bool // it understands nothing else
	Speaks bool // TLS
	// Once says that it answers the first message of a connection only as it should.
	Once  bool
	start func(t testing.TB, port string, secure *TLS) *exec.Cmd
}

// Receivers lists those that there are.
func Receivers() []Receiver {
	return []Receiver{
		{Name: "python3-hl7 asyncio", Speaks: true, start: func(t testing.TB, port string, secure *TLS) *exec.Cmd {
			return exec.Command(debianPython, secure.arguments(script(t, "python_receive.py"), port)...)
		}},
		// 2.5.0 appends each message of a connection to those before, and answers the first again.
		{Name: "node-hl7-server", UTF8: true, Once: true, start: func(t testing.TB, port string, _ *TLS) *exec.Cmd {
			return node(t, "node_hl7_receive.js", port)
		}},
		{Name: "simple-hl7", UTF8: true, start: func(t testing.TB, port string, _ *TLS) *exec.Cmd {
			return node(t, "simple_hl7_receive.js", port)
		}},
	}
}

// Running is a receiver's process.
type Running struct {
	Addr string

	mu     sync.Mutex
	blocks [][]byte
}

// Blocks returns what it has received, without frames. What it prints comes a moment after its answers, so it waits,
// but not for ever, until there are n.
func (r *Running) Blocks(n int) [][]byte {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		got := append([][]byte(nil), r.blocks...)
		r.mu.Unlock()
		if len(got) >= n || time.Now().After(deadline) {
			return got
		}
	}
}

// Start starts the receiver, and ends it with the test.
func (r Receiver) Start(t testing.TB, secure *TLS) *Running {
	t.Helper()
	port := freePort(t)
	cmd := r.start(t, port, secure)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", r.Name, err)
	}
	run := &Running{Addr: net.JoinHostPort("127.0.0.1", port)}
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		run.read(out, ready)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("%s wrote: %s", r.Name, errs.Bytes())
		}
	})
	select {
	case <-ready:
	case <-done:
		t.Fatalf("%s ended before it listened", r.Name)
	case <-time.After(30 * time.Second):
		t.Fatalf("%s does not listen", r.Name)
	}
	return run
}

// read follows the receiver's output until it ends.
func (r *Running) read(out io.Reader, ready chan<- struct{}) {
	in := bufio.NewReader(out)
	for {
		text, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var l struct {
			Ready bool
			Block []byte
		}
		if json.Unmarshal(text, &l) != nil {
			continue
		}
		if l.Ready {
			close(ready)
			continue
		}
		r.mu.Lock()
		r.blocks = append(r.blocks, l.Block)
		r.mu.Unlock()
	}
}

func (s *TLS) arguments(before ...string) []string {
	if s == nil {
		return before
	}
	return append(before, s.Authority, s.Certificate, s.Key)
}

// script writes an embedded file where its interpreter can read it.
func script(t testing.TB, name string) string {
	t.Helper()
	text, err := files.ReadFile("peers/" + name)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func node(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	modules, err := npm(t.Context())
	if err != nil {
		t.Fatalf("npm packages of the suite: %v", err)
	}
	cmd := exec.Command("node", append([]string{script(t, name)}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	return cmd
}

// npm returns the directory of the packages, which it installs when they are not there. Its name holds the lock file's
// hash, so a change of the versions installs them anew; a half-finished one is never taken for whole.
func npm(ctx context.Context) (modules string, err error) {
	lock, err := files.ReadFile("package-lock.json")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(cache, "lazaret-interop", hex.EncodeToString(sum[:8]))
	modules = filepath.Join(dir, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "installing-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := files.ReadFile(name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(tmp, name), text, 0o600); err != nil {
			return "", err
		}
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w: %s", err, out)
	}
	if err := os.Rename(tmp, dir); err != nil {
		if _, there := os.Stat(modules); there == nil { // another run was faster
			return modules, nil
		}
		return "", err
	}
	return modules, nil
}

// framed turns the list into a file of frames, as mllp_send reads it.
func framed(t testing.TB, list string) string {
	t.Helper()
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	var messages [][]byte
	if err := json.Unmarshal(text, &messages); err != nil {
		t.Fatal(err)
	}
	var out []byte
	for _, m := range messages {
		out = append(append(append(out, 0x0B), m...), 0x1C, 0x0D)
	}
	path := filepath.Join(t.TempDir(), "messages.mllp")
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pythonLines takes apart what mllp_send prints: each answer as it came, frame and all, and a line feed.
func pythonLines(printed []byte) (answers [][]byte) {
	for _, part := range bytes.SplitAfter(printed, []byte("\x1c\r\n")) {
		part = bytes.TrimSuffix(part, []byte("\n"))
		if a, ok := bytes.CutPrefix(part, []byte{0x0B}); ok && bytes.HasSuffix(a, []byte("\x1c\r")) {
			answers = append(answers, bytes.TrimSuffix(a, []byte("\x1c\r")))
		}
	}
	return answers
}

// limit kills a process that does not end in time, and waits a little for pipes that its children hold.
func limit(cmd *exec.Cmd, d time.Duration) (end func()) {
	cmd.WaitDelay = time.Second
	t := time.AfterFunc(d, func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
		}
	})
	return func() { t.Stop() }
}

func split(t testing.TB, addr string) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// freePort finds a port below 65353, the last one that node-hl7-server takes.
func freePort(t testing.TB) string {
	t.Helper()
	for {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := ln.Addr().(*net.TCPAddr).Port
		ln.Close()
		if port < 65353 {
			return strconv.Itoa(port)
		}
	}
}

// Messages returns n invented messages with control IDs that begin with prefix; utf8: nothing else is in them.
func Messages(prefix string, n int, utf8 bool) (messages [][]byte) {
	for i := range n {
		id := fmt.Sprintf("%s%04d", prefix, i)
		var m string
		switch i % 6 {
		case 0:
			m = "MSH|^~\\&|ADM|STMARY|LAB|STMARY|20260301083000||ADT^A01^ADT_A01|" + id + "|P|2.5\r" +
				"EVN|A01|20260301083000\rPID|1||4711^^^STMARY^MR||Example^Erika||19700101|F\rPV1|1|I|W3^12^A\r"
		case 1:
			m = "MSH|^~\\&|LAB|STMARY|EHR|STMARY|20260301083100||ORU^R01^ORU_R01|" + id + "|P|2.5.1|||||| UNICODE UTF-8\r" +
				"PID|1||4712^^^STMARY^MR||Żółć^Łukasz~Ærø^Søren||19800229|M\rOBR|1|||GLU\r" +
				strings.Repeat("OBX|1|NM|GLU^Glucose||5.4|mmol/L|3.9-6.1|N|||F\r", 40)
		case 2:
			m = "MSH|^~\\&|ADM|STMARY|LAB|STMARY|20260301083200||ADT^A40^ADT_A39|" + id + "|T|2.3.1\r" +
				"PID|1||4713^^^STMARY^MR||Made\\T\\Up^Max\\S\\Moritz\r" + "MRG|4799^^^STMARY^MR\r"
		case 3: // a field of 100 KB, as a PDF in OBX-5
			m = "MSH|^~\\&|PATH|STMARY|EHR|STMARY|20260301083300||MDM^T02^MDM_T02|" + id + "|P|2.6\r" +
				"TXA|1|RP\rOBX|1|ED|PDF||^application^pdf^Base64^" + strings.Repeat("SW52ZW50ZWQ", 9300) + "||||||F\r"
		case 4: // no Z segment is known to anybody
			m = "MSH|^~\\&|ADM|STMARY|LAB|STMARY|20260301083400||ADT^A08^ADT_A01|" + id + "|P|2.4\r" +
				"PID|1||4714^^^STMARY^MR||Example^Emil|\"\"|\rZPI|1|own^data&sub|~~|\\X0D\\\r"
		default:
			m = "MSH|^~\\&|ADM|STMARY|LAB|STMARY|20260301083500||ADT^A03^ADT_A03|" + id + "|P|2.3|||AL|NE||8859/1\r" +
				"PID|1||4715^^^STMARY^MR||M\xfcller^J\xf6rg\r"
			if utf8 {
				m = strings.NewReplacer("8859/1", "ASCII", "\xfc", "ue", "\xf6", "oe").Replace(m)
			}
		}
		messages = append(messages, []byte(m))
	}
	return messages
}
