package transform_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/transform"
)

// sampleMessages reads the messages that lie beside the project, where there are any.
func sampleMessages(t *testing.T) (messages [][]byte, files int) {
	t.Helper()
	root := filepath.Join("..", "..", "..", "shared", "data")
	if _, err := os.Stat(root); err != nil {
		t.Skip("the folder of sample messages is not beside the project; nothing to read")
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".hl7", ".txt", ".er7", ".hl7v2"}, strings.ToLower(filepath.Ext(path))) {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for part := range hl7.SplitBatch(b) {
			if part.Kind == hl7.MessagePart {
				messages = append(messages, part.Raw)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return messages, files
}

// TestSamples holds expressions and steps against hl7 itself, on real messages: an address reads what Get reads, an element
// that is set to itself or copied onto itself keeps its text, and what is not touched keeps its bytes.
func TestSamples(t *testing.T) {
	messages, files := sampleMessages(t)
	parsed, leaves, withEscapes := 0, 0, 0
	for _, wire := range messages {
		m, err := hl7.Parse(wire)
		if err != nil {
			continue
		}
		parsed++
		var paths []hl7.Path
		m.Walk(func(p hl7.Path, _ []byte) bool {
			if p.Segment != "" && p.Segment[0] >= 'A' && !(p.Segment == "MSH" && (p.Field <= 2 || p.Field == 18)) {
				paths = append(paths, p)
			}
			return true
		})
		every := max(1, len(paths)/12)
		for i, p := range paths {
			raw, _ := m.Raw(p)
			escaped := bytes.IndexByte(raw, m.Separators().Escape) >= 0
			if i%every != 0 && !escaped {
				continue
			}
			if strings.ToUpper(p.Segment) != p.Segment || m.Presence(p) == hl7.Null {
				continue
			}
			leaves++
			if escaped {
				withEscapes++
			}
			text := m.Get(p)
			if len(text) < 4000 {
				checkReads(t, m, p, text)
			}
			checkKeeps(t, m, p, text)
		}
	}
	t.Logf("%d files, %d messages, %d of them legible, %d elements read and set, %d with escapes in them", files, len(messages), parsed, leaves, withEscapes)
	if parsed < 700 {
		t.Errorf("only %d messages were read: the test tests too little", parsed)
	}
}

func checkReads(t *testing.T, m *hl7.Message, p hl7.Path, text string) {
	t.Helper()
	x, err := transform.CompileExpr(p.String() + ` == "` + strings.ReplaceAll(text, `"`, `""`) + `"`)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	if ok, err := x.Match(m); !ok || err != nil {
		t.Errorf("%s reads as something else than Get gives (%v)", p, err)
	}
}

func checkKeeps(t *testing.T, m *hl7.Message, p hl7.Path, text string) {
	t.Helper()
	for name, step := range map[string]transform.Step{
		"set to itself":  {Set: []transform.Assignment{{Field: p.String(), Expr: p.String()}}},
		"copied":         {Copy: &transform.FromTo{From: p.String(), To: p.String()}},
		"replaced twice": {Replace: &transform.Replacement{Field: p.String(), Pattern: `^((?s).*)$`, With: "$1"}},
	} {
		program, err := transform.CompileSteps([]transform.Step{step}, nil)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		c := m.Clone()
		if _, err := program.Run(c); err != nil {
			t.Errorf("%s, %s: %v", p, name, err)
			continue
		}
		if c.Get(p) != text {
			t.Errorf("%s, %s, has another text", p, name)
		}
		if before, after := others(m, []string{p.Segment}), others(c, []string{p.Segment}); !slices.Equal(before, after) {
			t.Errorf("%s, %s: other segments changed", p, name)
		}
	}
}
