package transform_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/transform"
)

// sample is invented: no such person, hospital or result exists.
const sample = "MSH|^~\\&|LAB|NORTH|EHR|SOUTH|20240131143000||ORU^R01^ORU_R01|M-1|P|2.5.1\r" +
	"PID|1||0042^^^NORTH^MR~999^^^STATE^SS||EXAMPLE^ANNA^^^^^L||19800615|F|||1 LONG ROAD^^TOWN\r" +
	"PV1|1|I|W^3^1||||||||||||||||V77|||||||||||||||||||||||||20240130\r" +
	"OBR|1|O-1||CBC^Blood count^L|||20240131\r" +
	"OBX|1|NM|HB^Haemoglobin^L||13.5|g/dl|12-16|N|||F\r" +
	"OBX|2|NM|WBC^White cells^L||15.2|10*9/l|4-11|H|||F\r" +
	"OBX|3|ST|COM^Comment^L||see \\T\\ note\\.br\\second line||||||P\r" +
	"NTE|1||\"\"\r"

func parse(t testing.TB, wire string) *hl7.Message {
	t.Helper()
	m, err := hl7.Parse([]byte(wire))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestConditions(t *testing.T) {
	m := parse(t, sample)
	for _, c := range []struct {
		name string
		expr string
		want bool
	}{
		{"and binds tighter than or", `true or false and false`, true},
		{"brackets change that", `(true or false) and false`, false},
		{"not reaches over a comparison", `not PID-8 == "M"`, true},
		{"the signs are the words", `!(PID-8 == "M") && true || false`, true},
		{"one number makes a comparison of numbers", `OBX(2)-5 > 4`, true},
		{"leading zeros do not count for numbers", `PID-3.1 == 42`, true},
		{"they do for texts", `PID-3.1 == "42"`, false},
		{"text that is no number equals none", `OBX(3)-5 == 0`, false},
		{"and so is unequal to each", `OBX(3)-5 != 0`, true},
		{"and is neither smaller nor greater", `OBX(3)-5 < 0 or OBX(3)-5 >= 0`, false},
		{"an absent field is the empty text", `ZZ1-1 == ""`, true},
		{"so is the null", `NTE-3 == ""`, true},
		{"absent is no number", `ZZ1-1 < 1`, false},
		{"absent is in no list", `ZZ1-1 in ["A"]`, false},
		{"an escaped separator is text", `OBX(3)-5 startsWith "see & note"`, true},
		{"a whole field keeps its separators", `OBX-3 == "HB^Haemoglobin^L"`, true},
		{"a component is of the first repetition", `PID-3.5 == "MR"`, true},
		{"a negative number counts from the end", `OBX(-1)-1 == 3 and PID-3(-1).5 == "SS"`, true},
		{"(*) asks for any segment", `OBX(*)-8 == "H"`, true},
		{"(*) asks for any repetition", `PID-3(*).5 == "SS"`, true},
		{"(*) may stand on the right", `"SS" == PID-3(*).5`, true},
		{"(*) of what is not there holds for none", `ZZ1(*)-1 == ""`, false},
		{"a long list is as good as a short one", `MSH-9.2 in ["A01","A02","A03","A04","A05","A06","A07","A08","A11","R01"]`, true},
		{"not in", `MSH-9.2 not in ["A01"]`, true},
		{"numbers in a list", `OBX-5 in [13.50, 14]`, true},
		{"patterns find anywhere", `PID-5.1 matches "XAMP"`, true},
		{"unless they are anchored", `PID-5.1 matches "^XAMP"`, false},
		{"dates compare as far as both go", `date(PID-7) == "1980" and date(PID-7) < "1981"`, true},
		{"a field that is no date compares with none", `date(PID-5.1) < "2000" or date(PID-5.1) >= "2000"`, false},
		{"in any(), an address means the element at hand", `any(OBX, OBX-8 == "H" and OBX-3.1 == "WBC")`, true},
		{"which joined conditions with (*) do not", `OBX(*)-8 == "H" and OBX(*)-3.1 == "HB"`, true},
		{"while any() does", `any(OBX, OBX-8 == "H" and OBX-3.1 == "HB")`, false},
		{"all() holds where there is none", `all(ZZ1, false)`, true},
		{"loops within loops", `any(PID-3, any(PID-3, PID-3.5 == "SS") and PID-3.5 == "MR")`, true},
		{"a repetition of the segment at hand", `count(OBX-5) == 3`, true},
		{"a field that is no date is unlike each", `date(PID-5.1) != "1980"`, true},
		{"to replace nothing changes nothing", `replace("ab", "", "x")` + ` == "ab"`, true},
		{"two quotes are one", `"a""b" == 'a"b'`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, err := transform.CompileExpr(c.expr)
			if err != nil {
				t.Fatal(err)
			}
			got, err := x.Match(m)
			if err != nil || got != c.want {
				t.Errorf("%s: %v, %v; want %v", c.expr, got, err, c.want)
			}
			again, err := transform.CompileExpr(x.String())
			if err != nil || again.String() != x.String() {
				t.Errorf("the canonical form %s does not stay: %v", x, err)
			}
		})
	}
}

// Texts are compared as characters, whatever bytes the message has for them.
func TestTextIsReadInTheMessagesCharacterSet(t *testing.T) {
	for set, wire := range map[string]string{
		"8859/1":        "M\xfcller",
		"UNICODE UTF-8": "M\xc3\xbcller",
		"8859/5":        "M\xdf",
	} {
		m := parse(t, "MSH|^~\\&|A|B|C|D|20240101||ADT^A01|1|P|2.5||||||"+set+"\rPID|1||||"+wire+"\r")
		x, err := transform.CompileExpr(`PID-5.1 in ["Müller", "Mп"] and length(PID-5.1) <= 6`)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := x.Match(m); !ok || err != nil {
			t.Errorf("%s: not read as it is meant (%v)", set, err)
		}
	}
}

func TestSyntaxErrorsSayWhereAndWhatNext(t *testing.T) {
	for _, c := range []struct {
		name         string
		expr         string
		line, column int
		says         string
	}{
		{"nothing", " ", 1, 1, "empty"},
		{"an unknown function", `exist(PID-3)`, 1, 1, "did you mean exists()?"},
		{"on its line", "PID-8 == \"M\"\n  and exsts(PID-3)", 2, 7, "did you mean exists()?"},
		{"columns count characters", `"äöü" == upperr(PID-3)`, 1, 10, "did you mean upper()?"},
		{"an address alone", `PID-3`, 1, 1, "exists(PID-3)"},
		{"a single equals sign", `PID-8 = "M"`, 1, 7, `write "=="`},
		{"no quotes", `PID-8 == M`, 1, 10, "quotes"},
		{"small letters", `pid == "M"`, 1, 1, "PID"},
		{"another notation", `PID.3.1 == "M"`, 1, 4, "hyphen"},
		{"yet another notation", `PID-3-1 == "M"`, 1, 6, "PID-3.1"},
		{"field 0", `PID-0 == ""`, 1, 5, "counts from 1"},
		{"an open bracket", `(PID-8 == "M"`, 1, 1, `add ")"`},
		{"an open text", `PID-8 == "M`, 1, 10, "no end"},
		{"AND in capitals", `true AND false`, 1, 6, `write "and"`},
		{"a typing error in an operator", `PID-5 startswith "A"`, 1, 7, "startsWith"},
		{"order of texts", `OBX-5 > "10"`, 1, 7, "texts have no order"},
		{"a text that is no number", `OBX-5 > 1 and "x" == 1`, 1, 15, "no number"},
		{"a text that is no date", `date(PID-7) > "19801301"`, 1, 15, "no date"},
		{"!= of many", `OBX(*)-8 != "H"`, 1, 10, "two ways"},
		{"emptiness of many", `empty(OBX(*)-8)`, 1, 7, "two ways"},
		{"many where one is wanted", `upper(OBX(*)-8) == "H"`, 1, 7, "any(OBX, ...)"},
		{"a bad pattern", `PID-5 matches "("`, 1, 15, "missing closing"},
		{"a computed pattern", `PID-5 matches PID-3`, 1, 15, "written out"},
		{"a mixed list", `PID-5 in ["A", 1]`, 1, 16, "mixes"},
		{"an empty list", `PID-5 in []`, 1, 10, "empty"},
		{"no list", `PID-5 in "A"`, 1, 7, "wants a list"},
		{"too few arguments", `any(OBX)`, 1, 1, "any(OBX, condition)"},
		{"a component to loop over", `any(OBX-3.1, true)`, 1, 5, "not over components"},
		{"text and number", `PID-3 + 1 == "x"`, 1, 9, "both"},
		{"chained comparisons", `1 < 2 < 3`, 1, 7, "and"},
		{"subtraction", `count(OBX) -1 == 2`, 1, 12, "subtraction"},
		{"curly quotes", `PID-8 == “M”`, 1, 10, "plain quotes"},
		{"a whole segment as text", `PID == "x"`, 1, 1, "exists(PID)"},
		{"too many digits", `PID-3.1 == 1234567890123456`, 1, 12, "in quotes"},
		{"too deep", strings.Repeat("(", 5000) + "true" + strings.Repeat(")", 5000), 1, 101, "too deeply"},
		{"too many nots", strings.Repeat("not ", 3000) + "true", 1, 401, "too deeply"},
		{"too long", strings.Repeat("true or ", 5000) + "true", 1, 1, "too long"},
		{"not UTF-8", "PID-8 == \"\xff\"", 1, 1, "UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := transform.CompileExpr(c.expr)
			var syntax *transform.SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("%.60s: got %v", c.expr, err)
			}
			if syntax.Line != c.line || syntax.Column != c.column || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%.60s: got %v; want line %d, column %d, and %q", c.expr, err, c.line, c.column, c.says)
			}
		})
	}
}

func TestWorkOfAnExpressionIsBounded(t *testing.T) {
	m := parse(t, sample+strings.Repeat("OBX|1|ST|X||v\r", 3000))
	x, err := transform.CompileExpr(`any(OBX, any(OBX, any(OBX, OBX-5 == "never")))`)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := x.Match(m); got || !errors.Is(err, transform.ErrTooMuchWork) {
		t.Errorf("got %v, %v; want ErrTooMuchWork", got, err)
	}
	long := parse(t, sample+"ZZ1|"+strings.Repeat("a", 1<<20)+"\r")
	x, err = transform.CompileExpr(`length(replace(replace(ZZ1-1, "a", "0123456789"), "0", "0123456789abcdefghijklmnopqrstuvwxyz")) > 0`)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := x.Match(long); got || !errors.Is(err, transform.ErrTooLong) {
		t.Errorf("got %v, %v; want ErrTooLong", got, err)
	}
	if got, err := x.Match(m); got || err != nil {
		t.Errorf("after an error the next message is not judged anew: %v, %v", got, err)
	}
}

func TestAnExpressionServesManyGoroutines(t *testing.T) {
	x, err := transform.CompileExpr(`any(OBX, OBX-8 == "H" and OBX(*)-3.1 == "WBC")`)
	if err != nil {
		t.Fatal(err)
	}
	high, low := parse(t, sample), parse(t, strings.ReplaceAll(sample, "|H|", "|L|"))
	done := make(chan bool)
	for i := range 8 {
		m, want := high, true
		if i%2 == 1 {
			m, want = low, false
		}
		go func() {
			right := true
			for range 500 {
				got, err := x.Match(m)
				right = right && got == want && err == nil
			}
			done <- right
		}()
	}
	for range 8 {
		if !<-done {
			t.Error("one goroutine saw another's message")
		}
	}
}

func TestMatchLeavesTheMessageAlone(t *testing.T) {
	m := parse(t, sample)
	x, err := transform.CompileExpr(`upper(PID-5) + trim(OBX(3)-5) contains "EX" and replace(PID-3, "0", "1") != ""`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Match(m); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Bytes(), []byte(sample)) {
		t.Error("the message changed")
	}
}

func BenchmarkFilter(b *testing.B) {
	m := parse(b, sample)
	for _, c := range []struct{ name, expr string }{
		{"event", `MSH-9.2 in ["A01", "A04", "A08"]`},
		{"two fields", `MSH-9.2 == "R01" and PV1-2 in ["I", "E"]`},
		{"any", `any(OBX, OBX-8 == "H" and OBX-5 > 15)`},
	} {
		b.Run(c.name, func(b *testing.B) {
			x, err := transform.CompileExpr(c.expr)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := x.Match(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
