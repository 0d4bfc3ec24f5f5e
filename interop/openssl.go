//go:build interop

package interop

import (
	"bytes"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

// OpenSSL sends messages with openssl s_client, all at once, and returns the answers that came, and what s_client had
// to say, once there is an answer for each message or the connection has ended. Without a Certificate in secure none is shown.
// Options are those of s_client, such as -tls1_2.
func OpenSSL(t testing.TB, addr string, secure TLS, messages [][]byte, options ...string) (answers [][]byte, said string) {
	t.Helper()
	args := []string{"s_client", "-quiet", "-verify_return_error", "-connect", addr, "-CAfile", secure.Authority}
	if secure.Certificate != "" {
		args = append(args, "-cert", secure.Certificate, "-key", secure.Key)
	}
	var frames []byte
	for _, m := range messages {
		var err error
		if frames, err = mllp.AppendFrame(frames, m); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("openssl", append(args, options...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer limit(cmd, 30*time.Second)()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = in.Write(frames) // what could not be written is not answered
	}()
	r := mllp.NewReader(out, 0)
	for len(answers) < len(messages) {
		a, err := r.Next()
		if err != nil {
			break
		}
		answers = append(answers, a)
	}
	_ = cmd.Process.Kill() // -quiet keeps it waiting for the server, whatever happens to its input
	<-wrote
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	return answers, errs.String()
}
