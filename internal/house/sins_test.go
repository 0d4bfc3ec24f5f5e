package house

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSins gives each rule a small tree with what it must find, and one that it must leave in peace.
func TestSins(t *testing.T) {
	const doc = "// Package x answers one question, and says so in a sentence.\npackage x\n\n"
	type files map[string]string
	for _, tc := range []struct {
		name  string
		rule  func(*testing.T, *tree) []string
		files files
		want  []string // what each finding must contain, in any order
	}{
		{
			name: "a package that no line of the table knows", rule: imports,
			files: files{"internal/cellar/a.go": "package cellar\n"},
			want:  []string{"internal/cellar: the table of rooms does not know this package"},
		},
		{
			name: "a capability that imports the engine's transport", rule: imports,
			files: files{"internal/engine/a.go": "package engine\n\nimport _ \"" + module + "/internal/connect/mllp\"\n"},
			want:  []string{"internal/engine/a.go:3: internal/engine may not import internal/connect/mllp"},
		},
		{
			name: "an arrow that runs back, behind a build tag", rule: imports,
			files: files{"internal/db/a.go": "//go:build faults\n\npackage db\n\nimport _ \"" + module + "/internal/audit\"\n"},
			want:  []string{"internal/db may not import internal/audit"},
		},
		{
			name: "the public library with a dependency", rule: imports,
			files: files{"hl7/a.go": "package hl7\n\nimport _ \"github.com/google/uuid\"\n"},
			want:  []string{"hl7 may not import github.com/google/uuid: standard library only"},
		},
		{
			name: "the command with a test aid", rule: imports,
			files: files{"cmd/lazaret/a.go": "package main\n\nimport _ \"" + module + "/internal/db/dbtest\"\n"},
			want:  []string{"cmd/lazaret may not import internal/db/dbtest"},
		},
		{
			name: "imports that the table allows, and what tests may", rule: imports,
			files: files{
				"internal/audit/a.go":      "package audit\n\nimport (\n_ \"context\"\n_ \"" + module + "/internal/db\"\n_ \"golang.org/x/mod/sumdb/tlog\"\n)\n",
				"internal/audit/a_test.go": "package audit\n\nimport _ \"" + module + "/internal/engine\"\n",
				"hl7/a.go":                 "package hl7\n\nimport _ \"golang.org/x/text/encoding\"\n",
				"cmd/lazaret/a.go":         "package main\n\nimport _ \"" + module + "/internal/control\"\n",
				"internal/control/a.go":    "package control\n\nimport _ \"" + module + "/internal/engine\"\n",
			},
		},
		{
			name: "a database driver outside package db", rule: doors,
			files: files{"internal/audit/a.go": "package audit\n\nimport _ \"github.com/jackc/pgx/v5\"\n", "internal/db/a.go": "package db\n\nimport _ \"github.com/jackc/pgx/v5\"\n"},
			want:  []string{"internal/audit/a.go:3: github.com/jackc/pgx may be imported only by"},
		},
		{
			name: "a module that nobody gave a reason", rule: doors,
			files: files{"x/a_test.go": "package x\n\nimport _ \"github.com/stretchr/testify/assert\"\n", "x/b.go": "package x\n\nimport _ \"golang.org/x/sync/errgroup\"\n"},
			want:  []string{"x/a_test.go:3: github.com/stretchr/testify/assert is a new module"},
		},
		{
			name: "a test aid in what is shipped", rule: doors,
			files: files{"hl7/a.go": "package hl7\n\nimport _ \"go.uber.org/goleak\"\n", "hl7/a_test.go": "package hl7\n\nimport _ \"go.uber.org/goleak\"\n"},
			want:  []string{"hl7/a.go:3: go.uber.org/goleak"},
		},
		{
			name: "a package without a comment", rule: comments,
			files: files{"x/a.go": "package x\n"},
			want:  []string{"x: no package comment"},
		},
		{
			name: "a package comment that says nothing", rule: comments,
			files: files{"x/a.go": "// Package x does x.\npackage x\n", "y/a.go": "// Here is what y does, in some words of our own.\npackage y\n"},
			want:  []string{"x/a.go: the package comment", "y/a.go: the package comment should begin with \"Package y \""},
		},
		{
			name: "two package comments", rule: comments,
			files: files{"x/a.go": doc, "x/b.go": doc},
			want:  []string{"x: package comments in x/a.go and x/b.go"},
		},
		{
			name: "package comments as they should be", rule: comments,
			files: files{"x/a.go": doc, "x/b.go": "package x\n", "cmd/thing/a.go": "// Command thing does one thing, and takes two arguments for it.\npackage main\n"},
		},
		{
			name: "rooms and files for everything", rule: names,
			files: files{"internal/util/a.go": "package util\n", "x/helpers.go": "package x\n", "y/helpers_test.go": "package y\n"},
			want:  []string{"internal/util: a package named util", "x/helpers.go: name the file by what it holds"},
		},
		{
			name: "an init function", rule: inits,
			files: files{"x/a.go": "package x\n\nfunc init() {}\n", "y/a.go": "package y\n\ntype T int\n\nfunc (T) init() {}\n"},
			want:  []string{"x/a.go:3: an init function"},
		},
		{
			name: "variables that can change", rule: state,
			files: files{"x/a.go": doc + `
var later int
var Exported = 3
var pool = sync.Pool{}
var now = time.Now
var hook = func() {}
var pointer = &thing{}
var cache = newCache()
var counter = 0
var table = map[string]int{"a": 1}

func f() { counter++; table["b"] = 2 }
`, "x/a_test.go": "package x\n\nfunc g() { table = nil }\n"},
			want: []string{
				"later has no value yet", "Exported is exported", "pool is made to change", "now holds time.Now",
				"hook is a function that can be replaced", "pointer is a pointer", "cache comes from newCache",
				"x/a.go:15: writes to the package variable counter", "x/a.go:15: writes to the package variable table",
				"x/a_test.go:3: writes to the package variable table",
			},
		},
		{
			name: "variables that cannot", rule: state,
			files: files{"x/a.go": doc + `
import "embed"

//go:embed a.go
var sources embed.FS

var _ fmt.Stringer = thing{}

var ErrGone = errors.New("gone")

var (
	pattern = regexp.MustCompile("a+")
	where   = mustParse("PID-3")
	table   = map[string]int{"a": 1}
	lookup  = func() (t [256]bool) { t['a'] = true; return t }()
	magic   = []byte("magic")
)

func f(table []int, other struct{ lookup []int }) {
	table[0] = 1
	other.lookup = nil
	pattern := pattern
	pattern = nil
	where := 3
	where++
}
`},
		},
		{
			name: "a room that reaches outside", rule: reach,
			files: files{
				"x/a.go":      "package x\n\nfunc f() {\n\tt := time.Now()\n\tos.Exit(1)\n\tfmt.Println(t)\n\tos.Getenv(\"A\")\n\thttp.Get(\"x\")\n\texec.Command(\"sh\")\n}\n",
				"x/b.go":      "package x\n\nfunc f(now func() time.Time, w io.Writer) { fmt.Fprintln(w, now()); s.time.Now() }\n",
				"x/a_test.go": "package x\n\nvar t = time.Now()\n", "cmd/y/a.go": "package main\n\nfunc main() { os.Exit(1) }\n",
				"hl7/mllp/a.go": "package mllp\n\nfunc f() { c.SetDeadline(time.Now()) }\n",
			},
			want: []string{"x/a.go:4: time.Now", "x/a.go:5: os.Exit", "x/a.go:6: fmt.Println", "x/a.go:7: os.Getenv", "x/a.go:8: http.Get", "x/a.go:9: exec.Command"},
		},
		{
			name: "a context that is kept", rule: contexts,
			files: files{"x/a.go": "package x\n\ntype t struct {\n\tctx context.Context\n\tf func(ctx context.Context)\n}\n", "x/a_test.go": "package x\n\ntype u struct{ ctx context.Context }\n"},
			want:  []string{"x/a.go:4: a context in a struct"},
		},
		{
			name: "a statement made of pieces", rule: statements,
			files: files{"x/a.go": "package x\n\nvar a = fmt.Sprintf(\"SELECT %s FROM t\", b)\n\nvar c = fmt.Sprintf(\"selected %s\", b)\n\nvar d = fmt.Sprintf(`\n\tDELETE FROM %s`, b)\n"},
			want:  []string{"x/a.go:3: a statement made by fmt.Sprintf", "x/a.go:7: a statement"},
		},
		{
			name: "the old random numbers", rule: weakRandom,
			files: files{"x/a_test.go": "package x\n\nimport _ \"math/rand\"\n", "x/a.go": "package x\n\nimport _ \"math/rand/v2\"\n"},
			want:  []string{"x/a_test.go:3: math/rand"},
		},
		{
			name: "TLS without a look at the certificate", rule: unverified,
			files: files{"x/a.go": "package x\n\nvar c = tls.Config{InsecureSkipVerify: true}\n", "x/a_test.go": "package x\n\nvar d = tls.Config{InsecureSkipVerify: true}\n"},
			want:  []string{"x/a.go:3: InsecureSkipVerify outside tests"},
		},
		{
			name: "a file that is too long", rule: long,
			files: files{
				"x/a.go": doc + strings.Repeat("//\n", maxLines), "x/b.go": "package x\n" + strings.Repeat("\n", maxLines-1),
				"x/c.go": "// Code generated by a program. DO NOT EDIT.\n\npackage x\n" + strings.Repeat("\n", maxLines),
			},
			want: []string{"x/a.go: 1003 lines"},
		},
		{
			name: "goroutines that nobody counts", rule: leaks,
			files: files{
				"x/a.go": "package x\n\nfunc f() { go f() }\n", "x/a_test.go": "package x\n",
				"y/a.go": "package y\n\nfunc f() { g.Go(f) }\n", "y/a_test.go": "package y\n\nfunc TestMain(m *testing.M) { goleak.VerifyTestMain(m) }\n",
				"z/a_test.go": "package z\n\nfunc f() { go f() }\n", "z/a.go": "package z\n\nfunc g() string { return build.Go }\n",
			},
			want: []string{"x/a.go:3: starts goroutines"},
		},
		{
			name: "a to-do without an owner", rule: todos,
			files: files{"x/a.go": "package x\n\n// TO" + "DO: later\n\n// TODO(#12): take the other road\n\n// a FIX" + "ME in a sentence\n\n// mTODOs\n"},
			want:  []string{"x/a.go:3: TO" + "DO", "x/a.go:7: FIX" + "ME"},
		},
		{
			name: "documents that are missing, and a change log without a place", rule: documents,
			files: files{"README.md": "", "ARCHITECTURE.md": "", "CHANGELOG.md": "# Changes\n", "CONTRIBUTING.md": "", "LICENSE": "", "Makefile": ""},
			want:  []string{"SECURITY.md: is missing", ".ci/run: is missing", "CHANGELOG.md: has no section"},
		},
		{
			name: "a room that the code map forgot", rule: codemap,
			files: files{"ARCHITECTURE.md": "### internal/db\n", "internal/db/a.go": "package db\n", "internal/seal/a.go": "package seal\n", "interop/a_test.go": "package interop\n", "hl7/generate/a.go": "package main\n"},
			want:  []string{"ARCHITECTURE.md: does not mention internal/seal"},
		},
		{
			name: "links that lead nowhere", rule: links,
			files: files{
				"README.md": "# Top\n[a](docs/a.md) [b](docs/b.md) [c](docs/a.md#second-part) [d](docs/a.md#third) [e](https://example.org/x)\n" +
					"[f](#top) ![g](pic.svg)\n`[h](nowhere.md)`\n```\n[i](nowhere.md)\n```\n[j](../shared/x.md)\n[r]: docs/r.md\n",
				"docs/a.md": "# First\n## Second part\n[up](../README.md)\n",
			},
			want: []string{"README.md:2: links to docs/b.md", "README.md:2: links to docs/a.md#third", "README.md:3: links to pic.svg", "README.md:8: links to ../shared/x.md", "README.md:9: links to docs/r.md"},
		},
		{
			name: "paths that are gone", rule: paths,
			files: files{
				"README.md": "See `internal/db`, `internal/db/gone.go`, `internal/db/*.go`, `./internal/...`, `OLD.md`, `README.md` and `data/x`.\n" +
					"    go run ./cmd/lazaret\n```\ngo run ./cmd/lazaret demo\ngo test ./internal/...\n```\n",
				"docs/a.md":        "`docs/b.md`\n",
				"internal/db/a.go": "package db\n",
			},
			want: []string{"names internal/db/gone.go", "names OLD.md", "README.md:4: names ./cmd/lazaret", "docs/a.md:1: names docs/b.md"},
		},
		{
			name: "tests that nobody wrote", rule: namedTests,
			files: files{
				"README.md":   "Held by TestOrder, TestOrder/strict, FuzzFrames and `BenchmarkGone`. A Testament is no test.\n",
				"x/a_test.go": "package x\n\nfunc TestOrder(t *testing.T) {}\n", "x/a.go": "package x\n\nfunc FuzzFrames() {}\n",
			},
			want: []string{"names FuzzFrames", "names BenchmarkGone"},
		},
		{
			name: "paths of one machine", rule: machinePaths,
			files: files{
				"a.md": "see /" + "work/main/x\nsee https://example.org/" + "work/x and network/" + "work/y\n", "b.sh": "cd \"/" + "home/anna/src\"\n",
				"docs/guide/c.sh": "cp x /" + "root/key\n", "d.bin": "\x00 /" + "root/x\n",
			},
			want: []string{"a.md:1: a path of one machine", "b.sh:1: a path of one machine"},
		},
		{
			name: "secrets", rule: secrets,
			files: files{
				"a.pem": "-----BEGIN EC PRIVATE" + " KEY-----\nMHcCAQEEIIEGq0Qm0s9kZkXw8Q9c3mS4hPZ1\n", "b.go": "package b\n\nconst k = \"-----BEGIN PRIVATE" + " KEY-----\\nMHcCAQEEIIEGq0Qm0s9kZkXw8Q9c3mS4hPZ1\"\n",
				"c.go": "package c\n\nconst head = \"-----BEGIN PRIVATE" + " KEY-----\"\n", "d.yaml": "key: AKIA" + "ABCDEFGHIJKLMNOP\n",
				"e.yaml": "database: postgres://lazaret:Kq7vbX" + "2pL@db.st-mary.org/lazaret\nexample: postgres://u:secret@db.example/x\nvariable: postgres://u:$word@127.0.0.1/x\n",
			},
			want: []string{"a.pem:1: looks like a private key", "b.go:3: looks like a private key", "d.yaml:1: looks like an AWS", "e.yaml:1: looks like a password"},
		},
		{
			name: "programs and dumps", rule: built,
			files: files{"cmd/lazaret/lazaret": "\x7fELF\x02", "a.bin": strings.Repeat("x", maxFile+1), "b.bin": strings.Repeat("x", maxFile)},
			want:  []string{"cmd/lazaret/lazaret: a built program", "a.bin: 1048577 bytes"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tc.files {
				p := filepath.Join(root, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := tc.rule(t, plant(t, root))
			for _, want := range tc.want {
				if i := slices.IndexFunc(got, func(f string) bool { return strings.Contains(f, want) }); i >= 0 {
					got = slices.Delete(got, i, i+1)
				} else {
					t.Errorf("not found: %s", want)
				}
			}
			for _, f := range got {
				t.Errorf("found without being there: %s", f)
			}
		})
	}
}

// TestEveryRuleHasASin: a rule that is tried on no sin may have stopped finding anything.
func TestEveryRuleHasASin(t *testing.T) {
	b, err := os.ReadFile("sins_test.go")
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("tree_test.go")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for line := range strings.Lines(string(table)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "{\"") || !strings.HasSuffix(line, "},") {
			continue
		}
		name := strings.TrimSuffix(line[strings.LastIndexByte(line, ' ')+1:], "},")
		tried++
		if !strings.Contains(string(b), "rule: "+name+",") {
			t.Errorf("rule %s is tried on nothing", name)
		}
	}
	if tried != len(rules) {
		t.Errorf("%d rules read, %d there are", tried, len(rules))
	}
}
