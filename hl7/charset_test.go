package hl7_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"

	"github.com/lazaret-health/lazaret/hl7"
)

// inCharset is a message whose MSH-18 is declared, encoded by enc.
func inCharset(t *testing.T, declared, name string, enc encoding.Encoding) []byte {
	t.Helper()
	s := "MSH|^~\\&|A|B|C|D|20260301||ADT^A01|1|P|2.5||||||" + declared + "\rPID|1||7||" + name + "|mother|19700101\r"
	if enc == nil {
		return []byte(s)
	}
	b, err := enc.NewEncoder().Bytes([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCharsets(t *testing.T) {
	for _, c := range []struct {
		declared, charset, text string
		enc                     encoding.Encoding
	}{
		{"", "ASCII", "Plain", nil},
		{"ASCII", "ASCII", "Plain", nil},
		{"8859/1", "8859/1", "Müller Zoë", charmap.ISO8859_1},
		{"8859/2", "8859/2", "Łukasz Żółć", charmap.ISO8859_2},
		{"8859/3", "8859/3", "Ħal Għaxaq", charmap.ISO8859_3},
		{"8859/4", "8859/4", "Jānis Bērziņš", charmap.ISO8859_4},
		{"8859/5", "8859/5", "Иванова", charmap.ISO8859_5},
		{"8859/6", "8859/6", "ليلى", charmap.ISO8859_6},
		{"8859/7", "8859/7", "Άννα", charmap.ISO8859_7},
		{"8859/8", "8859/8", "שרה", charmap.ISO8859_8},
		{"8859/9", "8859/9", "Işıl Çağ", charmap.ISO8859_9},
		{"8859/15", "8859/15", "Œuvre €", charmap.ISO8859_15},
		{"iso-8859-15", "8859/15", "Œuvre €", charmap.ISO8859_15},
		{"ISO_8859-1", "8859/1", "Zoë", charmap.ISO8859_1},
		{"UNICODE UTF-8", "UNICODE UTF-8", "Müller 山田 Łukasz", nil},
		{"utf8", "UNICODE UTF-8", "Müller 山田 Łukasz", nil},
		{"UNICODE", "UNICODE UTF-8", "Müller 山田", nil},
		{"UNICODE", "UNICODE UTF-16", "Müller 山田 𠮷", unicode.UTF16(unicode.BigEndian, unicode.UseBOM)},
		{"UNICODE UTF-16", "UNICODE UTF-16", "Müller 山田 𠮷", unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)},
		{"UNICODE UTF-16", "UNICODE UTF-16", "Müller", unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)},
		{"WINDOWS-1252", "WINDOWS-1252", "“Zoë” – €", charmap.Windows1252},
		{"cp1250", "WINDOWS-1250", "Łukasz „x”", charmap.Windows1250},
		{"~ISO IR87", "ISO IR87", "山田 ポ十", japanese.ISO2022JP},
		{"ISO IR14~ISO IR87", "ISO IR87", "山田", japanese.ISO2022JP},
		{"Shift_JIS", "SHIFT_JIS", "ソ能表 山田", japanese.ShiftJIS}, // second bytes are \ and |
		{"EUC-JP", "EUC-JP", "山田", japanese.EUCJP},
		{"KS X 1001", "KS X 1001", "홍길동", korean.EUCKR},
		{"GB 18030-2000", "GB 18030-2000", "张小明 亅𠮷", simplifiedchinese.GB18030},
		{"BIG-5", "BIG-5", "功許蓋 王小明", traditionalchinese.Big5}, // second bytes are \ and others
	} {
		t.Run(c.declared+" "+c.charset, func(t *testing.T) {
			b := inCharset(t, c.declared, c.text, c.enc)
			m, err := hl7.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			name := hl7.MustPath("PID-5")
			if got := m.Charset(); got != c.charset {
				t.Errorf("the character set is %q, want %q", got, c.charset)
			}
			if got := m.Get(name); got != c.text {
				t.Errorf("got %q, want %q", got, c.text)
			}
			if got := m.Get(hl7.MustPath("PID-6")); got != "mother" {
				t.Errorf("the field behind it is %q", got)
			}
			if p := m.CheckText(); len(p) > 0 {
				t.Errorf("problems with good text: %v", p)
			}
			if err := m.Set(name, c.text); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(m.Bytes(), b) {
				t.Errorf("setting what was there gave\n%q\ninstead of\n%q", m.Bytes(), b)
			}
			if err := m.Set(hl7.MustPath("PID-6.2"), "x|"+c.text+"^"); err != nil {
				t.Fatal(err)
			}
			again, err := hl7.Parse(m.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if got := again.Get(hl7.MustPath("PID-6.2")); got != "x|"+c.text+"^" {
				t.Errorf("set beside it, it is read back as %q", got)
			}
			if got := again.Get(hl7.MustPath("PID-7")); got != "19700101" {
				t.Errorf("and the field behind is %q", got)
			}
			ack := hl7.NewAck(m, hl7.Ack{Code: hl7.AE, Text: c.text, ControlID: "9"})
			if r, err := hl7.ParseAck(ack); err != nil || r.Text != c.text {
				t.Errorf("its acknowledgement says %q, %v", r.Text, err)
			}
		})
	}
}

func TestCharsetsOfTheField(t *testing.T) {
	name := hl7.MustPath("PID-5")
	for _, c := range []struct {
		name, declared, bytes, want string
		problems                    int
		guessed                     bool
	}{
		{"8859/1 with quotes of Windows-1252", "8859/1", "\x93Zo\xeb\x94", "“Zoë”", 0, false},
		{"nothing declared, UTF-8 sent", "", "Zo\xc3\xab", "Zoë", 1, true},
		{"nothing declared, Windows-1252 sent", "", "Zo\xeb \x80", "Zoë €", 1, true},
		{"ASCII declared, Windows-1252 sent", "ASCII", "Zo\xeb", "Zoë", 1, true},
		{"an unknown set, UTF-8 sent", "EBCDIC", "Zo\xc3\xab", "Zoë", 1, true},
		{"UTF-8 declared, 8859/1 sent", "UNICODE UTF-8", "Zo\xeb!", "Zo\U0010FEEB!", 1, false},
		{"a stand-in itself is no text", "UNICODE UTF-8", "\U0010FE80", "\U0010FEF4\U0010FE8F\U0010FEBA\U0010FE80", 1, false},
		{"bytes of GB 18030 that are no character", "GB 18030-2000", "a\x81!", "a\U0010FE81!", 1, false},
		{"a hole in 8859/6", "8859/6", "a\xa1b", "a\U0010FEA1b", 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := inCharset(t, c.declared, c.bytes, nil)
			m, err := hl7.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Get(name); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			p := m.CheckText()
			if len(p) != c.problems || len(p) > 0 && (p[0].Guessed != c.guessed || p[0].Segment != "PID" || p[0].Field != 5) {
				t.Errorf("problems: %+v", p)
			}
			for _, x := range p {
				if strings.Contains(x.String(), "Zo") {
					t.Error("a problem quotes content")
				}
			}
			if !bytes.Equal(m.Bytes(), b) {
				t.Error("reading changed the message")
			}
			if err := m.Set(name, m.Get(name)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(m.Bytes(), b) {
				t.Errorf("setting what was read gave %q instead of %q", m.Bytes(), b)
			}
		})
	}
}

func TestSetOutsideTheCharset(t *testing.T) {
	for _, c := range []struct{ name, declared, value string }{
		{"the euro sign in 8859/1", "8859/1", "5 €"},
		{"Japanese in 8859/15", "8859/15", "山田"},
		{"an accent where nothing is declared", "", "Zoë"},
		{"invalid UTF-8", "UNICODE UTF-8", "a\xff"},
		{"Thai in ISO IR87", "~ISO IR87", "ก"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := inCharset(t, c.declared, "Plain", nil)
			m, err := hl7.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			var wrong *hl7.CharsetError
			if err := m.Set(hl7.MustPath("PID-5"), c.value); !errors.As(err, &wrong) {
				t.Fatalf("Set gave %v, want a CharsetError", err)
			}
			if strings.Contains(wrong.Error(), c.value) {
				t.Error("the error quotes the value")
			}
			if !bytes.Equal(m.Bytes(), b) {
				t.Error("the message changed")
			}
		})
	}
}

// A character in front of MSH-18 may look like a separator, which MSH-18 itself would tell if it were found.
func TestCharsetBehindDoubleBytes(t *testing.T) {
	for _, c := range []struct {
		declared, facility string
		enc                encoding.Encoding
	}{
		{"GB 18030-2000", "亅倈張", simplifiedchinese.GB18030},
		{"Shift_JIS", "ポャ能表", japanese.ShiftJIS},
		{"BIG-5", "功許蓋育", traditionalchinese.Big5},
		{"~ISO IR87", "ポャ能表十", japanese.ISO2022JP},
	} {
		b, err := c.enc.NewEncoder().Bytes([]byte("MSH|^~\\&|A|" + c.facility + "|C||20260301||ADT^A01|1|P|2.5||||||" + c.declared + "\rPID|1||7||" + c.facility + "\r"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := hl7.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Get(hl7.MustPath("MSH-4")); got != c.facility {
			t.Errorf("%s: the facility is %q", c.declared, got)
		}
		if got := m.Get(hl7.MustPath("PID-5")); got != c.facility || m.ControlID() != "1" {
			t.Errorf("%s: the name is %q, the control ID %q", c.declared, got, m.ControlID())
		}
		if err := m.Set(hl7.MustPath("MSH-6"), c.facility); err != nil {
			t.Fatal(err)
		}
		again, err := hl7.Parse(m.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if got := again.Get(hl7.MustPath("MSH-6")); got != c.facility {
			t.Errorf("%s: set and read again, the other facility is %q", c.declared, got)
		}
	}
}

func TestOverrideCharset(t *testing.T) {
	enc, err := japanese.ShiftJIS.NewEncoder().String("ソ能表")
	if err != nil {
		t.Fatal(err)
	}
	b := inCharset(t, "", enc, nil)
	m, err := hl7.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.OverrideCharset("Shift_JIS"); err != nil {
		t.Fatal(err)
	}
	if got := m.Get(hl7.MustPath("PID-5")); got != "ソ能表" {
		t.Errorf("overridden, the name is %q", got)
	}
	if got := m.Charset(); got != "SHIFT_JIS" {
		t.Errorf("the character set is %q", got)
	}
	if err := m.OverrideCharset("no such set"); err == nil {
		t.Error("an unknown name was taken")
	}
	if err := m.OverrideCharset("UTF-16"); err == nil {
		t.Error("UTF-16 was taken for a message that is not in it")
	}
	if err := m.Set(hl7.MustPath("PID-6"), "山田"); err != nil {
		t.Error(err)
	}
	if err := m.OverrideCharset("8859/1"); err == nil {
		t.Error("the override came after an edit and was taken")
	}
	if err := m.Reset(b); err != nil {
		t.Fatal(err)
	}
	if got := m.Charset(); got != "ASCII" {
		t.Errorf("after Reset, the character set is still %q", got)
	}
}

// A value cannot break out of its element by way of a character set either.
func TestSetRawStaysInside(t *testing.T) {
	for _, c := range []struct{ name, declared, raw string }{
		{"half a character before the separator", "GB 18030-2000", "a\x81"},
		{"half a character of Shift-JIS", "Shift_JIS", "a\x83"},
		{"a shift without its end", "~ISO IR87", "\x1b$Ba"},
		{"a shift where there is none", "8859/1", "\x1b$Ba"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := hl7.Parse(inCharset(t, c.declared, "Plain", nil))
			if err != nil {
				t.Fatal(err)
			}
			var refused *hl7.EditError
			if err := m.SetRaw(hl7.MustPath("PID-5"), []byte(c.raw)); !errors.As(err, &refused) {
				t.Errorf("SetRaw gave %v, want an EditError", err)
			}
			if err := m.AppendSegment([]byte("ZZ1|" + c.raw)); c.declared == "8859/1" && err == nil {
				t.Error("AppendSegment took it")
			}
		})
	}
}

// TestSampleCharsets reads the names in the collected messages that were made for their character sets.
func TestSampleCharsets(t *testing.T) {
	dir := filepath.Join(samplesDir(t), "made", "encoding")
	for file, want := range map[string]string{
		"big5.hl7": "王^小明", "cyrillic.hl7": "Иванова^Анна", "gb18030.hl7": "张^小明", "greek.hl7": "Παπαδοπούλου^Άννα",
		"iso2022-jp.hl7": "ﾔﾏﾀﾞ^ﾊﾅｺ~山田^花子", "ksx1001.hl7": "홍^길동", "latin1.hl7": "Müller^Zoë", "latin2.hl7": "Łukasz^Żółć",
		"latin9.hl7": "Œuvre^Zoë €", "utf16-bom.hl7": "Müller^Zoë 張", "utf8-bom.hl7": "Müller^Zoë", "utf8.hl7": "Müller^Zoë 張 Łukasz",
		"windows-1252-undeclared.hl7": "Müller^Zoë “Zo”", "separators-own.hl7": "EXAMPLE*ANNA",
	} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		m, err := hl7.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Get(hl7.MustPath("PID-5")); got != want {
			t.Errorf("%s: PID-5 is %q, want %q", file, got, want)
		}
	}
}

func TestTranscode(t *testing.T) {
	for _, c := range []struct{ name, from, text, to string }{
		{"8859/1 to UTF-8", "8859/1", "M\xfcller", "UNICODE UTF-8"},
		{"Windows-1252 that is not declared to UTF-8", "", "M\xfcller \x80", "UTF-8"},
		{"UTF-8 to 8859/15", "UNICODE UTF-8", "Zoë €", "8859/15"},
		{"UTF-8 to Shift-JIS", "UNICODE UTF-8", "ソ能表^ソ~能", "Shift_JIS"},
		{"UTF-8 to GB 18030", "UNICODE UTF-8", "亅倈~張\\F\\", "GB 18030-2000"},
		{"UTF-8 to ISO 2022", "UNICODE UTF-8", "山田^花子", "ISO IR87"},
		{"ISO 2022 to BIG-5", "~ISO IR87", "\x1b$B;3ED\x1b(B", "BIG-5"},
		{"ASCII to ASCII", "", "Plain", "ASCII"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := hl7.Parse(inCharset(t, c.from, c.text, nil))
			if err != nil {
				t.Fatal(err)
			}
			texts := func(m *hl7.Message) (s []string) {
				m.Walk(func(p hl7.Path, _ []byte) bool {
					if p.Segment != "MSH" || p.Field != 18 {
						s = append(s, p.String()+" "+m.Get(p))
					}
					return true
				})
				return s
			}
			before := texts(m)
			if err := m.Transcode(c.to); err != nil {
				t.Fatal(err)
			}
			again, err := hl7.Parse(m.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if after := texts(again); strings.Join(after, "\n") != strings.Join(before, "\n") {
				t.Errorf("the text was\n%q\nand is\n%q", before, after)
			}
			if len(again.CheckText()) > 0 {
				t.Errorf("problems: %v", again.CheckText())
			}
		})
	}
	utf16, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().Bytes(inCharset(t, "UNICODE", "Zoë", nil))
	if err != nil {
		t.Fatal(err)
	}
	m, err := hl7.Parse(utf16)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Transcode("8859/1"); err != nil {
		t.Fatal(err)
	}
	if want := inCharset(t, "8859/1", "Zo\xeb", nil); !bytes.Equal(m.Bytes(), want) {
		t.Errorf("UTF-16 became %q, want %q", m.Bytes(), want)
	}
	for name, c := range map[string]struct{ from, text, to string }{
		"a character that is not in the set": {"UNICODE UTF-8", "山", "8859/1"},
		"bytes that mean nothing":            {"UNICODE UTF-8", "\xff", "8859/1"},
		"an unknown set":                     {"UNICODE UTF-8", "a", "EBCDIC"},
		"UTF-16":                             {"UNICODE UTF-8", "a", "UNICODE UTF-16"},
	} {
		b := inCharset(t, c.from, c.text, nil)
		m, err := hl7.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Transcode(c.to); err == nil || !bytes.Equal(m.Bytes(), b) {
			t.Errorf("%s: got %v, and the message is %q", name, err, m.Bytes())
		}
	}
}

// Setting MSH-18 says in what the next values are written; what is there already is not rewritten (Transcode does that).
func TestSetMSH18(t *testing.T) {
	for _, c := range []struct{ declared, value, wire string }{
		{"UNICODE UTF-8", "Zoë", "Zo\xc3\xab"},
		{"8859/1", "Zoë", "Zo\xeb"},
		{"GB 18030-2000", "亅", "\x81\x7c"}, // the second byte is a field separator
		{"~ISO IR87", "十", "\x1b$B==\x1b(B"},
	} {
		m, err := hl7.Parse(inCharset(t, "", "Plain", nil))
		if err != nil {
			t.Fatal(err)
		}
		name := hl7.MustPath("PID-5")
		if err := m.Set(name, c.value); err == nil {
			t.Errorf("%q was written before a character set was declared", c.value)
		}
		if err := m.Set(hl7.MustPath("PID-6"), "edited"); err != nil {
			t.Fatal(err)
		}
		if err := m.SetRaw(hl7.MustPath("MSH-18"), []byte(c.declared)); err != nil {
			t.Fatal(err)
		}
		if err := m.Set(name, c.value); err != nil {
			t.Fatal(err)
		}
		if raw, _ := m.Raw(name); string(raw) != c.wire {
			t.Errorf("%s: %q is written as %q, want %q", c.declared, c.value, raw, c.wire)
		}
		if want := inCharset(t, c.declared, c.wire, nil); !bytes.Equal(m.Bytes(), bytes.Replace(want, []byte("mother"), []byte("edited"), 1)) {
			t.Errorf("%s: the message is %q", c.declared, m.Bytes())
		}
		if m.Get(name) != c.value || m.Get(hl7.MustPath("PID-6")) != "edited" {
			t.Errorf("%s: read back as %q", c.declared, m.Get(name))
		}
		if err := m.SetRaw(hl7.MustPath("MSH-18"), nil); err != nil {
			t.Fatal(err)
		}
		if got := m.Charset(); got != "ASCII" {
			t.Errorf("%s taken away leaves %s", c.declared, got)
		}
	}
}

// A segment that ends in half a character swallows what is put behind it; so nothing is.
func TestNothingBehindHalfACharacter(t *testing.T) {
	for _, declared := range []string{"GB 18030-2000", "BIG-5", "Shift_JIS"} {
		b := append(inCharset(t, declared, "Plain", nil), "OBX|1|TX|||cut \x83\rOBX|2|TX|||whole\r"...)
		for _, path := range []string{"OBX-6", "OBX-5.2", "OBX(*)-6"} {
			m, err := hl7.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			var refused *hl7.EditError
			if err := m.Set(hl7.MustPath(path), "x"); !errors.As(err, &refused) {
				t.Errorf("%s: setting %s gave %v, want an EditError", declared, path, err)
			}
			if !bytes.Equal(m.Bytes(), b) {
				t.Errorf("%s: a refused %s changed the message", declared, path)
			}
			if err := m.Set(hl7.MustPath("OBX-5"), "whole"); err != nil {
				t.Errorf("%s: the field itself cannot be replaced: %v", declared, err)
			}
		}
	}
}
