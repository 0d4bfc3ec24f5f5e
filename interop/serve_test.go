//go:build interop

package interop

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

// binary builds the command once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lazaret-interop")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "lazaret")
	out, err := exec.Command("go", "build", "-o", path, "../cmd/lazaret").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the command: %w: %s", err, out)
	}
	return path, nil
})

// service runs "lazaret serve" with one channel, from listen to the receiver at to, until the test ends. tls is the text of
// source.mllp.tls, if any.
func service(t *testing.T, to, tls string) (addr string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	addr = "127.0.0.1:" + freePort(t)
	config := fmt.Sprintf(`organisation: interop
database: sqlite:data/lazaret.db
keys: {root: "file:keys/root"}
channels:
  - name: foreign
    source: {mllp: {listen: %q%s}}
    destinations:
      - {name: receiver, mllp: {address: %q}, retry: {first: 50ms, max: 200ms}}
`, addr, tls, to)
	file := filepath.Join(dir, "lazaret.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "serve", "--config", file)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the service ended with %v and said\n%s", err, said.String())
		}
	})
	listening(t, addr)
	return addr
}

func listening(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
	}
	t.Fatal("the service does not listen")
}

// waitFor waits until a receiver has n messages.
func waitFor(t *testing.T, n int, kept func() [][]byte) [][]byte {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for len(kept()) < n && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	return kept()
}

func TestForeignSendersThroughTheService(t *testing.T) {
	for _, s := range Senders() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			k := &keeper{}
			addr := service(t, serve(t, &mllp.Server{Handler: k}), "")
			messages := Messages("TS", each, s.UTF8)
			answers, err := s.Send(t, addr, messages, nil)
			if err != nil {
				t.Fatal(err)
			}
			acknowledged(t, messages, answers)
			same(t, contents(s, messages), waitFor(t, len(messages), k.kept))
		})
	}
}

func TestForeignReceiversThroughTheService(t *testing.T) {
	for _, r := range Receivers() {
		if r.Once {
			continue // it answers the first message of a connection for ever: TestAnotherMessagesAnswerIsFoundOut
		}
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			running := r.Start(t, nil)
			c := &mllp.Client{Addr: service(t, running.Addr, ""), AnswerTimeout: 10 * time.Second}
			messages := Messages("TR", each, r.UTF8)
			var answers [][]byte
			for _, m := range messages {
				answer, err := c.Send(t.Context(), m)
				if err != nil {
					t.Fatal(err)
				}
				answers = append(answers, answer)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			acknowledged(t, messages, answers)
			same(t, messages, running.Blocks(len(messages)))
		})
	}
}

func TestOpenSSLToTheService(t *testing.T) {
	ca, stranger := NewAuthority(t, "interop authority"), NewAuthority(t, "another authority")
	own := ca.Issue("localhost")
	k := &keeper{}
	tls := fmt.Sprintf(", tls: {certificate: %q, key: %q, clients: %q}", "file:"+own.Certificate, "file:"+own.Key, "file:"+ca.File)
	addr := service(t, serve(t, &mllp.Server{Handler: k}), tls)
	messages := Messages("TO", each, false)
	answers, said := OpenSSL(t, addr, ca.Issue("ward"), messages)
	if len(answers) != len(messages) {
		t.Fatalf("%d answers to %d messages; openssl said %s", len(answers), len(messages), said)
	}
	acknowledged(t, messages, answers)
	same(t, messages, waitFor(t, len(messages), k.kept))
	wrong := stranger.Issue("ward")
	wrong.Authority = ca.File // it trusts the service; the service must not trust it
	if answers, _ := OpenSSL(t, addr, wrong, messages[:1]); len(answers) != 0 {
		t.Error("a stranger's certificate was taken")
	}
}
