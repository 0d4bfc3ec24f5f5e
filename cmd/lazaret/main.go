// Command lazaret is a healthcare integration engine: it moves HL7 v2 messages between hospitals, laboratories and
// applications, keeps them sealed, and acknowledges only what is safe on disk.
//
// One binary, one command a verb; "lazaret help" lists them. This package only wires: it reads command line and
// configuration, builds the rooms of internal/, starts and stops them, and shows what they say. Start at program.run; the
// service is service.go, what serve and demo both run. Commands about the running service (message, channel) reach it
// through its local socket and never touch the database.
//
// What is shown follows tui.go. Exit codes: 0 done, 1 it did not work or something was found, 2 wrong use.
package main

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if len(os.Args) > 1 && isChild(os.Args[1]) {
		// Ctrl-C reaches every process of the terminal; these end in their turn, when whoever started them says so.
		signal.Ignore(os.Interrupt)
		signals = signals[1:]
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	// A second signal ends the process at once, for who sends it does not want to wait. One that comes right behind the first is
	// the same: timeout(1) and some shells send to the process and to its group.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	p := &program{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, live: isTerminal(os.Stderr), width: terminalWidth(os.Stderr),
		env: os.Getenv, now: func() time.Time { return time.Now().UTC() }, rand: rand.Reader, exit: os.Exit,
	}
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// A program is the command with everything it may touch. Tests make one too.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	live           bool // stderr is a terminal: progress may be redrawn
	width          int  // of that terminal
	env            func(string) string
	now            func() time.Time // UTC
	rand           io.Reader
	exit           func(int) // at once, without a stop: after a failed fsync nothing more may be said
}

// A command is one verb. Its run gets what stands behind the verb, and returns nil, an error to be shown, or errFound.
type command struct {
	name   string
	brief  string // one line of "lazaret help"; "" hides the command
	help   string
	run    func(p *program, ctx context.Context, args []string) error
	nested []command // message list, message show, ...
}

// commands are all of them, in the order in which help shows them.
func commands() []command {
	return []command{
		{name: "demo", brief: "everything on, with a simulated hospital; needs nothing", help: demoHelp, run: (*program).demo},
		{name: "serve", brief: "the service", help: serveHelp, run: (*program).serve},
		{name: "check", brief: "read the configuration, say what is unsafe, change nothing", help: checkHelp, run: (*program).check},
		{name: "send", brief: "be an HL7 sender", help: sendHelp, run: (*program).send},
		{name: "message", brief: "list, show, trace and resend messages", help: messageHelp, nested: messageCommands()},
		{name: "channel", brief: "list, start and stop channels; pause and resume destinations", help: channelHelp, nested: channelCommands()},
		{name: "key", brief: "keys: status, check, rotate, shred, recovery copy", help: keyHelp, nested: keyCommands()},
		{name: "retention", brief: "how long what is kept: plan, run, holds, certificates", help: retentionHelp, nested: retentionCommands()},
		{name: "migrate", brief: "make the tables as who owns them: PostgreSQL with separate roles", help: migrateHelp, run: (*program).migrate},
		{name: "bench", brief: "durable throughput beside this machine's own limits", help: benchHelp, run: (*program).bench},
		{name: "version", brief: "what this binary is", help: versionHelp, run: (*program).version},
		{name: "help", brief: "this text, or that of a command", help: helpHelp, run: (*program).help},

		{name: "demo-sender", run: (*program).demoSender},
		{name: "demo-receiver", run: (*program).demoReceiver},
		{name: "demo-compare", help: demoCompareHelp, run: (*program).demoCompare},
		{name: "bench-load", run: (*program).benchLoad},
	}
}

// run does what the command line asks for and returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	return p.report(p.dispatch(ctx, commands(), nil, args))
}

// dispatch finds the command that args name. path is what led here: nothing, or "message".
func (p *program) dispatch(ctx context.Context, list []command, path, args []string) error {
	if len(args) == 0 {
		return p.show(helpOf(path), usage("no command is given", path...))
	}
	if isHelp(args[0]) {
		return p.show(helpOf(path), nil)
	}
	for _, c := range list {
		switch {
		case c.name != args[0]:
		case c.nested != nil:
			return p.dispatch(ctx, c.nested, append(path, c.name), args[1:])
		case len(args) > 1 && isHelp(args[1]) && c.help != "":
			return p.show(c.help, nil)
		default:
			return c.run(p, ctx, args[1:])
		}
	}
	return usage("there is no command "+quoted(args[0])+suggest(args[0], list), path...)
}

// isChild says whether a command is a process that demo or bench has started.
func isChild(name string) bool {
	return name == "demo-sender" || name == "demo-receiver" || name == "bench-load"
}

func isHelp(arg string) bool { return arg == "--help" || arg == "-help" || arg == "-h" }

// show prints a help text: where it was asked for to standard output, else beside the error.
func (p *program) show(text string, err error) error {
	if err == nil {
		p.print(text)
		return nil
	}
	io.WriteString(p.stderr, text+"\n")
	return err
}

// logger writes the program's own log as the configuration asks.
func (p *program) logger(level, format string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(p.stderr, o))
	}
	return slog.New(slog.NewTextHandler(p.stderr, o))
}
