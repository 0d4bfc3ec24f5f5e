package transform_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/transform"
)

func ptr[T any](v T) *T { return &v }

func tables() transform.Tables {
	return transform.Tables{
		"class": {Values: map[string]string{"I": "IMP", "O": "AMB"}},
		"loose": {Values: map[string]string{"f": "female", "M": "male"}, Default: ptr("unknown"), Trim: true, IgnoreCase: true},
		"blank": {Values: map[string]string{"": "U"}},
	}
}

const head = "MSH|^~\\&|A|B|C|D|20240101||ADT^A01|1|P|2.5\r"

func TestSteps(t *testing.T) {
	for _, c := range []struct {
		name   string
		step   transform.Step
		before string // segments behind MSH; / stands for CR
		after  string // "": as before
	}{
		{"set writes a constant",
			transform.Step{Set: []transform.Assignment{{Field: "PID-3.4", Value: "STMARY"}}},
			"PID|1||42", "PID|1||42^^^STMARY"},
		{"set escapes separators",
			transform.Step{Set: []transform.Assignment{{Field: "PID-5", Value: "A^B|C\rD"}}},
			"PID|1", `PID|1||||A\S\B\F\C\X0D\D`},
		{"set appends a missing segment",
			transform.Step{Set: []transform.Assignment{{Field: "ZZ1-2", Value: "x"}}},
			"PID|1", "PID|1/ZZ1||x"},
		{"set with the empty text empties",
			transform.Step{Set: []transform.Assignment{{Field: "PID-3"}}},
			"PID|1||42^^^X~43|a", "PID|1|||a"},
		{"set keeps the order of the file",
			transform.Step{Set: []transform.Assignment{{Field: "PID-3", Value: "1"}, {Field: "PID-3.4", Value: "X"}}},
			"PID|1||42^^^Y^MR", "PID|1||1^^^X"},
		{"set computes",
			transform.Step{Set: []transform.Assignment{{Field: "PID-4", Expr: `PID-3.1 + "|" + text(count(OBX))`}}},
			"PID|1||42^^^X/OBX|1/OBX|2", "PID|1||42^^^X|42\\F\\2/OBX|1/OBX|2"},
		{"set writes the null",
			transform.Step{Set: []transform.Assignment{{Field: "PID-8", Null: true}}},
			"PID|1|||||||F", `PID|1|||||||""`},
		{"set writes wire form",
			transform.Step{Set: []transform.Assignment{{Field: "PID-3", Raw: "1^^^A&1.2&ISO~2"}}},
			"PID|1", "PID|1||1^^^A&1.2&ISO~2"},
		{"set of many reaches each segment, also where the field is missing",
			transform.Step{Set: []transform.Assignment{{Field: "OBX(*)-3", Value: "x"}}},
			"OBX|1/OBX|2||y^z/NTE|1", "OBX|1||x/OBX|2||x/NTE|1"},
		{"set of many reaches each repetition",
			transform.Step{Set: []transform.Assignment{{Field: "PID-3(*).5", Value: "PI"}}},
			"PID|1||1~2^^^X^MR", "PID|1||1^^^^PI~2^^^X^PI"},

		{"copy takes a whole field with its repetitions",
			transform.Step{Copy: &transform.FromTo{From: "PID-3", To: "PID-18"}},
			"PID|1||1^^^X~2", "PID|1||1^^^X~2|||||||||||||||1^^^X~2"},
		{"copy keeps escapes to the byte",
			transform.Step{Copy: &transform.FromTo{From: "OBX-5", To: "NTE-3"}},
			`OBX|1||||a\.br\b\T\c\X41\/NTE|1`, `OBX|1||||a\.br\b\T\c\X41\/NTE|1||a\.br\b\T\c\X41\`},
		{"copy of nothing empties",
			transform.Step{Copy: &transform.FromTo{From: "PID-2", To: "PID-3"}},
			"PID|1||42", "PID|1||"},
		{"copy of nothing to nothing changes nothing",
			transform.Step{Copy: &transform.FromTo{From: "PID-20", To: "PID-30"}},
			"PID|1||42", ""},
		{"copy onto itself changes nothing",
			transform.Step{Copy: &transform.FromTo{From: "PID-3(1)", To: "PID-3(-1)"}},
			"PID|1||42", ""},
		{"copy of the null is the null",
			transform.Step{Copy: &transform.FromTo{From: "PID-2", To: "PID-4"}},
			`PID|1|""|3`, `PID|1|""|3|""`},
		{"move empties what it took from",
			transform.Step{Move: &transform.FromTo{From: "PID-2", To: "PID-4"}},
			"PID|1|42|3", "PID|1||3|42"},
		{"move of a repetition takes it out",
			transform.Step{Move: &transform.FromTo{From: "PID-3(2)", To: "PID-2"}},
			"PID|1||1~2~3", "PID|1|2|1~3"},
		{"move onto itself loses nothing",
			transform.Step{Move: &transform.FromTo{From: "PID-3(-1)", To: "PID-3(1)"}},
			"PID|1||42", ""},

		{"delete empties a field",
			transform.Step{Delete: []string{"PID-3"}}, "PID|1||1~2|x", "PID|1|||x"},
		{"delete takes a repetition out",
			transform.Step{Delete: []string{"PID-3(1)"}}, "PID|1||1~2|x", "PID|1||2|x"},
		{"delete empties a component",
			transform.Step{Delete: []string{"PID-5.2"}}, "PID|1||||A^B^C", "PID|1||||A^^C"},
		{"delete takes one segment out",
			transform.Step{Delete: []string{"OBX(2)"}}, "OBX|1/OBX|2/OBX|3", "OBX|1/OBX|3"},
		{"delete takes all out",
			transform.Step{Delete: []string{"OBX(*)", "ZZ1"}}, "OBX|1/NTE|1/OBX|2/ZZ1|1", "NTE|1"},
		{"numbers do not shift while a list is deleted",
			transform.Step{Delete: []string{"OBX(1)", "OBX(3)", "PID-3(1)", "PID-3(2)"}},
			"PID|1||1~2~3/OBX|1/OBX|2/OBX|3/OBX|4", "PID|1||3/OBX|2/OBX|4"},
		{"one thing deleted under two names is deleted once",
			transform.Step{Delete: []string{"OBX(1)", "OBX", "OBX(-3)", "PID-3(1)", "PID-3(-3)"}},
			"PID|1||1~2~3/OBX|1/OBX|2/OBX|3", "PID|1||2~3/OBX|2/OBX|3"},
		{"a part is deleted before its whole",
			transform.Step{Delete: []string{"OBX(1)", "OBX(1)-3", "PID-3(1)", "PID-3.1"}},
			"PID|1||1^a~2^b/OBX|1||x/OBX|2||y", "PID|1||2^b/OBX|2||y"},
		{"delete of what is not there does nothing",
			transform.Step{Delete: []string{"ZZ1", "PID-30", "PID-3(7)", "OBX(-9)-1", "PID-3(-9)"}}, "PID|1||1", ""},

		{"map translates",
			transform.Step{Map: &transform.Mapping{Field: "PV1-2", Table: "class"}}, "PV1|1|I", "PV1|1|IMP"},
		{"map keeps what the table does not have",
			transform.Step{Map: &transform.Mapping{Field: "PV1-2", Table: "class"}}, "PV1|1|X", ""},
		{"map compares case and spaces",
			transform.Step{Map: &transform.Mapping{Field: "PV1-2", Table: "class"}}, "PV1|1|i", ""},
		{"map ignores them where told",
			transform.Step{Map: &transform.Mapping{Field: "PV1-2", Table: "class", Trim: ptr(true), Case: "ignore"}}, "PV1|1| i ", "PV1|1|IMP"},
		{"the table may say so too",
			transform.Step{Map: &transform.Mapping{Field: "PID-8", Table: "loose"}}, "PID|1||||||| F", "PID|1|||||||female"},
		{"the step overrules the table",
			transform.Step{Map: &transform.Mapping{Field: "PID-8", Table: "loose", Case: "exact", Missing: "keep"}}, "PID|1|||||||F", ""},
		{"map writes the table's default",
			transform.Step{Map: &transform.Mapping{Field: "PID-8", Table: "loose"}}, "PID|1|||||||X", "PID|1|||||||unknown"},
		{"map writes the step's default",
			transform.Step{Map: &transform.Mapping{Field: "PID-8", Table: "loose", Default: ptr("?")}}, "PID|1|||||||X", "PID|1|||||||?"},
		{"map empties where told",
			transform.Step{Map: &transform.Mapping{Field: "PID-8", Table: "loose", Missing: "empty"}}, "PID|1|||||||X|", "PID|1||||||||"},
		{"nothing is no code",
			transform.Step{Map: &transform.Mapping{Field: "PID-8", Table: "loose"}}, "PID|1||||||||x", ""},
		{"the null is no code",
			transform.Step{Map: &transform.Mapping{Field: "PID-8", Table: "blank"}}, `PID|1|||||||""`, ""},
		{"a table may have an entry for nothing",
			transform.Step{Map: &transform.Mapping{Field: "PID-8", Table: "blank"}}, "PID|1", "PID|1|||||||U"},
		{"map of many",
			transform.Step{Map: &transform.Mapping{Field: "PID-3(*).5", Table: "class"}}, "PID|1||1^^^^I~2^^^^O", "PID|1||1^^^^IMP~2^^^^AMB"},

		{"replace changes text",
			transform.Step{Replace: &transform.Replacement{Field: "PID-13", Pattern: `[^0-9+]`}}, "PID|1||||||||||||+1 (23) 4", "PID|1||||||||||||+1234"},
		{"replace writes groups",
			transform.Step{Replace: &transform.Replacement{Field: "PID-7", Pattern: `^(\d{4})(\d\d)(\d\d)$`, With: `$3.$2.${1}`}}, "PID|1||||||19800615", "PID|1||||||15.06.1980"},
		{"replace goes over each part on its own",
			transform.Step{Replace: &transform.Replacement{Field: "PID-5", Pattern: `^.`, With: "*"}}, "PID|1||||AB^CD&EF~GH^^I", "PID|1||||*B^*D&*F~*H^^*"},
		{"replace of a component leaves its neighbours",
			transform.Step{Replace: &transform.Replacement{Field: "PID-5.1", Pattern: `B`, With: "X"}}, "PID|1||||B^B~B", "PID|1||||X^B~B"},
		{"replace keeps formatting escapes",
			transform.Step{Replace: &transform.Replacement{Field: "OBX-5", Pattern: `a`, With: "&"}}, `OBX|1||||a\.br\b \H\a\N\ \E\`, `OBX|1||||\T\\.br\b \H\\T\\N\ \E\`},
		{"replace may take them out and put them in",
			transform.Step{Replace: &transform.Replacement{Field: "OBX-5", Pattern: `\\\.sp\d*\\|;`, With: `\.br\`}}, `OBX|1||||a\.sp2\b;c`, `OBX|1||||a\.br\b\.br\c`},
		{"replace leaves the null",
			transform.Step{Replace: &transform.Replacement{Field: "PID-5", Pattern: `"`, With: ""}}, `PID|1||||""`, ""},
		{"replace puts nothing where nothing is",
			transform.Step{Replace: &transform.Replacement{Field: "PID-5", Pattern: `^`, With: "x"}}, `PID|1||||A^^""`, `PID|1||||xA^^""`},
		{"a computed value keeps formatting escapes",
			transform.Step{Set: []transform.Assignment{{Field: "NTE-3", Expr: `trim(OBX-5) + "\.br\end"`}, {Field: "NTE-4", Expr: `"a\.br\b\H\"`}}},
			`OBX|1||||\H\a\.br\b\T\\E\ /NTE|1`, `OBX|1||||\H\a\.br\b\T\\E\ /NTE|1||\H\a\.br\b\T\\E\\.br\end|a\.br\b\H\`},
		{"a computed value of plain text stays plain text",
			transform.Step{Set: []transform.Assignment{{Field: "NTE-3", Expr: `OBX-5 + ""`}}},
			`OBX|1||||\E\\E\host\E\H\E\x/NTE|1`, `OBX|1||||\E\\E\host\E\H\E\x/NTE|1||\E\\E\host\E\H\E\x`},
		{"what a replacement does not find keeps its bytes",
			transform.Step{Replace: &transform.Replacement{Field: "OBX(*)-5", Pattern: `zz`, With: ""}}, `OBX|1||||\X41\ C:\dir \q/OBX|2`, ""},

		{"for goes over segments",
			transform.Step{For: "OBX", Set: []transform.Assignment{{Field: "OBX-4", Expr: `OBX-1 + OBX-3.1`}}},
			"OBX|1||A^x/OBX|2||B", "OBX|1||A^x|1A/OBX|2||B|2B"},
		{"for goes over repetitions",
			transform.Step{For: "PID-3", When: `PID-3.5 == "SS"`, Set: []transform.Assignment{{Field: "PID-3.1", Value: "-"}}},
			"PID|1||1^^^^MR~2^^^^SS~3^^^^SS", "PID|1||1^^^^MR~-^^^^SS~-^^^^SS"},
		{"for deletes the segments that fit",
			transform.Step{For: "OBX", When: `OBX-11 == "X"`, Delete: []string{"OBX"}},
			"OBX|1||||||||||X/OBX|2||||||||||F/OBX|3||||||||||X/OBX|4||||||||||X", "OBX|2||||||||||F"},
		{"for deletes the repetitions that fit",
			transform.Step{For: "PID-3", When: `PID-3.5 != "MR"`, Delete: []string{"PID-3"}},
			"PID|1||1^^^^SS~2^^^^SS~3^^^^MR~4", "PID|1||3^^^^MR"},
		{"the condition is asked before the first change",
			transform.Step{For: "OBX", When: `OBX(1)-2 == "a"`, Set: []transform.Assignment{{Field: "OBX-2", Value: "b"}}},
			"OBX|1|a/OBX|2|a", "OBX|1|b/OBX|2|b"},
		{"for over nothing does nothing",
			transform.Step{For: "ZZ1", Set: []transform.Assignment{{Field: "ZZ1-1", Value: "b"}}}, "PID|1", ""},
		{"for moves within each",
			transform.Step{For: "OBX", Move: &transform.FromTo{From: "OBX-3.2", To: "OBX-4"}},
			"OBX|1||A^x/OBX|2||B^y", "OBX|1||A^|x/OBX|2||B^|y"},
		{"for over one segment's repetitions",
			transform.Step{For: "OBX(2)-5", Replace: &transform.Replacement{Field: "OBX-5", Pattern: "a", With: "b"}},
			"OBX|1||||a~a/OBX|2||||a~a", "OBX|1||||a~a/OBX|2||||b~b"},
		{"for over the last segment's repetitions",
			transform.Step{For: "OBX(-1)-5", Set: []transform.Assignment{{Field: "OBX-5", Value: "b"}}},
			"OBX|1||||a~a/OBX|2||||a~a", "OBX|1||||a~a/OBX|2||||b~b"},
		{"for over a segment that is not there from the end",
			transform.Step{For: "OBX(-3)-5", Set: []transform.Assignment{{Field: "OBX-5", Value: "b"}}},
			"OBX|1||||a~a/OBX|2||||a~a", ""},
		{"a number is absolute inside for",
			transform.Step{For: "OBX", Copy: &transform.FromTo{From: "OBX(1)-3", To: "OBX-4"}},
			"OBX|1||A/OBX|2||B", "OBX|1||A|A/OBX|2||B|A"},
		{"so is that of a repetition",
			transform.Step{For: "PID-3", Copy: &transform.FromTo{From: "PID-3(1).1", To: "PID-3.2"}},
			"PID|1||1~2~3", "PID|1||1^1~2^1~3^1"},
		{"when alone",
			transform.Step{When: `PID-8 == "M"`, Delete: []string{"PID"}}, "PID|1|||||||F", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			program, err := transform.CompileSteps([]transform.Step{c.step}, tables())
			if err != nil {
				t.Fatal(err)
			}
			wire := head + strings.ReplaceAll(c.before, "/", "\r") + "\r"
			want := head + strings.ReplaceAll(c.after, "/", "\r") + "\r"
			if c.after == "" {
				want = wire
			}
			m := parse(t, wire)
			changed, err := program.Run(m)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(m.Bytes()); got != want {
				t.Errorf("\n got %q\nwant %q", got, want)
			}
			if changed != (want != wire) {
				t.Errorf("changed is %v", changed)
			}
		})
	}
}

func TestWrongStepsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name   string
		step   transform.Step
		key    string
		column int
		says   string
	}{
		{"nothing to do", transform.Step{}, "step", 0, "does nothing"},
		{"two things at once", transform.Step{Delete: []string{"PID-3"}, Copy: &transform.FromTo{From: "PID-1", To: "PID-2"}}, "delete", 0, `already does "copy"`},
		{"a wrong condition", transform.Step{When: `PID-8 = "M"`, Delete: []string{"PID-3"}}, "when", 7, `write "=="`},
		{"a wrong loop", transform.Step{For: "PID-3.1", Delete: []string{"PID-3"}}, "for", 0, "not over components"},
		{"a wrong address", transform.Step{Delete: []string{"PID-x"}}, "delete", 5, "number"},
		{"no address", transform.Step{Set: []transform.Assignment{{Value: "x"}}}, "set.", 0, "missing"},
		{"nothing to set", transform.Step{Set: []transform.Assignment{}}, "set", 0, "sets nothing"},
		{"nothing to delete", transform.Step{Delete: []string{}}, "delete", 0, "deletes nothing"},
		{"a value for a segment", transform.Step{Set: []transform.Assignment{{Field: "PID", Value: "x"}}}, "set.PID", 0, "whole segment"},
		{"other separators", transform.Step{Set: []transform.Assignment{{Field: "MSH-2", Value: "x"}}}, "set.MSH-2", 0, "separators"},
		{"another name for the character set", transform.Step{Set: []transform.Assignment{{Field: "MSH-18", Value: "UNICODE UTF-8"}}}, "set.MSH-18", 0, "character set"},
		{"no MSH", transform.Step{Delete: []string{"MSH"}}, "delete", 0, "without MSH"},
		{"a wrong expression", transform.Step{Set: []transform.Assignment{{Field: "PID-3", Expr: `uper(PID-3)`}}}, "set.PID-3", 1, "upper()"},
		{"a condition as a value", transform.Step{Set: []transform.Assignment{{Field: "PID-3", Expr: `PID-3 == ""`}}}, "set.PID-3", 7, "if("},
		{"raw that breaks out", transform.Step{Set: []transform.Assignment{{Field: "PID-3.1", Raw: `a^b`}}}, "set.PID-3.1", 0, "does not stay within"},
		{"raw with a field separator", transform.Step{Set: []transform.Assignment{{Field: "PID-3", Raw: `a|b`}}}, "set.PID-3", 0, "does not stay within"},
		{"raw with a repetition for a repetition", transform.Step{Set: []transform.Assignment{{Field: "PID-3(2)", Raw: `a~b`}}}, "set.PID-3(2)", 0, "does not stay within"},
		{"raw that is no ASCII", transform.Step{Set: []transform.Assignment{{Field: "PID-3", Raw: "ä"}}}, "set.PID-3", 0, "ASCII"},
		{"a field into a component", transform.Step{Copy: &transform.FromTo{From: "PID-3", To: "PID-4.1"}}, "copy.from", 0, "PID-3.1"},
		{"many sources", transform.Step{Move: &transform.FromTo{From: "PID-3(*)", To: "PID-4"}}, "move.from", 0, `"for"`},
		{"an unknown table", transform.Step{Map: &transform.Mapping{Field: "PV1-2", Table: "clas"}}, "map.table", 0, `did you mean "class"?`},
		{"a default and a policy", transform.Step{Map: &transform.Mapping{Field: "PV1-2", Table: "class", Default: ptr("x"), Missing: "keep"}}, "map.missing", 0, "default already"},
		{"an unknown policy", transform.Step{Map: &transform.Mapping{Field: "PV1-2", Table: "class", Missing: "drop"}}, "map.missing", 0, "keep, empty, fail"},
		{"an unknown case", transform.Step{Map: &transform.Mapping{Field: "PV1-2", Table: "class", Case: "upper"}}, "map.case", 0, "ignore"},
		{"a bad pattern", transform.Step{Replace: &transform.Replacement{Field: "PV1-2", Pattern: "("}}, "replace.pattern", 0, "missing closing"},
		{"no pattern", transform.Step{Replace: &transform.Replacement{Field: "PV1-2"}}, "replace.pattern", 0, "missing"},
		{"a group that is not there", transform.Step{Replace: &transform.Replacement{Field: "PV1-2", Pattern: "(a)", With: "$1x"}}, "replace.with", 0, `no group "1x"`},
		{"a second group that is not there", transform.Step{Replace: &transform.Replacement{Field: "PV1-2", Pattern: "(a)", With: "${2}"}}, "replace.with", 0, `no group "2"`},
		{"a lonely dollar", transform.Step{Replace: &transform.Replacement{Field: "PV1-2", Pattern: "(a)", With: "5 $"}}, "replace.with", 0, "dollar"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.step.Line = 41
			good := transform.Step{Delete: []string{"PID-3"}}
			_, err := transform.CompileSteps([]transform.Step{good, c.step}, tables())
			var step *transform.StepError
			if !errors.As(err, &step) {
				t.Fatalf("got %v", err)
			}
			if step.Step != 2 || step.Line != 41 || step.Key != c.key || step.Column != c.column || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v (key %q, column %d); want key %q, column %d, and %q", err, step.Key, step.Column, c.key, c.column, c.says)
			}
		})
	}
}

func TestEveryWrongStepIsReported(t *testing.T) {
	_, err := transform.CompileSteps([]transform.Step{{}, {Delete: []string{"PID-3"}}, {Delete: []string{"pid"}}}, nil)
	if err == nil || !strings.Contains(err.Error(), "step 1") || !strings.Contains(err.Error(), "step 3") || strings.Contains(err.Error(), "step 2") {
		t.Errorf("got %v", err)
	}
}

func TestTablesThatContradictThemselves(t *testing.T) {
	table := transform.Table{Values: map[string]string{"a": "1", "A": "2"}}
	step := transform.Step{Map: &transform.Mapping{Field: "PV1-2", Table: "t"}}
	if _, err := transform.CompileSteps([]transform.Step{step}, transform.Tables{"t": table}); err != nil {
		t.Errorf("a and A are two codes: %v", err)
	}
	table.IgnoreCase = true
	if _, err := transform.CompileSteps([]transform.Step{step}, transform.Tables{"t": table}); err == nil {
		t.Error("with case ignored, a and A are one code with two values")
	}
}

// A failed step says which, where, and nothing of what the message holds.
func TestRunErrorsNameTheStepAndNoValue(t *testing.T) {
	const secret = "S3CRET"
	for _, c := range []struct {
		name  string
		step  transform.Step
		wire  string
		field string
		is    error
	}{
		{"a code that the table does not have",
			transform.Step{Map: &transform.Mapping{Field: "PV1-2", Table: "class", Missing: "fail"}},
			head + "PV1|1|" + secret + "\r", "PV1-2", transform.ErrNotInTable},
		{"a character that the message's set does not have",
			transform.Step{Set: []transform.Assignment{{Field: "PID-5", Expr: `PID-3 + "漢"`}}},
			"MSH|^~\\&|A|B|C|D|20240101||ADT^A01|1|P|2.5||||||8859/1\rPID|1||" + secret + "\r", "PID-5", nil},
		{"a part onto its whole",
			transform.Step{Copy: &transform.FromTo{From: "PID-3.1", To: "PID-3"}},
			head + "PID|1||" + secret + "^x\r", "PID-3", nil},
		{"the fourth segment where there is one",
			transform.Step{Set: []transform.Assignment{{Field: "PID(4)-5", Expr: `PID-3`}}},
			head + "PID|1||" + secret + "\r", "PID(4)-5", nil},
		{"escapes and their lookalikes in one field",
			transform.Step{Replace: &transform.Replacement{Field: "PID-3", Pattern: "S", With: "s"}},
			head + "PID|1||" + secret + `\.br\x\E\.br\E\` + "\r", "PID-3(1).1.1", nil},
		{"a replacement beyond bounds",
			transform.Step{Replace: &transform.Replacement{Field: "PID-3", Pattern: "a", With: strings.Repeat("b", 4000)}},
			head + "PID|1||" + secret + strings.Repeat("a", 10000) + "\r", "PID-3(1).1.1", transform.ErrTooLong},
		{"a text beyond bounds",
			transform.Step{Set: []transform.Assignment{{Field: "PID-5", Expr: `replace(replace(replace(PID-3, "a", "` + strings.Repeat("b", 4000) + `"), "b", "` + strings.Repeat("c", 4000) + `"), "c", "12345678")`}}},
			head + "PID|1||" + secret + "aaaa\r", "PID-5", transform.ErrTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			good := transform.Step{Delete: []string{"ZZ9-3"}}
			c.step.Line = 12
			program, err := transform.CompileSteps([]transform.Step{good, c.step}, tables())
			if err != nil {
				t.Fatal(err)
			}
			_, err = program.Run(parse(t, c.wire))
			var run *transform.RunError
			if !errors.As(err, &run) {
				t.Fatalf("got %v", err)
			}
			if run.Step != 2 || run.Line != 12 || run.Field != c.field || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v (field %q)", err, run.Field)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error holds the value: %v", err)
			}
		})
	}
}

func TestRunOnACloneLeavesTheOriginal(t *testing.T) {
	program, err := transform.CompileSteps([]transform.Step{
		{Set: []transform.Assignment{{Field: "PID-5.1", Value: "OTHER"}}},
		{For: "OBX", Delete: []string{"OBX"}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := parse(t, sample)
	c := m.Clone()
	changed, err := program.Run(c)
	if err != nil || !changed || c.Count("OBX") != 0 {
		t.Fatalf("changed %v, %v, %d OBX", changed, err, c.Count("OBX"))
	}
	if !bytes.Equal(m.Bytes(), []byte(sample)) {
		t.Error("the original changed")
	}
}

func TestOtherSeparators(t *testing.T) {
	const wire = "MSH$%*!?$A$B$C$D$20240101$$ADT%A01$1$P$2.5\rPID$1$$42%%%X\r"
	program, err := transform.CompileSteps([]transform.Step{
		{Set: []transform.Assignment{{Field: "PID-4", Raw: `a^b&c~100%`}, {Field: "PID-5", Value: `a^b$\.br\`}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := parse(t, wire)
	if _, err := program.Run(m); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"PID-4.2.2": "c", "PID-4(2).1": "100%", "PID-5": `a^b$\.br\`} {
		if got := m.Get(hl7.MustPath(path)); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

// A message of some thousand segments is within the bounds. Its loops cost the square of that (2.4 s of CPU for 30,000
// segments in both steps), because the n-th segment is found by passing n.
func TestALoopOverALongMessage(t *testing.T) {
	program, err := transform.CompileSteps([]transform.Step{
		{For: "OBX", When: `OBX-5 == "v"`, Set: []transform.Assignment{{Field: "OBX-11", Value: "F"}, {Field: "OBX-3.1", Value: "X"}}},
		{For: "OBX", When: `OBX-1 == "2"`, Delete: []string{"OBX"}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const n = 3000
	m := parse(t, head+strings.Repeat("OBX|1|ST|||v\rOBX|2|ST|||w\r", n))
	if _, err := program.Run(m); err != nil {
		t.Fatal(err)
	}
	if want := head + strings.Repeat("OBX|1|ST|X||v||||||F\r", n); string(m.Bytes()) != want {
		t.Error("the message is not what it should be")
	}
}

func BenchmarkSteps(b *testing.B) {
	program, err := transform.CompileSteps([]transform.Step{
		{Set: []transform.Assignment{{Field: "PID-3.4", Value: "STMARY"}}},
		{Map: &transform.Mapping{Field: "PV1-2", Table: "class"}},
		{For: "OBX", When: `OBX-8 == "H"`, Set: []transform.Assignment{{Field: "OBX-11", Value: "C"}}},
	}, tables())
	if err != nil {
		b.Fatal(err)
	}
	m := parse(b, sample)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := program.Run(m.Clone()); err != nil {
			b.Fatal(err)
		}
	}
}
