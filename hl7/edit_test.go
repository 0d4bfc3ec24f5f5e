package hl7_test

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
)

func TestRefusedEdits(t *testing.T) {
	raw := func(path, raw string) func(*hl7.Message) error {
		return func(m *hl7.Message) error { return m.SetRaw(hl7.MustPath(path), []byte(raw)) }
	}
	set := func(p hl7.Path) func(*hl7.Message) error {
		return func(m *hl7.Message) error { return m.Set(p, "x") }
	}
	for _, c := range []struct {
		name string
		edit func(*hl7.Message) error
	}{
		{"a field separator in a field", raw("PID-3", "a|b")},
		{"a repetition separator in a repetition", raw("PID-3(1)", "a~b")},
		{"a component separator in a component", raw("PID-3.1", "a^b")},
		{"a repetition separator in a component", raw("PID-3.1", "a~b")},
		{"a subcomponent separator in a subcomponent", raw("PID-3.1.1", "a&b")},
		{"a CR", raw("PID-3", "a\rZZ2|")},
		{"an LF", raw("PID-3", "a\nZZ2|")},
		{"the end of an MLLP block", raw("PID-3", "a\x1c")},
		{"the beginning of an MLLP block", raw("PID-3", "a\x0b")},
		{"a segment that is two", raw("OBX(2)", "OBX|1\rOBX|2")},
		{"a segment without a name", raw("OBX(2)", "|1")},
		{"a segment that is not there", raw("OBX(7)", "OBX|7")},
		{"MSH turned into another segment", raw("MSH", "PID|1")},
		{"MSH with other separators", raw("MSH", "MSH|$~\\&|A")},
		{"MSH-1", set(hl7.MustPath("MSH-1"))},
		{"MSH-2", set(hl7.MustPath("MSH-2"))},
		{"a whole segment as a value", set(hl7.MustPath("PID"))},
		{"a segment two places behind the last", set(hl7.MustPath("OBX(4)-1"))},
		{"a missing segment counted from the end", set(hl7.MustPath("OBX(-3)-1"))},
		{"a missing repetition counted from the end", set(hl7.MustPath("PID-3(-3).1"))},
		{"a field far behind any segment's end", set(hl7.Path{Segment: "PID", Field: 1 << 30})},
		{"a repetition without end", set(hl7.Path{Segment: "PID", Field: 3, Rep: 1 << 30})},
		{"a subcomponent without a component", set(hl7.Path{Segment: "PID", Field: 3, Subcomponent: 1})},
		{"a segment's name with a separator in it", set(hl7.Path{Segment: "A|B", Field: 3})},
		{"a segment's name with a terminator in it", set(hl7.Path{Segment: "AB\r", Field: 3})},
		{"no segment", set(hl7.Path{Field: 3})},
		{"MSH taken out", func(m *hl7.Message) error { return m.Delete(hl7.MustPath("MSH")) }},
		{"a segment before MSH", func(m *hl7.Message) error { return m.InsertSegment(0, []byte("ZZ1|")) }},
		{"a segment far behind the last", func(m *hl7.Message) error { return m.InsertSegment(99, []byte("ZZ1|")) }},
		{"a second message appended", func(m *hl7.Message) error { return m.AppendSegment([]byte("MSH|^~\\&|A")) }},
		{"a second message made by setting a field of it", set(hl7.MustPath("MSH(2)-3"))},
		{"a segment turned into a second message", raw("OBX(2)", "MSH|^~\\&|A")},
		{"the end of a batch appended", func(m *hl7.Message) error { return m.AppendSegment([]byte("BTS|1")) }},
		{"two segments inserted as one", func(m *hl7.Message) error { return m.AppendSegment([]byte("ZZ1|\rZZ2|")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parse(t, admit)
			if err := c.edit(m); err == nil {
				t.Error("was not refused")
			}
			if string(m.Bytes()) != admit {
				t.Errorf("was refused, and left %q", m.Bytes())
			}
		})
	}
}

func TestDelete(t *testing.T) {
	for _, c := range []struct{ name, path, old, new string }{
		{"a field is emptied", "PID-3", "|100^^^MERCY^MR~200^^^STATE&1.2.3&ISO^SS|", "||"},
		{"a component is emptied", "PID-3(2).5", "ISO^SS", "ISO^"},
		{"a repetition is taken out", "PID-3(1)", "100^^^MERCY^MR~", ""},
		{"the last repetition is taken out", "PID-3(-1)", "~200^^^STATE&1.2.3&ISO^SS", ""},
		{"all repetitions are taken out", "PID-3(*)", "100^^^MERCY^MR~200^^^STATE&1.2.3&ISO^SS", ""},
		{"a component of every repetition", "PID-3(*).1", "100^^^MERCY^MR~200^", "^^^MERCY^MR~^"},
		{"a segment is taken out", "OBX(1)", "OBX|1|TX|A^Alpha||first\r", ""},
		{"every such segment", "OBX(*)", "OBX|1|TX|A^Alpha||first\rOBX|2|TX|B^Beta||second\r", ""},
		{"what is absent stays absent", "NTE-3", "", ""},
		{"a repetition that is absent", "PID-3(9)", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parse(t, admit)
			if err := m.Delete(hl7.MustPath(c.path)); err != nil {
				t.Fatal(err)
			}
			if want := strings.Replace(admit, c.old, c.new, 1); string(m.Bytes()) != want {
				t.Errorf("left\n%q\nwant\n%q", m.Bytes(), want)
			}
		})
	}
}

func TestSetNull(t *testing.T) {
	m := parse(t, admit)
	p := hl7.MustPath("PID-8")
	if err := m.SetNull(p); err != nil {
		t.Fatal(err)
	}
	if m.Presence(p) != hl7.Null || !strings.Contains(string(m.Bytes()), `|19700101|""|`) {
		t.Errorf("PID-8 is %s in %q", m.Presence(p), m.Bytes())
	}
}

func TestInsertSegment(t *testing.T) {
	for _, c := range []struct{ name, message, want string }{
		{"CR", "MSH|^~\\&|A\rPID|1\r", "MSH|^~\\&|A\rEVN|A01\rPID|1\rZZ1|x\r"},
		{"LF", "MSH|^~\\&|A\nPID|1\n", "MSH|^~\\&|A\nEVN|A01\nPID|1\nZZ1|x\n"},
		{"CRLF", "MSH|^~\\&|A\r\nPID|1\r\n", "MSH|^~\\&|A\r\nEVN|A01\r\nPID|1\r\nZZ1|x\r\n"},
		{"a missing last terminator is made up for", "MSH|^~\\&|A\rPID|1", "MSH|^~\\&|A\rEVN|A01\rPID|1\rZZ1|x\r"},
		{"blank lines stay where they are", "MSH|^~\\&|A\r\rPID|1\r\r", "MSH|^~\\&|A\r\rEVN|A01\rPID|1\r\rZZ1|x\r"},
		{"a lone MSH", "MSH|^~\\&|A", "MSH|^~\\&|A\rEVN|A01\rZZ1|x\r"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parse(t, c.message)
			if err := m.InsertSegment(1, []byte("EVN|A01")); err != nil {
				t.Fatal(err)
			}
			if err := m.AppendSegment([]byte("ZZ1|x")); err != nil {
				t.Fatal(err)
			}
			if string(m.Bytes()) != c.want {
				t.Errorf("got %q, want %q", m.Bytes(), c.want)
			}
		})
	}
}

func TestCloneIsApart(t *testing.T) {
	for _, s := range []string{admit, strings.Replace(admit, "UNICODE UTF-8", "GB 18030-2000", 1)} {
		m := parse(t, s)
		if err := m.Set(hl7.MustPath("PID-8"), "U"); err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(m.Bytes())
		c := m.Clone()
		if err := c.Set(hl7.MustPath("PID-8"), "M"); err != nil {
			t.Fatal(err)
		}
		if err := c.AppendSegment([]byte("ZZ9|")); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(hl7.MustPath("OBX(*)")); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.Bytes(), before) {
			t.Error("changing a clone changed the message")
		}
		after := bytes.Clone(c.Bytes())
		if err := m.Reset([]byte(strings.Replace(s, "Doe", "Roe", 1))); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.Bytes(), after) || c.Get(hl7.MustPath("PID-5.1")) != "Doe" {
			t.Error("resetting the message changed its clone")
		}
	}
}

func TestExpand(t *testing.T) {
	m := parse(t, admit)
	for _, c := range []struct {
		path string
		want []string
	}{
		{"OBX(*)-5", []string{"OBX(1)-5", "OBX(2)-5"}},
		{"PID-3(*)", []string{"PID-3(1)", "PID-3(2)"}},
		{"PID-3(*).4.2", []string{"PID-3(2).4.2"}},
		{"OBX(*)-3(*).2", []string{"OBX(1)-3(1).2", "OBX(2)-3(1).2"}},
		{"OBX(*)", []string{"OBX(1)", "OBX(2)"}},
		{"OBX(*)-9", nil},
		{"NTE(*)-3", nil},
		{"PID-2(*)", nil},
		{"PID-3.1", []string{"PID-3.1"}},
		{"PID-30", nil},
	} {
		var got []string
		for _, p := range m.Expand(hl7.MustPath(c.path)) {
			got = append(got, p.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s means %v, want %v", c.path, got, c.want)
		}
	}
	for path, want := range map[string]int{"PID-3": 2, "PID-2": 0, "PID-5": 1, "PID-99": 0, "MSH-2": 1, "NTE-1": 0} {
		if got := m.Repetitions(hl7.MustPath(path)); got != want {
			t.Errorf("%s has %d repetitions, want %d", path, got, want)
		}
	}
}

func TestSegmentsAndWalk(t *testing.T) {
	m := parse(t, "MSH|^~\\&|A\rPID|1||a^b&c~d\rno segment at all\rOBX|1\rOBX\r")
	var segments []string
	for i, s := range m.Segments() {
		segments = append(segments, strings.Join([]string{string(rune('0' + i)), s.Name, string(rune('0' + s.Rep)), string(s.Raw)}, " "))
	}
	if want := []string{"0 MSH 1 MSH|^~\\&|A", "1 PID 1 PID|1||a^b&c~d", "2  1 no segment at all", "3 OBX 1 OBX|1", "4 OBX 2 OBX"}; !slices.Equal(segments, want) {
		t.Errorf("segments: %q", segments)
	}
	var leaves []string
	m.Walk(func(p hl7.Path, raw []byte) bool {
		leaves = append(leaves, p.String()+" "+string(raw))
		return p.Segment != "OBX"
	})
	want := []string{"MSH(1)-1(1) |", "MSH(1)-2(1) ^~\\&", "MSH(1)-3(1) A", "PID(1)-1(1) 1", "PID(1)-3(1).1 a", "PID(1)-3(1).2.1 b",
		"PID(1)-3(1).2.2 c", "PID(1)-3(2) d", "?(1) no segment at all", "OBX(1)-1(1) 1"}
	if !slices.Equal(leaves, want) {
		t.Errorf("leaves: %q", leaves)
	}
	if raw, ok := m.Raw(hl7.Path{SegmentRep: 1}); !ok || string(raw) != "no segment at all" {
		t.Errorf("the line that is no segment is %q", raw)
	}
}

// A field of many megabytes, with very many parts, is handled in time that grows with its length and not with its square.
func TestHugeFields(t *testing.T) {
	const reps = 400_000
	field := strings.Repeat("A&B^C~", reps)
	pdf := strings.Repeat("JVBERi0xLjQK", 1<<20)
	s := "MSH|^~\\&|A\rPID|1||" + field + "\rOBX|1|ED|||^application^pdf^Base64^" + pdf + "\r" + strings.Repeat("OBX|2|NM|||7\n", 100_000) + "\r"
	start := time.Now()
	m := parse(t, s)
	leaves := 0
	m.Walk(func(hl7.Path, []byte) bool { leaves++; return true })
	if want := 3*reps + 3 + 1 + 6 + 3*100_000; leaves != want {
		t.Errorf("%d leaves, want %d", leaves, want)
	}
	if got := m.Repetitions(hl7.MustPath("PID-3")); got != reps+1 {
		t.Errorf("%d repetitions", got)
	}
	if err := m.Set(hl7.MustPath("PID-3(*).4"), "H"); err != nil {
		t.Fatal(err)
	}
	if err := m.Delete(hl7.MustPath("PID-3(*).1.2")); err != nil {
		t.Fatal(err)
	}
	if err := m.Set(hl7.MustPath("OBX(*)-11"), "F"); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := m.Set(hl7.Path{Segment: "ZZ1", Field: i + 1}, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.Get(hl7.MustPath("OBX-5.5")); got != pdf {
		t.Error("the document changed")
	}
	if got := m.Get(hl7.MustPath("PID-3(-2)")); got != "A&^C^^H" {
		t.Errorf("the last full repetition is %q", got)
	}
	results := m.Expand(hl7.MustPath("OBX(*)-5"))
	if len(results) != 100_001 {
		t.Errorf("%d results", len(results))
	}
	for _, p := range results[1:] {
		if m.Get(p) != "7" {
			t.Fatalf("%s is lost", p)
		}
		if err := m.Set(p, "8"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50_000 {
		if err := m.Set(hl7.Path{Segment: "ZZ2", SegmentRep: i + 1, Field: 1}, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.Get(hl7.MustPath("OBX(-1)-5")) + m.Get(hl7.MustPath("ZZ2(-50000)-1")) + m.Get(hl7.MustPath("ZZ2(50001)-1")); got != "8x" {
		t.Errorf("the last result and the first new segment are %q", got)
	}
	hl7.NewAckRaw([]byte(strings.Repeat("MSH|", 1<<20)), hl7.Ack{Code: hl7.AR})
	escapes := parse(t, "MSH|^~\\&|A\rOBX|1|TX|||"+strings.Repeat("\\", 4<<20)+strings.Repeat("\\X", 2<<20)+"\r")
	escapes.Get(hl7.MustPath("OBX-5"))
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("took %v; something costs the square of the length", d)
	}
}

// Readers share a message, among them those that make something on the way: a guess, a list of places, a clone.
func TestConcurrentReaders(t *testing.T) {
	m := parse(t, "MSH|^~\\&|A\rPID|1||||M\xfcller\r"+strings.Repeat("OBX|1|TX|||x\r", 200))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := m.Get(hl7.MustPath("PID-5")); got != "Müller" {
				t.Errorf("the name is %q", got)
			}
			if got := m.Clone().Get(hl7.MustPath("OBX(150)-5")) + m.Get(hl7.MustPath("OBX(-150)-5")); got != "xx" {
				t.Errorf("the results are %q", got)
			}
		})
	}
	wg.Wait()
}
