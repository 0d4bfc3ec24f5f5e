package hl7_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/hl7"
)

// Every person in these tests is invented.

const admit = "MSH|^~\\&|ADT1|MERCY|LAB|MERCY|20260301120000||ADT^A01^ADT_A01|MSG00001|P|2.5.1||||||UNICODE UTF-8\r" +
	"EVN|A01|20260301115900\r" +
	"PID|1||100^^^MERCY^MR~200^^^STATE&1.2.3&ISO^SS||Doe^Jane^\"\"||19700101|F|||1 Main \\T\\ Side^^Town||||||||\"\"\r" +
	"OBX|1|TX|A^Alpha||first\r" +
	"OBX|2|TX|B^Beta||second\r" +
	"ZZ1|\r"

func parse(t testing.TB, s string) *hl7.Message {
	t.Helper()
	m, err := hl7.Parse([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestGet(t *testing.T) {
	m := parse(t, admit)
	for _, c := range []struct {
		name, path, want string
		presence         hl7.Presence
	}{
		{"MSH-1 is the separator itself", "MSH-1", "|", hl7.Present},
		{"MSH-2 is literal", "MSH-2", `^~\&`, hl7.Present},
		{"MSH-2 has no components", "MSH-2.2", "", hl7.Absent},
		{"fields of MSH count from the separator", "MSH-10", "MSG00001", hl7.Present},
		{"a component", "MSH-9.2", "A01", hl7.Present},
		{"the first component of a field without components is the field", "MSH-10.1", "MSG00001", hl7.Present},
		{"a whole field has its repetitions", "PID-3", "100^^^MERCY^MR~200^^^STATE&1.2.3&ISO^SS", hl7.Present},
		{"a repetition", "PID-3(2)", "200^^^STATE&1.2.3&ISO^SS", hl7.Present},
		{"a component without a repetition is of the first", "PID-3.1", "100", hl7.Present},
		{"a repetition from the end", "PID-3(-1).1", "200", hl7.Present},
		{"a repetition before the first", "PID-3(-3).1", "", hl7.Absent},
		{"a repetition behind the last", "PID-3(3).1", "", hl7.Absent},
		{"a subcomponent", "PID-3(2).4.2", "1.2.3", hl7.Present},
		{"an escape is resolved", "PID-11.1", "1 Main & Side", hl7.Present},
		{"an escape is kept where there is structure", "PID-11", `1 Main \T\ Side^^Town`, hl7.Present},
		{"an empty field", "PID-2", "", hl7.Empty},
		{"an empty component", "PID-3.2", "", hl7.Empty},
		{"a null component", "PID-5.3", "", hl7.Null},
		{"a null field", "PID-19", "", hl7.Null},
		{"a field behind the end", "PID-20", "", hl7.Absent},
		{"a component behind the end", "PID-5.4", "", hl7.Absent},
		{"the first segment where none is said", "OBX-5", "first", hl7.Present},
		{"a segment by number", "OBX(2)-5", "second", hl7.Present},
		{"a segment from the end", "OBX(-2)-5", "first", hl7.Present},
		{"a segment behind the last", "OBX(3)-5", "", hl7.Absent},
		{"an unknown segment", "NTE-3", "", hl7.Absent},
		{"an empty Z segment has one empty field", "ZZ1-1", "", hl7.Empty},
		{"a whole segment", "EVN", "EVN|A01|20260301115900", hl7.Present},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := hl7.MustPath(c.path)
			if got := m.Get(p); got != c.want {
				t.Errorf("Get(%s) = %q, want %q", c.path, got, c.want)
			}
			if got := m.Presence(p); got != c.presence {
				t.Errorf("Presence(%s) = %s, want %s", c.path, got, c.presence)
			}
		})
	}
}

func TestSet(t *testing.T) {
	for _, c := range []struct {
		name, path, value, want string // want: the changed segment
	}{
		{"a field is replaced whole", "PID-3", "9", "PID|1||9||Doe"},
		{"a component of the first repetition", "PID-3.1", "9", "PID|1||9^^^MERCY^MR~200^"},
		{"a component of another repetition", "PID-3(2).1", "9", "^MR~9^^^STATE"},
		{"a subcomponent", "PID-3(2).4.2", "9", "^^^STATE&9&ISO^SS"},
		{"missing subcomponents are made", "PID-3.4.3", "ISO", "100^^^MERCY&&ISO^MR~"},
		{"missing components are made", "PID-5.6", "Dr", "Doe^Jane^\"\"^^^Dr||"},
		{"missing repetitions are made", "PID-3(4).1", "9", "ISO^SS~~9||"},
		{"missing fields are made", "ZZ1-3.2", "x", "\rZZ1|||^x\r"},
		{"every repetition is set", "PID-3(*).4", "H", "|100^^^H^MR~200^^^H^SS|"},
		{"every segment is set", "OBX(*)-5", "x", "OBX|1|TX|A^Alpha||x\rOBX|2|TX|B^Beta||x\r"},
		{"the last segment", "OBX(-1)-5", "x", "OBX|2|TX|B^Beta||x\r"},
		{"a missing segment is appended", "NTE-3", "note", "\rZZ1|\rNTE|||note\r"},
		{"the next segment is appended", "OBX(3)-1", "3", "ZZ1|\rOBX|3\r"},
		{"separators are escaped", "OBX-5", `a|b^c&d~e\f`, `||a\F\b\S\c\T\d\R\e\E\f` + "\r"},
		{"terminators and frame bytes are escaped", "OBX-5", "a\r\nb\x0b\x1c\rc", `||a\X0D0A\b\X0B1C0D\c` + "\r"},
		{"nothing is made for an empty value", "OBX-9", "", admit},
		{"an empty value empties", "OBX-5", "", "OBX|1|TX|A^Alpha||\r"},
		{"text outside ASCII is UTF-8", "OBX-5", "Grün", "||Grün\r"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parse(t, admit)
			if err := m.Set(hl7.MustPath(c.path), c.value); err != nil {
				t.Fatal(err)
			}
			if got := string(m.Bytes()); !strings.Contains(got, c.want) {
				t.Errorf("Set(%s, %q) made\n%q\nwithout\n%q", c.path, c.value, got, c.want)
			}
			if again := parse(t, string(m.Bytes())); again.Get(hl7.MustPath(c.path)) != m.Get(hl7.MustPath(c.path)) {
				t.Errorf("after parsing again, %s is %q", c.path, again.Get(hl7.MustPath(c.path)))
			}
		})
	}
}

func TestParseKeepsBytes(t *testing.T) {
	for _, s := range []string{
		admit,
		strings.TrimSuffix(admit, "\r"),
		strings.ReplaceAll(admit, "\r", "\n"),
		strings.ReplaceAll(admit, "\r", "\r\n"),
		strings.Replace(strings.Replace(admit, "\r", "\r\n", 2), "\r", "\n", 1),
		"\xEF\xBB\xBF\r\n" + admit + "\n\n",
	} {
		m := parse(t, s)
		if !bytes.Equal(m.Bytes(), []byte(s)) {
			t.Errorf("%q became %q", s, m.Bytes())
		}
		if got := m.Count("OBX"); got != 2 {
			t.Errorf("%q has %d OBX", s, got)
		}
		if err := m.Set(hl7.MustPath("PID-8"), "M"); err != nil {
			t.Fatal(err)
		}
		if want := strings.Replace(s, "|F|", "|M|", 1); string(m.Bytes()) != want {
			t.Errorf("one field changed in %q gave %q", s, m.Bytes())
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	b := standardADT()
	m := new(hl7.Message)
	paths := [...]hl7.Path{hl7.MustPath("PID-3.1"), hl7.MustPath("PID-5.1"), hl7.MustPath("MSH-9.2"), hl7.MustPath("MSH-10")}
	n := testing.AllocsPerRun(200, func() {
		if err := m.Reset(b); err != nil {
			t.Fatal(err)
		}
		for i := range paths {
			if _, ok := m.Raw(paths[i]); !ok {
				t.Fatalf("%s is absent", paths[i])
			}
		}
	})
	if n != 0 {
		t.Errorf("parsing and reading four fields allocates %v times", n)
	}
}

func BenchmarkParseFourFields(b *testing.B) {
	adt := standardADT()
	m := new(hl7.Message)
	paths := [...]hl7.Path{hl7.MustPath("PID-3.1"), hl7.MustPath("PID-5.1"), hl7.MustPath("MSH-9.2"), hl7.MustPath("MSH-10")}
	b.SetBytes(int64(len(adt)))
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Reset(adt); err != nil {
			b.Fatal(err)
		}
		for i := range paths {
			if _, ok := m.Raw(paths[i]); !ok {
				b.Fatalf("%s is absent", paths[i])
			}
		}
	}
}

// standardADT is an invented ADT^A01 of 1.25 KB, as hospitals send them.
func standardADT() []byte {
	s := "MSH|^~\\&|ADMISSIONS|HARBOUR|INTEGRATION|HARBOUR|20260301120000+0100||ADT^A01^ADT_A01|H20260301000017|P|2.5.1|||AL|NE||UNICODE UTF-8\r" +
		"EVN|A01|20260301115955|||MWEBER^Weber^Marta^^^^^^HARBOUR|20260301115900\r" +
		"PID|1||7000017^^^HARBOUR^MR~900-55-0117^^^USSSA^SS||Sample^Josephine^Quill^^Ms^^L||19540712|F||2106-3|12 Quay Street^Apt 4^Portsend^MA^02100^USA^H||^PRN^PH^^1^555^5550117~^NET^Internet^j.sample@mail.example|^WPN^PH^^1^555^5550118|eng|M|CHR|A0000317^^^HARBOUR^AN\r" +
		"PD1|||Harbour Family Practice^L^4711|1234567^Practice^Paula^^^Dr^^^NPI\r" +
		"NK1|1|Sample^Arthur^^^Mr|SPO^Spouse^HL70063|12 Quay Street^Apt 4^Portsend^MA^02100^USA^H|^PRN^PH^^1^555^5550119||C^Emergency Contact^HL70131\r" +
		"PV1|1|I|3WEST^312^B^HARBOUR^^BED^MAIN|E|||2345678^Attend^Anna^^^Dr^^^NPI|3456789^Refer^Rolf^^^Dr^^^NPI|4567890^Consult^Cora^^^Dr^^^NPI|MED||||7|A0||2345678^Attend^Anna^^^Dr^^^NPI|INP|V0000317^^^HARBOUR^VN|||||||||||||||||||||||||20260301115500\r" +
		"PV2|||^Shortness of breath\r" +
		"AL1|1|DA|70618^Penicillin^RXNORM|SV|Hives|20100501\r" +
		"DG1|1||R06.02^Shortness of breath^I10||20260301|A\r" +
		"OBX|1|NM|8310-5^Body temperature^LN||37.9|Cel^degree Celsius^UCUM|36.0-37.5|H|||F|||20260301\r" +
		"IN1|1|PPO01^Preferred plan|99001|Beacon Mutual|PO Box 1^^Portsend^MA^02100||||||||||Sample^Josephine|SEL|19540712\r"
	return []byte(s)
}

func BenchmarkWalk(b *testing.B) {
	adt := standardADT()
	m := new(hl7.Message)
	b.SetBytes(int64(len(adt)))
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Reset(adt); err != nil {
			b.Fatal(err)
		}
		n := 0
		m.Walk(func(hl7.Path, []byte) bool { n++; return true })
		if n == 0 {
			b.Fatal("no leaves")
		}
	}
}

func BenchmarkSet(b *testing.B) {
	adt := standardADT()
	m := new(hl7.Message)
	p := hl7.MustPath("PID-3.4")
	b.SetBytes(int64(len(adt)))
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Reset(adt); err != nil {
			b.Fatal(err)
		}
		if err := m.Set(p, "STMARY"); err != nil {
			b.Fatal(err)
		}
		if len(m.Bytes()) == 0 {
			b.Fatal("no bytes")
		}
	}
}

func BenchmarkNewAck(b *testing.B) {
	m := parse(b, string(standardADT()))
	b.ReportAllocs()
	for b.Loop() {
		if len(hl7.NewAck(m, hl7.Ack{Code: hl7.AA, ControlID: "A1"})) == 0 {
			b.Fatal("no answer")
		}
	}
}

// BenchmarkScanForTerminators is the limit of BenchmarkParseFourFields on the same machine: finding the CRs and no more.
func BenchmarkScanForTerminators(b *testing.B) {
	adt := standardADT()
	b.SetBytes(int64(len(adt)))
	for b.Loop() {
		n := 0
		for rest := adt; ; n++ {
			i := bytes.IndexByte(rest, '\r')
			if i < 0 {
				break
			}
			rest = rest[i+1:]
		}
		if n != 11 {
			b.Fatalf("%d segments", n)
		}
	}
}
