package house

import (
	"fmt"
	"go/ast"
	"go/types"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A hand reaches from a room into the outside world without asking. In what is shipped, only the named rooms may.
type hand struct {
	calls *regexp.Regexp // of a selector as it is written
	rooms []string
	why   string
}

var hands = []hand{
	{regexp.MustCompile(`^time\.(Now|Since|Until)$`), []string{"hl7/mllp", "internal/bench"},
		"the clock comes in as an argument, so that a test can hold it; mllp needs the system's for deadlines of sockets, bench measures"},
	{regexp.MustCompile(`^(os\.Exit|log\.Fatal(f|ln)?|syscall\.Exit)$`), nil,
		"only the command ends the process: others return an error, so that what is open is closed"},
	{regexp.MustCompile(`^(fmt\.Print(f|ln)?|log\.(Print(f|ln)?|Default|SetOutput)|os\.Stdout|os\.Stderr|slog\.(Default|SetDefault|Info|Warn|Error|Debug))$`), nil,
		"only the command speaks to the terminal; a room has a logger in its Config"},
	{regexp.MustCompile(`^os\.(Getenv|LookupEnv|Environ|Setenv|ExpandEnv|Args)$`), []string{"internal/config"},
		"settings come from package config, where they are checked and named in errors"},
	{regexp.MustCompile(`^http\.(DefaultClient|DefaultTransport|DefaultServeMux|Handle|HandleFunc|ListenAndServe(TLS)?|Get|Post|PostForm|Head)$`), nil,
		"the defaults have no time limits and are shared by everybody"},
	{regexp.MustCompile(`^exec\.Command(Context)?$`), []string{"internal/scan", "internal/network", "internal/bench", "internal/db"},
		"an engine that starts programs can be made to start others; db starts pg_dump and pg_restore, by name and with arguments of its own"},
}

// reach: main packages and test aids may do all of it.
func reach(_ *testing.T, tr *tree) (findings []string) {
	for _, f := range tr.code {
		if f.test || f.ast.Name.Name == "main" || rooms[f.dir].aid {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			name := types.ExprString(sel)
			for _, h := range hands {
				if h.calls.MatchString(name) && !slices.Contains(h.rooms, f.dir) {
					findings = append(findings, fmt.Sprintf("%s: %s (%s)", tr.at(sel.Pos()), name, h.why))
				}
			}
			return true
		})
	}
	return findings
}

// keptContexts are structs that live no longer than the call that their context came with.
var keptContexts = map[string]string{
	"internal/db/tx.go":  "a transaction is the context's work: it begins and ends within one call",
	"hl7/mllp/server.go": "the context of Serve, kept by the connections that Serve waits for",
}

// contexts: one that is kept outlives what it was for.
func contexts(_ *testing.T, tr *tree) (findings []string) {
	for _, f := range tr.code {
		if f.test || keptContexts[f.path] != "" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			s, ok := n.(*ast.StructType)
			if !ok {
				return true
			}
			for _, field := range s.Fields.List {
				if types.ExprString(field.Type) == "context.Context" {
					findings = append(findings, fmt.Sprintf("%s: a context in a struct; make it the first argument of who needs it", tr.at(field.Pos())))
				}
			}
			return true
		})
	}
	return findings
}

var statement = regexp.MustCompile(`(?is)^[\x60"]\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP)\s.*%[svdqx]`)

// statements: a value goes into SQL as a parameter; what is no value is a constant or comes from a db.Table.
func statements(_ *testing.T, tr *tree) (findings []string) {
	for _, f := range tr.code {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 || !strings.Contains(types.ExprString(call.Fun), "rintf") {
				return true
			}
			for _, arg := range call.Args {
				if lit, ok := arg.(*ast.BasicLit); ok && statement.MatchString(lit.Value) {
					findings = append(findings, fmt.Sprintf("%s: a statement made by %s; use parameters", tr.at(lit.Pos()), types.ExprString(call.Fun)))
				}
			}
			return true
		})
	}
	return findings
}
