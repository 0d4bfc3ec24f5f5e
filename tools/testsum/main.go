// Command testsum runs the suites of "make test" and counts what they did.
//
// It reads "go test -json" (cmd/test2json), prints one line a package while a suite runs, and keeps the result in a
// directory; at the end it prints a table, every failure with its output, and one last line, alone:
// "N passed, N failed, N skipped".
//
// It is strict about silence. A skip counts as a failure unless it says that a path of ../shared is missing and that path
// really is missing, or the very same test ran in another suite of the same report. A suite that ran nothing has failed.
//
//	testsum run -suite unit -into DIR -timeout 5m -- go test ./...
//	testsum step -suite lint -into DIR -name gofmt -silent -- gofmt -l .
//	testsum report -into DIR -want "lint unit race"
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(program(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// program is the whole command: exit code 0 when everything passed, 1 when something failed, 2 for wrong use.
func program(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintln(stderr, "testsum: say run, step or report; the package comment shows how")
		return 2
	}
	fs := flag.NewFlagSet("testsum "+args[0], flag.ContinueOnError)
	fs.SetOutput(stderr)
	var o options
	fs.StringVar(&o.suite, "suite", "", "name of the suite")
	fs.StringVar(&o.into, "into", "", "directory that keeps the results")
	fs.StringVar(&o.name, "name", "", "step: what is checked")
	fs.BoolVar(&o.silent, "silent", false, "step: any output is a failure")
	fs.DurationVar(&o.timeout, "timeout", 10*time.Minute, "end the command after this long; counts as a failure")
	fs.StringVar(&o.elsewhere, "elsewhere", "", "run: a skip that says this word must have run in another suite")
	fs.StringVar(&o.proof, "proof", "", "run: the suite has failed if no test that passed has this word in its name")
	fs.StringVar(&o.want, "want", "", "report: the suites that must be there, in order")
	fs.BoolVar(&o.part, "part", false, "report: only some suites ran, so a skip that another suite would run is fine")
	if err := fs.Parse(args[1:]); err != nil {
		return 2
	}
	command := fs.Args()
	o.stdout, o.stderr = stdout, stderr

	var failed bool
	var err error
	switch {
	case o.into == "":
		err = errors.New("-into DIR is missing")
	case args[0] == "report":
		failed, err = report(o)
	case o.suite == "" || strings.ContainsAny(o.suite, "/.") || len(command) == 0:
		err = errors.New("-suite NAME and -- COMMAND are needed")
	case args[0] == "run":
		failed, err = run(ctx, o, command)
	case args[0] == "step" && o.name != "":
		failed, err = step(ctx, o, command)
	default:
		err = fmt.Errorf("%q is not run, report or step with a -name", args[0])
	}
	if err != nil {
		fmt.Fprintf(stderr, "testsum: %v\n", err)
		return 2
	}
	if failed {
		return 1
	}
	return 0
}

type options struct {
	suite, into, name, elsewhere, proof, want string
	silent, part                              bool
	timeout                                   time.Duration
	stdout, stderr                            io.Writer
}
