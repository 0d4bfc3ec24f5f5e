package transform_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/transform"
)

// FuzzCompileExpr: compiling ends, an error points into the source, the canonical form is its own canonical form and means
// the same, and judging a message does not change it.
func FuzzCompileExpr(f *testing.F) {
	for _, s := range []string{
		`MSH-9.2 in ["A01", "A04"] and not exists(PV1-45)`,
		`any(OBX, OBX-8 == "H" and count(OBX-5) > 1) || all(PID-3, PID-3.5 != 'MR')`,
		`OBX(*)-5 > 15 && !(PID-3(-1).5 matches "^\d+$") or first(PID-3, true, PID-3.1) + "x" == 'a''b'`,
		`date(PID-7) < "1980" == (years(PID-7, MSH-7) >= -18.5)`,
		`if(true, substring(PID-5.1, 2, 3), replacePattern(PID-5, "(a)(?P<b>c)", "$2${b}$$")) contains ""`,
		`padLeft(text(1 + (2 + 3)), 10, "0") == ("a" + ("b" + "c"))`,
		`not not (true and (false or true)) == isNull(NTE-3)`,
		"((((((((", `"`, `PID-`, `OBX(`, `PID-3(2).4.2.1`, "1.5.2", "-", "\x00", `a[`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		x, err := transform.CompileExpr(src)
		if err != nil {
			var syntax *transform.SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("an error of type %T", err)
			}
			lines := strings.Split(src, "\n")
			if syntax.Line < 1 || syntax.Line > len(lines) || syntax.Column < 1 || syntax.Column > utf8.RuneCountInString(lines[syntax.Line-1])+1 {
				t.Fatalf("%v lies outside of %q", err, src)
			}
			return
		}
		canonical := x.String()
		again, err := transform.CompileExpr(canonical)
		if err != nil {
			if len(canonical) > 16<<10 { // written more generously, it may be too long
				return
			}
			t.Fatalf("%q has the canonical form %q: %v", src, canonical, err)
		}
		if again.String() != canonical {
			t.Fatalf("%q becomes %q, and that %q", src, canonical, again)
		}
		m, err := hl7.Parse([]byte(sample))
		if err != nil {
			t.Fatal(err)
		}
		got, err := x.Match(m)
		got2, err2 := again.Match(m)
		if got != got2 || !errors.Is(err, err2) {
			t.Fatalf("%q gives %v, %v; as %q it gives %v, %v", src, got, err, canonical, got2, err2)
		}
		if string(m.Bytes()) != sample {
			t.Fatalf("%q changed the message", src)
		}
	})
}

// FuzzRun makes a step out of four texts and runs it on a message. Whatever happens: the message still parses, to the same
// separators; segments of another name than the step has keep their bytes and their order; a set value comes back as it
// was set; and "changed" is the truth.
func FuzzRun(f *testing.F) {
	for _, s := range [][4]string{
		{"set", "PID-3.4", "STMARY", ""},
		{"set", "OBX(*)-5", "a|b\rOBX|9||^~\\&\x1c\x0b", ""},
		{"set", "ZZ1-3(2).4.2", `\.br\x`, ""},
		{"expr", "PID-4", `PID-3.1 + "\T\" + OBX(3)-5`, "PID-3"},
		{"expr", "OBX-5", `upper(OBX-5)`, "OBX"},
		{"raw", "PID-3", `1^2&3~4\T\`, ""},
		{"null", "PID-8", "", ""},
		{"copy", "PID-3", "PID-18", ""},
		{"move", "PID-3", "PID-3.1", "PID-3"},
		{"move", "OBX-3.1", "OBX-5", "OBX"},
		{"delete", "OBX", "", "OBX"},
		{"delete", "PID-3(-1)", "", ""},
		{"replace", "OBX-5", `(e)`, "OBX"},
		{"replace", "PID-5", `$|^`, ""},
		{"map", "PV1-2", "I", ""},
	} {
		f.Add(s[0], s[1], s[2], s[3], []byte(sample))
	}
	f.Add("replace", "PID-3(*).1", `.`, "PID-3", []byte("MSH$%*!?$A\rPID$1$$a%b*c?d!T!!.br!\n\rOBX\r\n\nPID"))
	f.Fuzz(func(t *testing.T, action, field, value, loop string, wire []byte) {
		if len(wire) > 1<<16 {
			return
		}
		m, err := hl7.Parse(wire)
		if err != nil {
			return
		}
		program, err := transform.CompileSteps([]transform.Step{fuzzStep(action, field, value, loop)}, transform.Tables{"t": {Values: map[string]string{value: "x|y^z"}}})
		if err != nil {
			return
		}
		c := m.Clone()
		changed, err := program.Run(c)
		if !bytes.Equal(m.Bytes(), wire) {
			t.Fatal("the original changed")
		}
		out := c.Bytes()
		if err == nil && changed == bytes.Equal(out, wire) {
			t.Fatalf("changed is %v", changed)
		}
		back, perr := hl7.Parse(out)
		if perr != nil {
			t.Fatalf("what came out does not parse: %v", perr)
		}
		if back.Separators() != m.Separators() {
			t.Fatal("the separators changed")
		}
		names := []string{first3(field), first3(value), first3(loop)}
		if before, after := others(m, names), others(back, names); !slices.Equal(before, after) {
			t.Fatalf("other segments changed:\n%q\n%q", before, after)
		}
		if p, perr := hl7.ParsePath(field); err == nil && action == "set" && loop == "" && perr == nil && !p.HasWildcard() && value != "" && value != `""` && c.Get(p) != value {
			t.Fatalf("%q was set to %q and is %q", field, value, c.Get(p))
		}
	})
}

func fuzzStep(action, field, value, loop string) transform.Step {
	s := transform.Step{For: loop}
	switch action {
	case "set":
		s.Set = []transform.Assignment{{Field: field, Value: value}}
	case "expr":
		s.Set = []transform.Assignment{{Field: field, Expr: value}}
	case "raw":
		s.Set = []transform.Assignment{{Field: field, Raw: value}}
	case "null":
		s.Set = []transform.Assignment{{Field: field, Null: true}}
	case "copy":
		s.Copy = &transform.FromTo{From: field, To: value}
	case "move":
		s.Move = &transform.FromTo{From: field, To: value}
	case "delete":
		s.Delete = []string{field}
	case "replace":
		s.Replace = &transform.Replacement{Field: field, Pattern: value, With: "[$0]"}
	case "map":
		s.Map = &transform.Mapping{Field: field, Table: "t"}
	}
	return s
}

func first3(s string) string { return s[:min(3, len(s))] }

// others are the segments whose name is none of these.
func others(m *hl7.Message, names []string) []string {
	var found []string
	for _, s := range m.Segments() {
		if !slices.Contains(names, s.Name) {
			found = append(found, string(s.Raw))
		}
	}
	return found
}
