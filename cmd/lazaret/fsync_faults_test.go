//go:build faults

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7/mllp"
	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/control"
)

// TestFailedFsyncEndsTheProcess lets the kernel answer EIO to every sync of the running binary (strace -e inject), sends a
// message, and sees promise 9: no acknowledgement, the process ends at once and not with 0, and the restart has what was
// acknowledged before.
func TestFailedFsyncEndsTheProcess(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "site.yaml")
	if err := os.WriteFile(path, []byte(strings.Replace(quietSite, `listen: {metrics: "127.0.0.1:0"}`, "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	service, log, address := startBinary(t, cfg, path)
	if answer, err := sendOneTo(t.Context(), address, "BEFORE"); err != nil || !bytes.Contains(answer, []byte("MSA|AA|BEFORE")) {
		t.Fatalf("before the fault: %q, %v", answer, err)
	}

	tracing := filepath.Join(dir, "strace.log")
	strace := exec.Command("strace", "-f", "-qq", "-o", tracing, "-e", "trace=fsync,fdatasync,sync_file_range",
		"-e", "inject=fsync,fdatasync,sync_file_range:error=EIO", "-p", fmt.Sprint(service.Process.Pid))
	if err := strace.Start(); err != nil {
		t.Fatalf("strace: %v; make prepare installs it", err)
	}
	defer strace.Wait()
	waitTraced(t, service.Process.Pid)

	answer, err := sendOneTo(t.Context(), address, "DURING")
	if err == nil && (bytes.Contains(answer, []byte("MSA|AA|")) || bytes.Contains(answer, []byte("MSA|CA|"))) {
		t.Errorf("a message was acknowledged after its fsync had failed: %q", answer)
	}
	ended := make(chan error, 1)
	go func() { ended <- service.Wait() }()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() == 0 {
			t.Errorf("the process ended with %v, want a code that is not 0", err)
		}
	case <-time.After(20 * time.Second):
		service.Process.Kill()
		<-ended
		t.Fatalf("the process lives on after a failed fsync; its log:\n%s", log)
	}
	if !strings.Contains(log.String(), "an fsync failed; the process ends at once") {
		t.Errorf("the log does not say why:\n%s", log)
	}
	if text, _ := os.ReadFile(tracing); !bytes.Contains(text, []byte("EIO (Input/output error) (INJECTED)")) {
		t.Fatalf("no sync was failed, so nothing was tested:\n%s", text)
	}

	service, log, _ = startBinary(t, cfg, path)
	client := control.Dial(string(cfg.Control.Socket), "test")
	defer client.Close()
	page, err := client.List(t.Context(), "", control.Search{ControlID: "BEFORE"})
	if err != nil || len(page.Messages) != 1 {
		t.Errorf("after the restart the acknowledged message: %+v, %v\n%s", page, err, log)
	}
	if err := service.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := service.Wait(); err != nil {
		t.Errorf("the restarted service ended with %v\n%s", err, log)
	}
}

// startBinary starts the service as a process and waits until it is ready; address is its channel's.
func startBinary(t *testing.T, cfg *config.Config, path string) (service *exec.Cmd, log *bytes.Buffer, address string) {
	t.Helper()
	log = &bytes.Buffer{}
	service = exec.Command(binary, "serve", "--config", path)
	service.Stderr = log
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Process.Kill() })
	client := control.Dial(string(cfg.Control.Socket), "test")
	defer client.Close()
	for end := time.Now().Add(20 * time.Second); client.Ready(t.Context()) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			service.Process.Kill()
			service.Wait()
			t.Fatalf("the service is not ready:\n%s", log)
		}
	}
	list, err := client.Channels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return service, log, list[0].Address
}

// waitTraced waits until every thread of the process has its tracer.
func waitTraced(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		traced := len(files) > 0
		for _, f := range files {
			text, err := os.ReadFile(f)
			traced = traced && err == nil && !bytes.Contains(text, []byte("TracerPid:\t0\n"))
		}
		if traced {
			return
		}
	}
	t.Fatal("strace does not get hold of the process; may this user trace?")
}

func sendOneTo(ctx context.Context, address, id string) ([]byte, error) {
	c := &mllp.Client{Addr: address, AnswerTimeout: 20 * time.Second}
	defer c.Close()
	return c.Send(ctx, []byte("MSH|^~\\&|HIS|STMARY|LAZARET|STMARY|20260301||ADT^A01^ADT_A01|"+id+"|P|2.5.1\rPID|1||4711^^^STMARY^MR\r"))
}
