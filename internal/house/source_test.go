package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// comments: a package comment in one file, "Package x …" or "Command x …", that is at least a sentence.
func comments(_ *testing.T, tr *tree) (findings []string) {
	for dir, files := range tr.packages() {
		var docs []*source
		for _, f := range files {
			if f.ast.Doc != nil && strings.TrimSpace(f.ast.Doc.Text()) != "" {
				docs = append(docs, f)
			}
		}
		switch len(docs) {
		case 0:
			findings = append(findings, fmt.Sprintf("%s: no package comment; say what the package answers, by which standard, and what it leaves out", dir))
			continue
		case 1:
		default:
			findings = append(findings, fmt.Sprintf("%s: package comments in %s and %s; one is enough", dir, docs[0].path, docs[1].path))
		}
		f := docs[0]
		want := "Package " + strings.TrimSuffix(f.ast.Name.Name, "_test") + " "
		if f.ast.Name.Name == "main" {
			want = "Command " + path.Base(dir) + " "
		}
		text := f.ast.Doc.Text()
		first, _, _ := strings.Cut(text, "\n\n")
		if !strings.HasPrefix(text, want) || !strings.Contains(first, ".") || len(first) < 40 {
			findings = append(findings, fmt.Sprintf("%s: the package comment should begin with %q and be a whole sentence", f.path, want))
		}
	}
	slices.Sort(findings)
	return findings
}

var nowhere = regexp.MustCompile(`^(utils?|commons?|helpers?|managers?|services?|misc|shared|base)$`)

// a file below a good room may well serve or manage something; it may not hold leftovers.
var leftovers = regexp.MustCompile(`^(utils?|commons?|helpers?|misc)$`)

// names: a name that fits everything will hold everything.
func names(_ *testing.T, tr *tree) (findings []string) {
	seen := map[string]bool{}
	for _, f := range tr.code {
		for _, part := range strings.Split(f.dir, "/") {
			if nowhere.MatchString(part) && !seen[f.dir] {
				seen[f.dir] = true
				findings = append(findings, fmt.Sprintf("%s: a package named %s takes anything in; name what it answers", f.dir, part))
			}
		}
		if base := strings.TrimSuffix(path.Base(f.path), ".go"); !f.test && leftovers.MatchString(base) {
			findings = append(findings, fmt.Sprintf("%s: name the file by what it holds", f.path))
		}
		if nowhere.MatchString(f.ast.Name.Name) && !seen[f.dir] {
			findings = append(findings, fmt.Sprintf("%s: package %s takes anything in; name what it answers", f.path, f.ast.Name.Name))
		}
	}
	return findings
}

// inits: what runs at import can be neither ordered nor tested.
func inits(_ *testing.T, tr *tree) (findings []string) {
	for _, f := range tr.code {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				findings = append(findings, fmt.Sprintf("%s: an init function; do it in a constructor that main calls", tr.at(fn.Pos())))
			}
		}
	}
	return findings
}

// weakRandom: math/rand seeds itself and is easily taken for a source of secrets; v2 with a given source is for simulations.
func weakRandom(_ *testing.T, tr *tree) (findings []string) {
	for _, f := range tr.code {
		for _, spec := range f.ast.Imports {
			if p, _ := strconv.Unquote(spec.Path.Value); p == "math/rand" {
				findings = append(findings, fmt.Sprintf("%s: math/rand; take an io.Reader, or math/rand/v2 with a source that the caller gives", tr.at(spec.Pos())))
			}
		}
	}
	return findings
}

// unverified: tests may talk to a server with a certificate of their own; what is shipped may not.
func unverified(_ *testing.T, tr *tree) (findings []string) {
	for _, f := range tr.code {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && id.Name == "InsecureSkipVerify" {
				findings = append(findings, fmt.Sprintf("%s: %s outside tests; give the peer's CA instead", tr.at(id.Pos()), id.Name))
			}
			return true
		})
	}
	return findings
}

// maxLines is where a file has stopped being one thought. About 600 is where to begin to wonder.
const maxLines = 1000

func long(_ *testing.T, tr *tree) (findings []string) {
	for _, f := range tr.code {
		if n := bytes.Count(f.text, []byte("\n")); n > maxLines && !ast.IsGenerated(f.ast) {
			findings = append(findings, fmt.Sprintf("%s: %d lines, and %d are the limit; which second thought can move out?", f.path, n, maxLines))
		}
	}
	return findings
}

// leaks: a package with a go statement, or a Go method call, must have tests that look for goroutines left behind.
func leaks(_ *testing.T, tr *tree) (findings []string) {
	for dir, files := range tr.packages() {
		starts, proves := "", false
		for _, f := range files {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					if !f.test && starts == "" {
						starts = tr.at(n.Pos())
					}
				case *ast.CallExpr:
					if sel, ok := n.Fun.(*ast.SelectorExpr); ok && !f.test && sel.Sel.Name == "Go" && starts == "" {
						starts = tr.at(n.Pos())
					}
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && f.test && x.Name == "goleak" && strings.HasPrefix(n.Sel.Name, "Verify") {
						proves = true
					}
				}
				return true
			})
		}
		if starts != "" && !proves && !rooms[dir].aid && dir != "tools/testsum" {
			findings = append(findings, fmt.Sprintf("%s: starts goroutines, and no test of %s calls goleak.VerifyTestMain or VerifyNone", starts, dir))
		}
	}
	slices.Sort(findings)
	return findings
}

var owned = regexp.MustCompile(`^TODO\(#[0-9]+\): \S`)

// todos: a bare to-do has no owner, so it is never done.
func todos(_ *testing.T, tr *tree) (findings []string) {
	for _, f := range tr.code {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				for _, word := range []string{"TO" + "DO", "FIX" + "ME", "XX" + "X"} {
					text := c.Text
					if i := strings.Index(text, word); i >= 0 && wordAt(text, i, word) && !owned.MatchString(text[i:]) {
						findings = append(findings, fmt.Sprintf("%s: %s without an issue; write TODO(#12): what, or do it", tr.at(c.Pos()), word))
					}
				}
			}
		}
	}
	return findings
}

// wordAt: the word stands alone.
func wordAt(text string, i int, word string) bool {
	letter := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-'
	}
	end := i + len(word)
	return (i == 0 || !letter(text[i-1])) && (end >= len(text) || !letter(text[end]))
}

// testsOf names the tests, fuzz targets, benchmarks and examples of a file.
func testsOf(f *source) (out []string) {
	for _, d := range f.ast.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && testName.MatchString(fn.Name.Name) {
			out = append(out, fn.Name.Name)
		}
	}
	return out
}
