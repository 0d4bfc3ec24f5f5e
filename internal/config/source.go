package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

const (
	maxFile  = 4 << 20 // bytes of one file
	maxFiles = 1000    // in lazaret.d
)

// A source is one file: its name as it is shown, and its text.
type source struct {
	name string
	text []byte
}

// Load reads FILE and the files of lazaret.d beside it. With no path it is lazaret.yaml here, and where there is none,
// /etc/lazaret/lazaret.yaml. What is wrong with the content comes as [Errors]; a file that cannot be read as its error.
func Load(path string) (*Config, error) {
	if path == "" {
		path = "lazaret.yaml"
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			const system = "/etc/lazaret/lazaret.yaml"
			if _, err := os.Stat(system); err != nil {
				return nil, fmt.Errorf("no configuration: neither %s here nor %s: %w", path, system, fs.ErrNotExist)
			}
			path = system
		}
	}
	paths, err := beside(path)
	if err != nil {
		return nil, err
	}
	r := &reader{sources: map[*yaml.Node]*source{}, at: map[string]Position{}, patterns: map[string]*regexp.Regexp{}, left: maxValues}
	var root *yaml.Node
	for _, p := range paths {
		text, err := readBounded(p, maxFile)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		node := r.parse(&source{name: p, text: bytes.TrimPrefix(text, []byte("\ufeff"))})
		switch {
		case node == nil: // empty, or not legible and said so
		case node.Kind != yaml.MappingNode:
			r.fail(node, "", "is not a mapping", "a configuration file is KEY: VALUE, one below the other")
		case root == nil:
			root = node
		default:
			root = r.merge(root, node, "")
		}
	}
	c := &Config{}
	v := reflect.ValueOf(c).Elem()
	applyDefaults(v)
	if root != nil {
		r.at[""] = Position{File: paths[0], Line: 1, Column: 1}
		r.value(root, v, "", fieldTag{})
	}
	if len(r.problems) > 0 {
		r.problems.sort()
		if r.full() {
			r.problems = append(r.problems, Problem{What: "has more problems than are listed here", Next: "begin with these"})
		}
		return nil, r.problems
	}
	if c.dir, err = filepath.Abs(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	c.files, c.at = paths, r.at
	if c.at[""] == (Position{}) {
		c.at[""] = Position{File: path}
	}
	c.settle()
	return c, nil
}

// beside lists the file and those of lazaret.d beside it, in the order of their names.
func beside(path string) ([]string, error) {
	paths := []string{path}
	dir := filepath.Join(filepath.Dir(path), "lazaret.d")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return paths, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, ext) {
			continue
		}
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	if len(paths) > maxFiles+1 {
		return nil, fmt.Errorf("read configuration: %s holds more than %d files: join some", dir, maxFiles)
	}
	return paths, nil
}

// parse turns one file into nodes and remembers where they stand. nil: there is nothing, or nothing legible.
func (r *reader) parse(s *source) *yaml.Node {
	var node *yaml.Node
	var problem *Problem
	if filepath.Ext(s.name) == ".json" {
		node, problem = parseJSON(s.text)
	} else {
		node, problem = parseYAML(s.text)
	}
	if problem != nil {
		problem.File = s.name
		r.problems = append(r.problems, *problem)
		return nil
	}
	if node != nil {
		r.remember(node, s)
		dropSchema(node)
	}
	return node
}

func (r *reader) remember(n *yaml.Node, s *source) {
	r.sources[n] = s
	for _, c := range n.Content {
		r.remember(c, s)
	}
}

// dropSchema removes the key by which editors find the schema of a file.
func dropSchema(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "$schema" && n.Content[i+1].Kind == yaml.ScalarNode {
			n.Content = slices.Delete(slices.Clone(n.Content), i, i+2)
			return
		}
	}
}

// quoted is what an error of a parser may repeat from the file: it could be a piece of a secret.
var quoted = regexp.MustCompile(`'[^']*'|"[^"]*"|` + "`[^`]*`")

func parseYAML(text []byte) (*yaml.Node, *Problem) {
	var doc yaml.Node
	err := yaml.Load(text, &doc)
	var one *yaml.LoadError
	switch {
	case err == nil:
	case !errors.As(err, &one):
		return nil, &Problem{What: "is not legible YAML", Next: "check its quotes, brackets and indentation"}
	case strings.Contains(one.Message, "no documents in stream"):
		return nil, nil
	case strings.Contains(one.Message, "multiple"):
		return nil, &Problem{What: "holds several documents (---)", Next: "put each into a file of its own in lazaret.d"}
	default:
		what, next := "is not legible YAML", "check the quotes, brackets and indentation around it"
		if m := sayYAML(one); m != "" {
			what += ": " + m
		}
		line, column := one.Mark.Line, one.Mark.Column
		if one.Stage == "reader" {
			line, column = lineOf(text, int64(one.Mark.Index))
			next = "save the file as UTF-8"
		}
		return nil, &Problem{Line: line, Column: column, What: what, Next: next}
	}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		n := doc.Content[0]
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
			return nil, nil
		}
		return n, nil
	}
	return nil, nil
}

// sayYAML is the parser's reason, without anything that it repeats from the file.
func sayYAML(e *yaml.LoadError) string {
	m := strings.ReplaceAll(e.Message, "',' or ']'", "a comma or ]")
	m = strings.ReplaceAll(m, "',' or '}'", "a comma or }")
	m = strings.ReplaceAll(quoted.ReplaceAllString(m, "…"), "did not find expected", "expected")
	m = strings.TrimPrefix(m, "yaml: ")
	if e.ContextMsg != "" {
		m = strings.TrimPrefix(quoted.ReplaceAllString(e.ContextMsg, "…"), "while ") + ", " + m
	}
	return m
}

// parseJSON reads JSON by its own rules (RFC 8259) into the nodes that YAML would give.
func parseJSON(text []byte) (*yaml.Node, *Problem) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	lines := lineCounter{text: text, line: 1}
	n, err := jsonValue(d, &lines, 0)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return n, nil
		}
		if err == nil {
			err = errors.New("something follows the end of the value")
		}
	}
	offset, what := d.InputOffset(), "is not legible JSON"
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset - 1
		what += ": " + quoted.ReplaceAllString(syntax.Error(), "…")
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		what += ": it ends too early"
		offset = int64(len(text))
	case errors.Is(err, errDeep):
		what = "holds one value too deep inside another"
	}
	line, column := lineOf(text, offset)
	return nil, &Problem{Line: line, Column: column, What: what, Next: "check the commas, quotes and brackets around it"}
}

var errDeep = errors.New("too deep")

func jsonValue(d *json.Decoder, lines *lineCounter, depth int) (*yaml.Node, error) {
	if depth > 2*maxDepth {
		return nil, errDeep
	}
	start := d.InputOffset()
	for start < int64(len(lines.text)) && bytes.IndexByte([]byte(" \t\r\n,:"), lines.text[start]) >= 0 {
		start++
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode}
	n.Line, n.Column = lines.at(start)
	switch t := token.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
		if t == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for d.More() {
			c, err := jsonValue(d, lines, depth+1) // in an object: keys and values in turn
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, c)
		}
		if _, err := d.Token(); err != nil {
			return nil, cmp.Or(err, io.ErrUnexpectedEOF)
		}
	case string:
		n.Tag, n.Value, n.Style = "!!str", t, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!int", t.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", fmt.Sprint(t)
	case nil:
		n.Tag, n.Value = "!!null", "null"
	}
	return n, nil
}

// A lineCounter gives lines and columns, from 1, of byte offsets that grow.
type lineCounter struct {
	text  []byte
	line  int
	start int64 // of the line
	seen  int64 // up to where lines are counted
}

func (l *lineCounter) at(offset int64) (line, column int) {
	for {
		i := bytes.IndexByte(l.text[l.seen:offset], '\n')
		if i < 0 {
			break
		}
		l.line++
		l.seen += int64(i) + 1
		l.start = l.seen
	}
	l.seen = max(l.seen, offset)
	const far = 1000 // a line longer than this is no person's: bytes will do
	if offset-l.start > far {
		return l.line, int(offset-l.start) + 1
	}
	return l.line, utf8.RuneCount(l.text[l.start:offset]) + 1
}

// lineOf gives line and column, from 1, of a byte offset.
func lineOf(text []byte, offset int64) (line, column int) {
	before := text[:min(max(offset, 0), int64(len(text)))]
	return bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
}

// merge joins two files' mappings. Lists whose members have names are joined; any other key in both is an error.
func (r *reader) merge(a, b *yaml.Node, key string) *yaml.Node {
	if !r.enter(b, key) {
		return a
	}
	defer r.leave()
	joined := *a
	joined.Content = slices.Clone(a.Content)
	r.sources[&joined] = r.sources[a]
	for i := 0; i+1 < len(b.Content); i += 2 {
		k, v := b.Content[i], r.resolve(b.Content[i+1])
		at := keyIndex(&joined, k)
		if at < 0 {
			joined.Content = append(joined.Content, k, b.Content[i+1])
			continue
		}
		old := r.resolve(joined.Content[at+1])
		switch {
		case old.Kind == yaml.MappingNode && v.Kind == yaml.MappingNode:
			joined.Content[at+1] = r.merge(old, v, joinKey(key, k.Value))
		case key == "" && k.Value == "channels" && old.Kind == yaml.SequenceNode && v.Kind == yaml.SequenceNode:
			list := *old
			list.Content = slices.Concat(old.Content, v.Content)
			r.sources[&list] = r.sources[old]
			joined.Content[at+1] = &list
		default:
			r.fail(k, joinKey(key, k.Value), "is given twice, first at "+r.place(joined.Content[at]).String(), "remove one of them")
		}
	}
	return &joined
}

// keyIndex finds a key that is a text in a mapping; -1: it is not there.
func keyIndex(n, key *yaml.Node) int {
	for i := 0; i+1 < len(n.Content) && key.Kind == yaml.ScalarNode; i += 2 {
		if n.Content[i].Kind == yaml.ScalarNode && n.Content[i].Value == key.Value {
			return i
		}
	}
	return -1
}
