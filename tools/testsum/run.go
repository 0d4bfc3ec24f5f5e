package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// heartbeat is how often a silent suite says that it lives.
const heartbeat = 30 * time.Second

// run runs one suite: a "go test" command, to which -json is added.
func run(ctx context.Context, o options, command []string) (failed bool, err error) {
	i := slices.Index(command, "test")
	if i < 0 {
		return false, fmt.Errorf("suite %s: the command is no go test", o.suite)
	}
	command = slices.Insert(slices.Clone(command), i+1, "-json")
	root, err := os.Getwd()
	if err != nil {
		return false, err
	}
	fmt.Fprintf(o.stdout, "==> %s\n", o.suite)
	r := newReader(o.stdout, time.Now, root, o.elsewhere)
	start := time.Now()

	done := make(chan struct{})
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		tick := time.NewTicker(heartbeat)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if name, d := r.running(); d >= heartbeat {
					fmt.Fprintf(o.stdout, "    ...  %s, %.0f s so far\n", name, d.Seconds())
				}
			}
		}
	}()
	var stderr bytes.Buffer
	runErr := execute(ctx, o.timeout, command, &stderr, r.read)
	close(done)
	<-beats

	res := r.result(o.suite)
	res.Seconds = time.Since(start).Seconds()
	if runErr != nil && (len(res.Failed) == 0 || errors.Is(runErr, errTime)) {
		res.Failed = append(res.Failed, note{strings.Join(command, " "), stderr.String() + runErr.Error() + "\n"})
	}
	if o.proof != "" && !slices.ContainsFunc(res.Passed, func(name string) bool { return strings.Contains(name, o.proof) }) {
		res.Failed = append(res.Failed, note{o.suite, "no test with " + o.proof + " in its name has passed\n"})
	}
	return len(res.Failed) > 0, res.save(o.into)
}

// step runs one command that is a check as a whole, and adds it to its suite.
func step(ctx context.Context, o options, command []string) (failed bool, err error) {
	res, err := load(o.into, o.suite)
	if err != nil {
		return false, err
	}
	if res.ran() == 0 {
		fmt.Fprintf(o.stdout, "==> %s\n", o.suite)
	}
	start := time.Now()
	var out []byte
	var stderr bytes.Buffer
	runErr := execute(ctx, o.timeout, command, &stderr, func(in io.Reader) (err error) {
		out, err = io.ReadAll(in)
		return err
	})
	took := time.Since(start).Seconds()
	res.Seconds += took
	out = append(out, stderr.Bytes()...)
	if o.silent && len(bytes.TrimSpace(out)) > 0 && runErr == nil {
		runErr = errors.New("has something to say")
	}
	word, name := "ok  ", o.suite+"."+o.name
	if runErr != nil {
		word = "FAIL"
		res.Failed = append(res.Failed, note{name, string(out) + runErr.Error() + "\n"})
	} else {
		res.Passed = append(res.Passed, name)
	}
	fmt.Fprintf(o.stdout, "    %s %-28s %6.1f s\n", word, o.name, took)
	return runErr != nil, res.save(o.into)
}

var errTime = errors.New("took too long and was ended")

// execute runs the command in a process group of its own, hands its output to read, and leaves nobody of the group behind:
// a test that forgets a server must not disturb the next suite.
func execute(ctx context.Context, limit time.Duration, command []string, stderr *bytes.Buffer, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w (limit %s)", errTime, limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Stderr = stderr
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	defer pr.Close()
	cmd.Stdout = pw
	if err := cmd.Start(); err != nil {
		pw.Close()
		return err
	}
	pw.Close()
	ended := make(chan error, 1)
	go func() { ended <- read(pr) }()
	waitErr := cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)   // whoever is left; usually nobody
	_ = pr.SetReadDeadline(time.Now().Add(cmd.WaitDelay)) // a daemon that left the group may still hold the pipe
	readErr := <-ended
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(waitErr, readErr)
}
