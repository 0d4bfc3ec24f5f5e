package hl7_test

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/hl7"
)

// samplesDir is the folder of collected messages that lies beside the project, where there is one.
func samplesDir(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Skip("no go.mod above the test: the sample messages cannot be found")
		}
		dir = up
	}
	data := filepath.Join(dir, "..", "shared", "data")
	if _, err := os.Stat(data); err != nil {
		t.Skip("the folder of sample messages is not beside the project; nothing to read")
	}
	return data
}

// A sample is one message of the collection.
type sample struct {
	file string
	raw  []byte
}

// samples reads every message of the collection. Files of several messages and batches are split, MLLP streams unframed.
func samples(t testing.TB) (messages []sample, files int, strays []sample) {
	t.Helper()
	root := samplesDir(t)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		ext := strings.ToLower(filepath.Ext(path))
		if !slices.Contains([]string{".hl7", ".txt", ".er7", ".hl7v2", ".mllp"}, ext) || strings.HasPrefix(d.Name(), "LICENSE") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		name, _ := filepath.Rel(root, path)
		contents := [][]byte{b}
		if ext == ".mllp" {
			contents = unframe(t, name, b)
		}
		for _, c := range contents {
			var together []byte
			for part := range hl7.SplitBatch(c) {
				together = append(together, part.Raw...)
				switch part.Kind {
				case hl7.MessagePart:
					messages = append(messages, sample{name, part.Raw})
				case hl7.StrayPart:
					strays = append(strays, sample{name, part.Raw})
				}
			}
			if !bytes.Equal(together, c) {
				t.Errorf("%s: splitting lost bytes", name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return messages, files, strays
}

// unframe takes MLLP blocks apart: 0x0B, the content, 0x1C 0x0D.
func unframe(t testing.TB, name string, b []byte) (blocks [][]byte) {
	t.Helper()
	for len(bytes.TrimSpace(b)) > 0 {
		start := bytes.IndexByte(b, 0x0B)
		end := bytes.Index(b, []byte{0x1C, '\r'})
		if start != 0 || end < 0 {
			t.Fatalf("%s: no MLLP block where one should begin", name)
		}
		blocks = append(blocks, b[1:end])
		b = b[end+2:]
	}
	return blocks
}

// TestSamples: every collected message is read and written back byte for byte, or refused with a position.
func TestSamples(t *testing.T) {
	messages, files, strays := samples(t)
	versions, charsets := make(map[string]int), make(map[string]int)
	refused, problems, changed := 0, 0, 0
	for _, s := range messages {
		m, err := hl7.Parse(s.raw)
		if err != nil {
			var syntax *hl7.SyntaxError
			if !errors.As(err, &syntax) {
				t.Errorf("%s: refused with %T, not a SyntaxError", s.file, err)
			}
			t.Logf("%s: %v", s.file, err)
			refused++
			continue
		}
		if !bytes.Equal(m.Bytes(), s.raw) {
			t.Errorf("%s: untouched, and changed", s.file)
		}
		versions[m.Version()]++
		charsets[m.Charset()]++
		if p := m.CheckText(); len(p) > 0 {
			problems++
			t.Logf("%s: %v", s.file, p)
		}
		checkRewrite(t, s, m)
		changed++
		ack := hl7.NewAck(m, hl7.Ack{Code: hl7.AA, ControlID: "1"})
		if r, err := hl7.ParseAck(ack); err != nil || r.Code != hl7.AA || r.ControlID != m.ControlID() {
			t.Errorf("%s: its acknowledgement is read as %+v, %v", s.file, r, err)
		}
	}
	for _, s := range strays {
		t.Logf("%s: %d stray bytes outside any message", s.file, len(s.raw))
		if _, err := hl7.Parse(s.raw); err == nil {
			t.Errorf("%s: stray bytes parse as a message", s.file)
		}
	}
	t.Logf("%d messages in %d files: %d read and written back byte for byte, %d refused; %d with a finding about their character set",
		len(messages), files, changed, refused, problems)
	for _, v := range slices.Sorted(maps.Keys(versions)) {
		t.Logf("version %q: %d", v, versions[v])
	}
	for _, c := range slices.Sorted(maps.Keys(charsets)) {
		t.Logf("character set %q: %d", c, charsets[c])
	}
	if len(messages) < 1170 {
		t.Errorf("the collection has 1,170 messages; only %d were found", len(messages))
	}
}

// checkRewrite puts every leaf back where it came from: nothing may change but, once, be copied.
func checkRewrite(t *testing.T, s sample, m *hl7.Message) {
	t.Helper()
	c := m.Clone()
	leaves := 0
	m.Walk(func(p hl7.Path, raw []byte) bool {
		leaves++
		got, ok := m.Raw(p)
		if !ok || !bytes.Equal(got, raw) {
			t.Errorf("%s: Walk and Raw disagree about %s", s.file, p)
			return false
		}
		if p.Segment == "" || p.Segment == "MSH" && p.Field <= 2 || bytes.IndexByte(raw, '\n') >= 0 {
			return true // no address, no change, or a line break that somebody left in a text: kept, but never written anew
		}
		if err := c.SetRaw(p, raw); err != nil {
			t.Errorf("%s: %v", s.file, err)
			return false
		}
		return true
	})
	if leaves == 0 {
		t.Errorf("%s: Walk found nothing", s.file)
	}
	if !bytes.Equal(c.Bytes(), s.raw) {
		t.Errorf("%s: putting every value back where it was changed the message", s.file)
	}
}
