package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lazaret-health/lazaret"

// A tree is the repository, or a small one made by a test.
type tree struct {
	root  string
	files []string // every file that is or may be committed, with slashes, sorted
	fset  *token.FileSet
	code  []*source // the module's Go files, whatever their build tags
}

// A source is one Go file.
type source struct {
	path string // from the root
	dir  string
	test bool
	ast  *ast.File
	text []byte
}

// plant reads the tree below root.
func plant(t *testing.T, root string) *tree {
	t.Helper()
	tr := &tree{root: root, files: list(t, root), fset: token.NewFileSet()}
	var nested []string // directories with a go.mod of their own, such as tools/staticcheck
	for _, f := range tr.files {
		if path.Base(f) == "go.mod" && f != "go.mod" {
			nested = append(nested, path.Dir(f)+"/")
		}
	}
	for _, f := range tr.files {
		if path.Ext(f) != ".go" || strings.Contains("/"+f, "/testdata/") ||
			slices.ContainsFunc(nested, func(n string) bool { return strings.HasPrefix(f, n) }) {
			continue
		}
		s := &source{path: f, dir: path.Dir(f), test: strings.HasSuffix(f, "_test.go"), text: tr.read(t, f)}
		var err error
		if s.ast, err = parser.ParseFile(tr.fset, f, s.text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			t.Fatalf("parse %s: %v", f, err)
		}
		tr.code = append(tr.code, s)
	}
	return tr
}

// list asks git where there is one, so that what is ignored (a demo's keys, say) is not looked at; else it walks.
func list(t *testing.T, root string) []string {
	t.Helper()
	var files []string
	if _, err := os.Stat(filepath.Join(root, ".git")); err == nil {
		cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("list the files of the repository: %v", err)
		}
		for f := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
			if _, err := os.Stat(filepath.Join(root, f)); err == nil { // deleted, but not yet committed
				files = append(files, f)
			}
		}
	} else {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				rel, _ := filepath.Rel(root, p)
				files = append(files, filepath.ToSlash(rel))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

func (tr *tree) read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(tr.root, file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// exists says whether the path names a file or directory of the tree; a trailing /... and a glob are understood.
func (tr *tree) exists(p string) bool {
	p = strings.TrimSuffix(strings.TrimSuffix(path.Clean(p), "/..."), "/")
	if p == "." {
		return true
	}
	return slices.ContainsFunc(tr.files, func(f string) bool {
		if f == p || strings.HasPrefix(f, p+"/") {
			return true
		}
		ok, _ := path.Match(p, f)
		return ok
	})
}

// packages groups the files of each directory.
func (tr *tree) packages() map[string][]*source {
	out := map[string][]*source{}
	for _, s := range tr.code {
		out[s.dir] = append(out[s.dir], s)
	}
	return out
}

func (tr *tree) at(pos token.Pos) string {
	p := tr.fset.Position(pos)
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// text: no NUL in its beginning, and of a size that somebody may have written.
func text(b []byte) bool {
	return len(b) < 8<<20 && !bytes.Contains(b[:min(len(b), 8<<10)], []byte{0})
}

// repository finds the root: the directory with go.mod.
func repository(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above this test")
		}
		dir = up
	}
}

// A rule looks at a tree and says what is wrong: "place: what; what next".
type rule struct {
	name  string
	check func(t *testing.T, tr *tree) []string
}

func TestHouse(t *testing.T) {
	tr := plant(t, repository(t))
	if len(tr.code) < 20 || len(tr.files) < len(tr.code) {
		t.Fatalf("only %d Go files of %d found: the rules would look at nothing", len(tr.code), len(tr.files))
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, finding := range r.check(t, tr) {
				t.Error(finding)
			}
		})
	}
}

var rules = []rule{
	{"imports run one way", imports},
	{"doors to the outside have one room", doors},
	{"every package says what it answers", comments},
	{"no room for everything", names},
	{"nothing happens before main", inits},
	{"no state outside of values", state},
	{"the outside world comes in as an argument", reach},
	{"no context is kept", contexts},
	{"no statement is made of pieces", statements},
	{"no weak randomness", weakRandom},
	{"no unverified TLS", unverified},
	{"one file, one thought", long},
	{"who starts goroutines proves that they end", leaks},
	{"every to-do has an owner", todos},
	{"the documents are there", documents},
	{"the code map names every package", codemap},
	{"links lead somewhere", links},
	{"paths in documents exist", paths},
	{"tests named in documents exist", namedTests},
	{"no path of one machine", machinePaths},
	{"no secret is committed", secrets},
	{"nothing built lies in the tree", built},
}
