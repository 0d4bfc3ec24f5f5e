package transform_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/transform"
)

// A block is a fenced block of docs/transform.md.
type block struct {
	kind string
	line int
	text string
}

func readBlocks(t *testing.T) []block {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "transform.md"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	var open *block
	for i, line := range strings.Split(string(b), "\n") {
		switch {
		case open == nil && strings.HasPrefix(line, "```"):
			open = &block{kind: line[3:], line: i + 1}
		case line == "```":
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return blocks
}

// TestDocument runs every example of docs/transform.md, and looks for an example of every function and operator.
func TestDocument(t *testing.T) {
	var message string
	var tables transform.Tables
	var steps []transform.Step
	used := ""
	for _, b := range readBlocks(t) {
		lines := strings.Split(strings.TrimSuffix(b.text, "\n"), "\n")
		switch b.kind {
		case "hl7":
			message = strings.ReplaceAll(b.text, "\n", "\r")
		case "tables":
			tables = readTables(t, b)
		case "expr":
			for i, line := range lines {
				expr, want, ok := strings.Cut(line, "→")
				if !ok {
					t.Errorf("line %d: an example without a result", b.line+1+i)
					continue
				}
				used += expr + "\n"
				checkExample(t, b.line+1+i, message, strings.TrimSpace(expr), strings.TrimSpace(want))
			}
		case "error":
			want := strings.TrimPrefix(lines[1], "→ ")
			_, err := transform.CompileExpr(lines[0])
			var syntax *transform.SyntaxError
			if !errors.As(err, &syntax) || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("line %d: got %v; the document says %s", b.line, err, want)
			}
		case "yaml":
			steps = readSteps(t, b)
		case "result":
			checkSteps(t, b, message, steps, tables)
		default:
			t.Errorf("line %d: a block of unknown kind %q", b.line, b.kind)
		}
	}
	for _, name := range transform.FunctionNames() {
		if !strings.Contains(used, name+"(") {
			t.Errorf("the document has no example of %s()", name)
		}
	}
	for _, op := range []string{"or", "||", "and", "&&", "not", "!", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "matches", "contains", "startsWith", "endsWith", "+"} {
		if !strings.Contains(used, op) {
			t.Errorf("the document has no example of %s", op)
		}
	}
}

// checkExample holds an expression against what the document says it gives: a condition, a text or a number.
func checkExample(t *testing.T, line int, message, expr, want string) {
	t.Helper()
	condition, holds := "("+expr+") == "+want, true
	if want == "true" || want == "false" {
		condition, holds = expr, want == "true"
	}
	x, err := transform.CompileExpr(condition)
	if err != nil {
		t.Errorf("line %d: %s: %v", line, condition, err)
		return
	}
	got, err := x.Match(parse(t, message))
	if err != nil || got != holds {
		t.Errorf("line %d: %s is not %s (%v)", line, expr, want, err)
	}
}

func checkSteps(t *testing.T, b block, message string, steps []transform.Step, tables transform.Tables) {
	t.Helper()
	program, err := transform.CompileSteps(steps, tables)
	if err != nil {
		t.Errorf("line %d: %v", b.line, err)
		return
	}
	m := parse(t, message)
	if changed, err := program.Run(m); err != nil || !changed {
		t.Errorf("line %d: changed is %v, %v", b.line, changed, err)
	}
	for i, line := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
		path, want, _ := strings.Cut(line, "→")
		want = strings.TrimSpace(want)
		raw, there := m.Raw(hl7.MustPath(strings.TrimSpace(path)))
		if want == "absent" {
			if there {
				t.Errorf("line %d: %s is there", b.line+1+i, path)
			}
		} else if string(raw) != want {
			t.Errorf("line %d: %s is %q; the document says %q", b.line+1+i, path, raw, want)
		}
	}
}

func readTables(t *testing.T, b block) transform.Tables {
	t.Helper()
	var raw map[string]struct {
		Values  map[string]string
		Default *string
		Trim    bool
		Case    string
	}
	decode(t, b, &raw)
	tables := transform.Tables{}
	for name, r := range raw {
		tables[name] = transform.Table{Values: r.Values, Default: r.Default, Trim: r.Trim, IgnoreCase: r.Case == "ignore"}
	}
	return tables
}

// readSteps reads steps as the configuration does.
func readSteps(t *testing.T, b block) []transform.Step {
	t.Helper()
	var raw []struct {
		For, When  string
		Set        yaml.Node
		Copy, Move *transform.FromTo
		Delete     yaml.Node
		Map        *transform.Mapping
		Replace    *transform.Replacement
	}
	decode(t, b, &raw)
	var steps []transform.Step
	for _, r := range raw {
		s := transform.Step{For: r.For, When: r.When, Copy: r.Copy, Move: r.Move, Map: r.Map, Replace: r.Replace}
		for i := 0; i < len(r.Set.Content); i += 2 {
			a := transform.Assignment{Field: r.Set.Content[i].Value}
			if v := r.Set.Content[i+1]; v.Kind == yaml.ScalarNode {
				a.Value = v.Value
			} else {
				switch form := v.Content[1].Value; v.Content[0].Value {
				case "expr":
					a.Expr = form
				case "raw":
					a.Raw = form
				case "null": // a key that YAML itself takes for its null
					a.Null = form == "true"
				default:
					t.Fatalf("line %d: %s", b.line+v.Line, v.Content[0].Value)
				}
			}
			s.Set = append(s.Set, a)
		}
		if r.Delete.Kind == yaml.ScalarNode {
			s.Delete = []string{r.Delete.Value}
		} else if r.Delete.Kind == yaml.SequenceNode {
			if err := r.Delete.Decode(&s.Delete); err != nil {
				t.Fatalf("line %d: %v", b.line, err)
			}
		}
		steps = append(steps, s)
	}
	return steps
}

func decode(t *testing.T, b block, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(b.text), into); err != nil {
		t.Fatalf("line %d: %v", b.line, err)
	}
}

// The document's tables of functions name exactly the functions there are.
func TestDocumentNamesNoOtherFunction(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "transform.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| (`[a-z][a-zA-Z]*\\(.*?) \\|")
	call := regexp.MustCompile("`([a-zA-Z]+)\\(")
	var named []string
	for _, r := range row.FindAllStringSubmatch(string(b), -1) {
		for _, c := range call.FindAllStringSubmatch(r[1], -1) {
			named = append(named, c[1])
		}
	}
	slices.Sort(named)
	named = slices.Compact(named)
	have := transform.FunctionNames()
	slices.Sort(have)
	if !slices.Equal(named, have) {
		t.Errorf("the document's tables name %v\nthe language has          %v", named, have)
	}
}
