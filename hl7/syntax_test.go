package hl7_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/hl7"
)

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		name, in string
		offset   int
	}{
		{"nothing", "", 0},
		{"only blank lines", "\r\n\r\n", 4},
		{"another segment first", "PID|1\rMSH|^~\\&|A\r", 0},
		{"a batch", "BHS|^~\\&|A\rMSH|^~\\&|A\r", 0},
		{"MSH alone", "MSH", 3},
		{"MSH and a terminator", "MSH\r", 3},
		{"a letter as the field separator", "MSHX^~\\&XA\r", 3},
		{"MSH-2 left out", "MSH|SENDER|A\r", 4},
		{"a control character in MSH-2", "MSH|^~\x00&|A\r", 6},
		{"more characters in MSH-2 than there are", "MSH|^~\\&#!%$*|A\r", 12},
		{"half a character of UTF-16", "\xfe\xff\x00M\x00S\x00", 6},
		{"blank lines before something else", "\r\nPID|1\r", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := hl7.Parse([]byte(c.in))
			var syntax *hl7.SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("got %v, want a SyntaxError", err)
			}
			if syntax.Offset != c.offset {
				t.Errorf("at byte %d, want %d: %v", syntax.Offset, c.offset, err)
			}
			if strings.Contains(err.Error(), "SENDER") {
				t.Error("the error quotes content")
			}
		})
	}
}

func TestResetAfterError(t *testing.T) {
	m := parse(t, admit)
	if err := m.Reset([]byte("no message")); err == nil {
		t.Fatal("taken")
	}
	if m.Get(hl7.MustPath("PID-3")) != "" || m.Count("PID") != 0 || len(m.Bytes()) != 0 || m.Charset() != "ASCII" {
		t.Error("something of the former message is left")
	}
	if err := m.Set(hl7.MustPath("PID-3"), "1"); err == nil {
		t.Error("a value was set in no message")
	}
	m.Walk(func(p hl7.Path, _ []byte) bool { t.Errorf("%s is there", p); return true })
	if err := new(hl7.Message).AppendSegment([]byte("ZZ1|")); err == nil {
		t.Error("a segment was appended to the zero message")
	}
}

func TestSeparators(t *testing.T) {
	for _, c := range []struct {
		name, msh string
		want      hl7.Separators
	}{
		{"recommended", `MSH|^~\&|`, hl7.Recommended()},
		{"with truncation", `MSH|^~\&#|`, hl7.Separators{Field: '|', Component: '^', Repetition: '~', Escape: '\\', Subcomponent: '&', Truncation: '#'}},
		{"others, by place", `MSH$*!/%$`, hl7.Separators{Field: '$', Component: '*', Repetition: '!', Escape: '/', Subcomponent: '%'}},
		{"no escape character", `MSH|^~&|`, hl7.Separators{Field: '|', Component: '^', Repetition: '~', Subcomponent: '&'}},
		{"no repetition", `MSH|^\&|`, hl7.Separators{Field: '|', Component: '^', Escape: '\\', Subcomponent: '&'}},
		{"components only", `MSH|^|`, hl7.Separators{Field: '|', Component: '^'}},
		{"a doubled backslash", `MSH|^~\\&|`, hl7.Recommended()},
		{"MSH-2 empty", `MSH||`, hl7.Recommended()},
		{"MSH-2 empty, and a recommended character taken", `MSH&&`, hl7.Separators{Field: '&', Component: '^', Repetition: '~', Escape: '\\'}},
		{"a tab between fields", "MSH\t^~\\&\t", hl7.Separators{Field: '\t', Component: '^', Repetition: '~', Escape: '\\', Subcomponent: '&'}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := parse(t, c.msh).Separators(); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestTerminators(t *testing.T) {
	for _, c := range []struct {
		name, in string
		segments []string
	}{
		{"an LF in a text of a message that ends lines with CR", "MSH|^~\\&|A\rOBX|1|TX|||one\ntwo\rNTE|1\r", []string{"MSH|^~\\&|A", "OBX|1|TX|||one\ntwo", "NTE|1"}},
		{"an LF before a segment ends one there too", "MSH|^~\\&|A\rOBX|1\nNTE|1\r", []string{"MSH|^~\\&|A", "OBX|1", "NTE|1"}},
		{"an LF before a segment without fields", "MSH|^~\\&|A\rOBX|1\nZZZ\rNTE|1\r", []string{"MSH|^~\\&|A", "OBX|1", "ZZZ", "NTE|1"}},
		{"LF alone ends every line", "MSH|^~\\&|A\nOBX|1|TX|||one\ntwo\n", []string{"MSH|^~\\&|A", "OBX|1|TX|||one", "two"}},
		{"blank lines", "\n\nMSH|^~\\&|A\n\n\nPID|1\n\n", []string{"MSH|^~\\&|A", "PID|1"}},
		{"CR CR LF", "MSH|^~\\&|A\r\r\nPID|1\r\r\n", []string{"MSH|^~\\&|A", "PID|1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parse(t, c.in)
			var got []string
			for _, s := range m.Segments() {
				got = append(got, string(s.Raw))
			}
			if !reflect.DeepEqual(got, c.segments) {
				t.Errorf("got %q, want %q", got, c.segments)
			}
			if string(m.Bytes()) != c.in {
				t.Errorf("%q became %q", c.in, m.Bytes())
			}
		})
	}
}

func TestUnescape(t *testing.T) {
	sep := hl7.Recommended()
	for _, c := range []struct{ name, in, want string }{
		{"separators", `\F\\S\\T\\R\\E\`, `|^&~\`},
		{"hexadecimal bytes", `a\X0D0A\b\X41\`, "a\r\nbA"},
		{"lower-case digits", `\X4a\`, "J"},
		{"formatting is kept", `a\.br\b\.sp2\\.ti+4\`, `a\.br\b\.sp2\\.ti+4\`},
		{"highlighting is kept", `\H\bold\N\`, `\H\bold\N\`},
		{"other character sets are kept whole", `\C2842\\M2442\\M244242\`, `\C2842\\M2442\\M244242\`},
		{"other character sets with a wrong number of digits are malformed", `\C2\\M24424\\F\`, `\C2\\M24424\|`},
		{"local sequences are kept", `\Zlocal\`, `\Zlocal\`},
		{"truncation is kept where the message has none", `\P\`, `\P\`},
		{"an odd number of digits", `\X4\`, `\X4\`},
		{"no digits", `\X\`, `\X\`},
		{"an unknown letter, and a sequence behind it", `\Q\F\`, `\Q|`},
		{"an open one", `a\F`, `a\F`},
		{"a Windows path", `C:\Temp\x.pdf`, `C:\Temp\x.pdf`},
		{"nothing between", `\\`, `\\`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := hl7.Unescape(sep, c.in); got != c.want {
				t.Errorf("Unescape(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
	sep.Truncation = '#'
	if got := hl7.Unescape(sep, `1\P\2`); got != "1#2" {
		t.Errorf("the truncation character is read as %q", got)
	}
	if got := hl7.Escape(sep, "a#b"); got != `a\P\b` {
		t.Errorf("the truncation character is written as %q", got)
	}
}

func TestParsePathRefuses(t *testing.T) {
	for _, c := range []struct {
		path   string
		column int
	}{
		{"", 1}, {"PI", 3}, {"pid-3", 1}, {"PiD-3", 2}, {"1ID-3", 1}, {"PID3", 4}, {"PID.3", 4}, {"PID-", 5}, {"PID-0", 5}, {"PID-03", 5},
		{"PID-x", 5}, {"PID-1000", 5}, {"PID-3(", 7}, {"PID-3()", 7}, {"PID-3(0)", 7}, {"PID-3(1", 8}, {"PID-3(1.2", 8}, {"PID-3(**)", 8},
		{"PID-3.", 7}, {"PID-3.1.", 9}, {"PID-3.1.1.1", 10}, {"PID-3[1]", 6}, {"PID-3-1", 6}, {"PID-3.*", 7}, {"OBX(-)-5", 6}, {"PID-3 ", 6},
		{"PID-99999999999999999999", 5},
	} {
		_, err := hl7.ParsePath(c.path)
		var wrong *hl7.PathError
		if !errors.As(err, &wrong) {
			t.Errorf("%q gave %v, want a PathError", c.path, err)
			continue
		}
		if wrong.Column != c.column {
			t.Errorf("%q: column %d, want %d: %v", c.path, wrong.Column, c.column, err)
		}
	}
}

func TestSplitBatch(t *testing.T) {
	const msh = "MSH|^~\\&|A\rPID|1\r"
	kinds := func(in string) (s []string, last hl7.Part) {
		for p := range hl7.SplitBatch([]byte(in)) {
			s = append(s, p.Kind.String())
			if p.Kind == hl7.BatchTrailer || p.Kind == hl7.FileTrailer {
				last = p
			}
		}
		return s, last
	}
	for _, c := range []struct {
		name, in          string
		want              string
		declared, counted int
	}{
		{"nothing", "", "", 0, 0},
		{"one message", msh, "message", 0, 0},
		{"messages one after another", msh + msh + "\r\n" + msh, "message message message", 0, 0},
		{"a batch", "BHS|^~\\&|A\r" + msh + msh + "BTS|2\r", "BHS message message BTS", 2, 2},
		{"a batch that says too much", "BHS|^~\\&|A\r" + msh + "BTS|5\r", "BHS message BTS", 5, 1},
		{"a batch that says nothing", "BHS|^~\\&|A\r" + msh + "BTS\r", "BHS message BTS", -1, 1},
		{"a file of two batches", "FHS|^~\\&\nBHS|^~\\&\n" + msh + "BTS|1\nBHS|^~\\&\nBTS|0\nFTS|2\n", "FHS BHS message BTS BHS BTS FTS", 2, 2},
		{"a file without BHS is one batch", "FHS|^~\\&\r" + msh + "FTS|1\r", "FHS message FTS", 1, 1},
		{"own separators", "BHS$*!/%$A\rMSH$*!/%$A\rBTS$1$x\r", "BHS message BTS", 1, 1},
		{"bytes before the first message", "junk\r" + msh, "stray bytes message", 0, 0},
		{"a byte order mark", "\xEF\xBB\xBF" + msh + msh, "message message", 0, 0},
		{"MSH inside a text", "MSH|^~\\&|A\rOBX|1|TX|||MSH|x\rNTE|1||MSH\r", "message", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, last := kinds(c.in)
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %v, want %s", got, c.want)
			}
			if last.Declared != c.declared || last.Counted != c.counted {
				t.Errorf("the trailer says %d, and there were %d; want %d, %d", last.Declared, last.Counted, c.declared, c.counted)
			}
		})
	}
	for p := range hl7.SplitBatch([]byte(msh + msh)) {
		if p.Offset != 0 {
			t.Error("went on after the first")
		}
		break
	}
}

func TestHeader(t *testing.T) {
	m := parse(t, admit)
	code, event, structure := m.Type()
	got := []string{code, event, structure, m.ControlID(), m.ProcessingID(), m.Version(), m.Charset()}
	if want := []string{"ADT", "A01", "ADT_A01", "MSG00001", "P", "2.5.1", "UNICODE UTF-8"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Errors are shown and logged: they say where, and never what stands there.
func TestErrorsSayWhere(t *testing.T) {
	m := parse(t, strings.Replace(admit, "UNICODE UTF-8", "8859/1", 1))
	_, path := hl7.ParsePath("PID-x")
	_, syntax := hl7.Parse([]byte("PID|secret"))
	for _, c := range []struct {
		err  error
		want string
	}{
		{m.Set(hl7.MustPath("PID-5.1"), "secret 山"), "set PID-5.1: hl7: the character at byte 7 cannot be written in 8859/1: it is not in that set"},
		{m.SetRaw(hl7.MustPath("PID-5(2)"), []byte("secret|")), "hl7: change PID-5(2): the bytes hold a separator above the element's own level"},
		{m.AppendSegment([]byte("secret")), "hl7: change the message: a segment begins with a name of three letters or digits and the message's field separator"},
		{m.Delete(hl7.MustPath("MSH")), "hl7: change MSH: a message cannot be without its MSH"},
		{path, `hl7: path "PID-x", column 5: here comes the number of a field`},
		{syntax, "hl7: segment 1, byte 0: a message begins with the segment MSH"},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", c.err, c.want)
		}
	}
}
