package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"
	"rsc.io/script"
	"rsc.io/script/scripttest"

	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/control"
)

// binary is the command as it is shipped, built once for all scripts.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "lazaret-command")
	if err == nil {
		binary = filepath.Join(dir, "lazaret")
		err = buildBinary()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func buildBinary() error {
	build := exec.Command("go", "build", "-trimpath", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the command: %w\n%s", err, out)
	}
	return nil
}

// TestScripts runs testdata/script/*.txtar: a behaviour each, on the real binary. Beside rsc.io/script's commands they have
//
//	exits CODE PROGRAM ARG...    run it and expect this exit code
//	serve CONFIG                 start the service, wait until it is ready; $MLLP_CHANNEL is where a channel listens
//	stop                         SIGTERM; it must end with 0
//	kill                         SIGKILL
//	receiver NAME [CODE]         an MLLP receiver: answers AA or CODE, writes NAME/1.hl7 ...; $NAME is its address
//	waitfor REGEXP PROGRAM...    run it until its standard output matches, at most ten seconds
//	tamper HOW FILE              a ledger: drop, swap or repeat a line
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts found: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			runScript(t, file)
		})
	}
}

func runScript(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	dir := t.TempDir()
	env := []string{"PATH=" + filepath.Dir(binary) + string(filepath.ListSeparator) + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "NO_COLOR=1", "TZ=UTC"}
	s, err := script.NewState(ctx, dir, env)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ExtractFiles(archive); err != nil {
		t.Fatal(err)
	}
	tool := &tools{t: t}
	defer tool.close()
	e := script.NewEngine()
	e.Cmds, e.Conds = scripttest.DefaultCmds(), scripttest.DefaultConds()
	for name, run := range map[string]func(*script.State, ...string) (script.WaitFunc, error){
		"exits": exits, "serve": tool.serve, "stop": tool.stop, "kill": tool.kill, "receiver": tool.receiver, "waitfor": waitFor, "tamper": tamper,
	} {
		e.Cmds[name] = script.Command(script.CmdUsage{Summary: "see TestScripts", Args: "..."}, run)
	}
	scripttest.Run(t, e, s, file, bytes.NewReader(archive.Comment))
}

// output is what a finished command leaves for the commands stdout and stderr.
func output(stdout, stderr []byte) (script.WaitFunc, error) {
	return func(*script.State) (string, string, error) { return string(stdout), string(stderr), nil }, nil
}

// run runs a program in the script's directory and environment.
func run(s *script.State, args []string) (stdout, stderr []byte, code int, err error) {
	name := args[0]
	if name == "lazaret" {
		name = binary
	}
	c := exec.CommandContext(s.Context(), name, args[1:]...)
	var out, errs bytes.Buffer
	c.Dir, c.Env, c.Stdout, c.Stderr = s.Getwd(), s.Environ(), &out, &errs
	err = c.Run()
	if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() >= 0 {
		return out.Bytes(), errs.Bytes(), exit.ExitCode(), nil
	}
	return out.Bytes(), errs.Bytes(), 0, err
}

func exits(s *script.State, args ...string) (script.WaitFunc, error) {
	if len(args) < 2 {
		return nil, script.ErrUsage
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		return nil, err
	}
	stdout, stderr, code, err := run(s, args[1:])
	if err == nil && code != want {
		err = fmt.Errorf("exit code %d, want %d\n%s%s", code, want, stdout, stderr)
	}
	if err != nil {
		return nil, err
	}
	return output(stdout, stderr)
}

func waitFor(s *script.State, args ...string) (script.WaitFunc, error) {
	if len(args) < 2 {
		return nil, script.ErrUsage
	}
	want, err := compileLine(args[0])
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(10 * time.Second); ; {
		stdout, stderr, _, err := run(s, args[1:])
		switch {
		case err != nil:
			return nil, err
		case want.Match(stdout):
			return output(stdout, stderr)
		case time.Now().After(end):
			return nil, fmt.Errorf("no %q in ten seconds; last:\n%s%s", args[0], stdout, stderr)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// tools are the processes and receivers of one script.
type tools struct {
	t         *testing.T
	service   *exec.Cmd
	log       *bytes.Buffer
	receivers []*testReceiver
}

func (o *tools) close() {
	if o.service != nil {
		o.service.Process.Kill()
		o.service.Wait()
		o.t.Logf("log of the service:\n%s", o.log)
	}
	for _, r := range o.receivers {
		r.close()
	}
}

func (o *tools) serve(s *script.State, args ...string) (script.WaitFunc, error) {
	if len(args) != 1 || o.service != nil {
		return nil, script.ErrUsage
	}
	cfg, err := config.Load(s.Path(args[0]))
	if err != nil {
		return nil, err
	}
	o.log = &bytes.Buffer{}
	c := exec.Command(binary, "serve", "--config", args[0])
	c.Dir, c.Env, c.Stderr = s.Getwd(), s.Environ(), o.log
	if err := c.Start(); err != nil {
		return nil, err
	}
	o.service = c
	client := control.Dial(string(cfg.Control.Socket), "script")
	defer client.Close()
	for end := time.Now().Add(10 * time.Second); client.Ready(s.Context()) != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return nil, fmt.Errorf("the service is not ready")
		}
	}
	list, err := client.Channels(s.Context())
	for _, ch := range list {
		if err := s.Setenv("MLLP_"+ch.Name, ch.Address); err != nil {
			return nil, err
		}
	}
	return nil, err
}

func (o *tools) stop(_ *script.State, _ ...string) (script.WaitFunc, error) {
	if err := o.service.Process.Signal(os.Interrupt); err != nil {
		return nil, err
	}
	return o.end()
}

func (o *tools) kill(_ *script.State, _ ...string) (script.WaitFunc, error) {
	o.service.Process.Kill()
	if _, err := o.end(); err == nil {
		return nil, errors.New("the service ended before it was killed")
	}
	return nil, nil
}

func (o *tools) end() (script.WaitFunc, error) {
	err := o.service.Wait()
	o.service = nil
	log := o.log.String()
	return func(*script.State) (string, string, error) { return "", log, err }, err
}

func tamper(s *script.State, args ...string) (script.WaitFunc, error) {
	if len(args) != 2 {
		return nil, script.ErrUsage
	}
	path := s.Path(args[1])
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	lines := strings.SplitAfter(string(text), "\n")
	i := len(lines) / 2
	switch args[0] {
	case "drop":
		lines = append(lines[:i:i], lines[i+1:]...)
	case "swap":
		lines[i], lines[i+1] = lines[i+1], lines[i]
	case "repeat":
		lines = append(lines[:i+1:i+1], lines[i:]...)
	default:
		return nil, script.ErrUsage
	}
	return nil, os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600)
}
