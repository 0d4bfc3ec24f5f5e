package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A constant is a package variable that the rule below would refuse, and why it may stay.
type constant struct{ dir, name, why string }

var constants = []constant{}

// state: a package variable may exist only if it is a constant that Go cannot write as one: an error value, an embedded
// file, a table or pattern that is set where it is declared and never again. Exported ones may be errors only, for anybody
// could write to the others. Method calls that change a variable from within are not seen; types made for that (package
// sync, channels, pointers, makes) are refused instead.
func state(t *testing.T, tr *tree) (findings []string) {
	used := map[constant]bool{}
	for dir, files := range tr.packages() {
		vars := map[types.Object]string{} // where it was declared
		info := resolve(tr, dir, files)
		for _, f := range files {
			if f.test {
				continue
			}
			for _, d := range f.ast.Decls {
				gen, ok := d.(*ast.GenDecl)
				if !ok || gen.Tok != token.VAR {
					continue
				}
				for _, spec := range gen.Specs {
					spec := spec.(*ast.ValueSpec)
					for i, name := range spec.Names {
						var value ast.Expr
						if i < len(spec.Values) {
							value = spec.Values[i]
						}
						why := mutable(name.Name, spec.Type, value, embeds(gen, spec))
						if why == "" {
							vars[info.Defs[name]] = tr.at(name.Pos())
							continue
						}
						if k := slices.IndexFunc(constants, func(c constant) bool { return c.dir == dir && c.name == name.Name }); k >= 0 {
							used[constants[k]] = true
							continue
						}
						findings = append(findings, fmt.Sprintf("%s: %s %s", tr.at(name.Pos()), name.Name, why))
					}
				}
			}
		}
		delete(vars, nil)
		for _, f := range files {
			for _, id := range written(f.ast) {
				if where, ok := vars[info.Uses[id]]; ok {
					findings = append(findings, fmt.Sprintf("%s: writes to the package variable %s (%s); keep it in a value that somebody owns", tr.at(id.Pos()), id.Name, where))
				}
			}
		}
	}
	for _, c := range constants {
		if c.why == "" {
			findings = append(findings, fmt.Sprintf("internal/house: the exception for %s in %s has no reason", c.name, c.dir))
		}
		if _, here := tr.packages()[c.dir]; here && !used[c] && tr.root == repository(t) {
			findings = append(findings, fmt.Sprintf("internal/house: the exception for %s in %s is not needed any more", c.name, c.dir))
		}
	}
	slices.Sort(findings)
	return findings
}

// calls that make something nobody can change; a db.Table is the text of a statement.
var frozen = regexp.MustCompile(`^(errors\.(New|Join)|fmt\.Errorf|regexp\.MustCompile(POSIX)?|strings\.NewReplacer|big\.NewInt|template\.Must|db\.NewTable|(\w+\.)?[mM]ust\w*|(netip|time|uuid|math|unicode|utf8)\.\w+|\w+\.Error)$`)

// mutable says why a variable is no constant, or nothing.
func mutable(name string, typ, value ast.Expr, embedded bool) string {
	isErr := strings.HasPrefix(name, "Err") || strings.HasPrefix(name, "err")
	switch {
	case name == "_" || embedded:
		return ""
	case value == nil:
		return "has no value yet: somebody will set it; keep it in a value that somebody owns"
	case ast.IsExported(name) && !isErr:
		return "is exported, so that anybody may set it; make it a constant or a function"
	case typ != nil && shared(typ):
		return "is made to change; keep it in a value that somebody owns"
	}
	switch v := ast.Unparen(value).(type) {
	case *ast.UnaryExpr:
		if v.Op == token.AND && !isErr {
			return "is a pointer to something that can change; keep it in a value that somebody owns"
		}
	case *ast.FuncLit:
		return "is a function that can be replaced; declare it as one, or take it as an argument"
	case *ast.SelectorExpr:
		if name := types.ExprString(v); name == "time.Now" || name == "rand.Reader" || strings.HasPrefix(name, "os.") {
			return "holds " + name + "; clock, randomness and the outside world come in as arguments"
		}
	case *ast.CompositeLit:
		if v.Type != nil && shared(v.Type) {
			return "is made to change; keep it in a value that somebody owns"
		}
	case *ast.CallExpr:
		switch fun := ast.Unparen(v.Fun).(type) {
		case *ast.FuncLit, *ast.ArrayType, *ast.MapType: // a table that is computed once; a conversion
			return ""
		default:
			if call := types.ExprString(fun); !frozen.MatchString(call) && !conversion(call) {
				return "comes from " + call + ", which may give something that changes; if it does not, say so in internal/house"
			}
		}
	}
	return ""
}

func conversion(call string) bool {
	return slices.Contains([]string{"string", "byte", "rune", "uint16", "uint32", "uint64", "int64", "float64", "len"}, call)
}

// shared: a type whose values exist to be changed by several.
func shared(typ ast.Expr) bool {
	s := types.ExprString(typ)
	return strings.HasPrefix(s, "sync.") || strings.HasPrefix(s, "atomic.") || strings.HasPrefix(s, "chan ") ||
		strings.HasPrefix(s, "*sync.") || strings.HasPrefix(s, "<-chan ")
}

func embeds(gen *ast.GenDecl, spec *ast.ValueSpec) bool {
	for _, g := range []*ast.CommentGroup{gen.Doc, spec.Doc} {
		if g == nil {
			continue
		}
		for _, c := range g.List {
			if strings.HasPrefix(c.Text, "//go:embed ") {
				return true
			}
		}
	}
	return false
}

// written lists the variables at the root of whatever the file assigns to, counts up, clears or deletes from.
func written(file *ast.File) (out []*ast.Ident) {
	add := func(e ast.Expr) {
		for {
			switch x := e.(type) {
			case *ast.Ident:
				out = append(out, x)
				return
			case *ast.IndexExpr:
				e = x.X
			case *ast.SelectorExpr:
				e = x.X
			case *ast.ParenExpr:
				e = x.X
			case *ast.StarExpr:
				e = x.X
			case *ast.SliceExpr:
				e = x.X
			default:
				return
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, e := range n.Lhs {
					add(e)
				}
			}
		case *ast.IncDecStmt:
			add(n.X)
		case *ast.RangeStmt:
			if n.Tok == token.ASSIGN {
				add(n.Key)
				if n.Value != nil {
					add(n.Value)
				}
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && slices.Contains([]string{"delete", "clear", "copy"}, f.Name) {
				add(n.Args[0])
			}
		}
		return true
	})
	return out
}

// resolve finds out which name means which variable. Imports are left empty and errors are passed over: for names of the
// package itself that is enough, and it costs milliseconds instead of compiling every dependency.
func resolve(tr *tree, dir string, files []*source) *types.Info {
	info := &types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}
	byName := map[string][]*ast.File{}
	for _, f := range files {
		byName[f.ast.Name.Name] = append(byName[f.ast.Name.Name], f.ast)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		conf := types.Config{Importer: hollow{}, Error: func(error) {}}
		_, _ = conf.Check(module+"/"+dir+"#"+name, tr.fset, byName[name], info)
	}
	return info
}

// hollow imports every package as an empty one.
type hollow struct{}

func (hollow) Import(p string) (*types.Package, error) {
	pkg := types.NewPackage(p, path.Base(p))
	pkg.MarkComplete()
	return pkg, nil
}
