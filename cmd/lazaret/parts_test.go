package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/hl7/dictionary"
	"github.com/lazaret-health/lazaret/internal/hospital"
	"github.com/lazaret-health/lazaret/internal/transform"
)

// TestHelp holds that every command that is shown has a text with its use and an example, no wider than a wide terminal.
func TestHelp(t *testing.T) {
	var walk func(list []command, path []string)
	walk = func(list []command, path []string) {
		for _, c := range list {
			name := strings.Join(append(slices.Clone(path), c.name), " ")
			if c.brief == "" && len(path) == 0 {
				continue // a process of demo or bench
			}
			for _, want := range []string{"Usage: lazaret " + path0(path, c.name), "Example", "lazaret " + path0(path, c.name)} {
				if !strings.Contains(c.help, want) {
					t.Errorf("the help of %q has no %q", name, want)
				}
			}
			for _, line := range strings.Split(c.help, "\n") {
				if len([]rune(line)) > 130 {
					t.Errorf("the help of %q has a line of %d characters: %s", name, len([]rune(line)), line)
				}
			}
			walk(c.nested, append(slices.Clone(path), c.name))
		}
	}
	walk(commands(), nil)
}

func path0(path []string, name string) string {
	if len(path) > 0 {
		return path[0]
	}
	return name
}

func TestClean(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"letters of any script stay", "Źródło 患者\tß", "Źródło 患者\tß"},
		{"escape sequences cannot reach the terminal", "\x1b[2Jx\x07", `\x1b[2Jx\x07`},
		{"neither can C1 controls", "a\u009bb", `a\u009bb`},
		{"nor a turn of the writing direction", "a\u202eb", `a\u202eb`},
		{"bytes that are no text are shown as bytes", "a\xffb", `a\xffb`},
		{"CR and LF cannot make a line", "a\r\nb", `a\x0d\x0ab`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := clean(c.in); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -123456: "-123,456"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestCutFile(t *testing.T) {
	const msh = `MSH|^~\&|A|B|C|D|||ADT^A01|`
	for _, c := range []struct {
		name, file string
		asIs       bool
		want       []string
		wrong      bool
	}{
		{name: "LF becomes CR", file: msh + "1\nPID|1\n", want: []string{msh + "1\rPID|1\r"}},
		{name: "CRLF becomes CR", file: msh + "1\r\nPID|1\r\n", want: []string{msh + "1\rPID|1\r"}},
		{name: "with CR, an LF is content", file: msh + "1\rNTE|a\nb\r", want: []string{msh + "1\rNTE|a\nb\r"}},
		{name: "a missing last terminator is added", file: msh + "1", want: []string{msh + "1\r"}},
		{name: "as it is, nothing changes", file: msh + "1\nPID|1", asIs: true, want: []string{msh + "1\nPID|1"}},
		{name: "two messages, blank lines between", file: msh + "1\n\n\n" + msh + "2\n", want: []string{msh + "1\r", msh + "2\r"}},
		{name: "the envelope of a batch is not sent", file: "FHS|^~\\&\nBHS|^~\\&\n" + msh + "1\nBTS|1\nFTS|1\n", want: []string{msh + "1\r"}},
		{name: "a byte order mark of an editor goes", file: "\ufeff" + msh + "1\n", want: []string{msh + "1\r"}},
		{name: "an MLLP stream is cut at its frames and not changed", file: "\x0b" + msh + "1\n\x1c\r\x0b" + msh + "2\r\x1c\r", want: []string{msh + "1\n", msh + "2\r"}},
		{name: "an MLLP stream that ends inside a frame is wrong", file: "\x0b" + msh + "1\r\x1c\r\x0bMSH", wrong: true},
		{name: "what does not begin as a message is wrong", file: "hello\n" + msh + "1\n", wrong: true},
		{name: "an empty file has none", file: "", want: nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := []byte(c.file)
			got, err := cutFile(file, c.asIs)
			if (err != nil) != c.wrong {
				t.Fatalf("error %v, want one: %v", err, c.wrong)
			}
			var text []string
			for _, b := range got {
				text = append(text, string(b))
			}
			if err == nil && !slices.Equal(text, c.want) {
				t.Errorf("got %q, want %q", text, c.want)
			}
			if string(file) != c.file {
				t.Error("the file's bytes were changed")
			}
		})
	}
}

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{"localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"0.0.0.0": false, "10.0.0.1": false, "localhost.example": false, "": false, "lis": false} {
		if got := isLoopback(host); got != want {
			t.Errorf("%q: got %v, want %v", host, got, want)
		}
	}
}

// TestCompare drops, swaps, repeats and changes what one receiver got.
func TestCompare(t *testing.T) {
	var accepted, asSent []ledgerEntry
	for i := range 6 {
		e := ledgerEntry{What: ledgerSent, Feed: "adt", Type: "ADT^A01", ID: fmt.Sprint("M", i), SHA256: fmt.Sprint("s", i), Laboratory: fmt.Sprint("l", i), Patients: []string{fmt.Sprint("p", i%2)}}
		accepted = append(accepted, e)
		asSent = append(asSent, ledgerEntry{What: ledgerTaken, Type: e.Type, ID: e.ID, SHA256: e.SHA256})
	}
	registry, laboratory := demoReceivers()[0], demoReceivers()[1]
	forLab := slices.Clone(asSent)
	for i := range forLab {
		forLab[i].SHA256 = accepted[i].Laboratory
	}
	swap := func(l []ledgerEntry, i, j int) []ledgerEntry {
		l = slices.Clone(l)
		l[i], l[j] = l[j], l[i]
		return l
	}
	with := func(l []ledgerEntry, i int, change func(*ledgerEntry)) []ledgerEntry {
		l = slices.Clone(l)
		change(&l[i])
		return l
	}
	for _, c := range []struct {
		name string
		who  demoReceiver
		got  []ledgerEntry
		want []string
	}{
		{"what was sent arrived", registry, asSent, nil},
		{"one is missing", registry, slices.Delete(slices.Clone(asSent), 2, 3), []string{"M2 did not arrive"}},
		{"the last is missing", registry, asSent[:5], []string{"M5 did not arrive"}},
		{"two neighbours are swapped", registry, swap(asSent, 2, 3), []string{"M2 arrived after M3, which was sent later"}},
		{"one came twice", registry, append(slices.Clone(asSent), asSent[1]), []string{"M1 arrived 2 times"}},
		{"one has other bytes", registry, with(asSent, 4, func(e *ledgerEntry) { e.SHA256 = "x" }), []string{"M4 arrived with other bytes"}},
		{"one was never sent", registry, append(slices.Clone(asSent), ledgerEntry{ID: "M9"}), []string{"M9 arrived, and should not have"}},
		{"one was refused that should not have been", registry, with(asSent, 0, func(e *ledgerEntry) { e.What = ledgerRefused }), []string{"M0 was refused, and should not have been"}},
		{"the laboratory gets its own bytes", laboratory, forLab, nil},
		{"the laboratory got the bytes as sent", laboratory, with(forLab, 0, func(e *ledgerEntry) { e.SHA256 = "s0" }), []string{"M0 arrived with other bytes"}},
		{"two patients may pass each other at the laboratory", laboratory, swap(forLab, 2, 3), nil},
		{"one patient's messages may not", laboratory, swap(forLab, 2, 4), []string{"M2 arrived after M4, which was sent later"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.who.compare(accepted, c.got).differences; !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestSettle(t *testing.T) {
	sent := func(id, typ string) ledgerEntry { return ledgerEntry{What: ledgerSent, ID: id, Type: typ} }
	answer := func(id, what string) ledgerEntry { return ledgerEntry{What: what, ID: id} }
	for _, c := range []struct {
		name   string
		ledger []ledgerEntry
		want   []string
	}{
		{"accepted", []ledgerEntry{sent("1", "ADT^A01"), answer("1", ledgerAccepted)}, nil},
		{"an order is refused, and should be", []ledgerEntry{sent("1", "ORM^O01"), answer("1", ledgerRefused)}, nil},
		{"an order was accepted", []ledgerEntry{sent("1", "ORM^O01"), answer("1", ledgerAccepted)}, []string{"ORM^O01 1 was answered: accepted"}},
		{"an admission was refused", []ledgerEntry{sent("1", "ADT^A01"), answer("1", ledgerRefused)}, []string{"ADT^A01 1 was answered: refused"}},
		{"no answer", []ledgerEntry{sent("1", "ADT^A01")}, []string{"ADT^A01 1 was sent and got no answer"}},
		{"two answers", []ledgerEntry{sent("1", "ADT^A01"), answer("1", ledgerAccepted), answer("1", ledgerAccepted)}, []string{"ADT^A01 1 was answered: accepted, accepted"}},
		{"an answer to nothing", []ledgerEntry{answer("1", ledgerAccepted)}, []string{"1 was answered and never sent"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, v := settle(c.ledger); !slices.Equal(v.differences, c.want) {
				t.Errorf("got %q, want %q", v.differences, c.want)
			}
		})
	}
}

// TestForLaboratory holds the demo's second opinion against the transform that it is the second opinion of.
func TestForLaboratory(t *testing.T) {
	h, err := hospital.New(hospital.Config{Seed: 7, Start: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC), Facility: "STMARY", Patients: 40})
	if err != nil {
		t.Fatal(err)
	}
	program, err := transform.CompileSteps([]transform.Step{
		{Set: []transform.Assignment{{Field: "MSH-5", Value: "LIS"}, {Field: "MSH-6", Value: "LABORATORY"}}},
		{Delete: []string{"NK1(*)", "PID(*)-19"}},
		{Map: &transform.Mapping{Field: "PV1-2", Table: "patient-class"}},
	}, transform.Tables{"patient-class": {Values: demoClasses()}})
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for range 500 {
		m := h.ADT()
		parsed, err := parseClone(m.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := program.Run(parsed); err != nil {
			t.Fatal(err)
		}
		want := forLaboratory(m.Bytes)
		if !bytes.Equal(parsed.Bytes(), want) {
			t.Fatalf("%s^%s %s differs:\n%q\n%q", m.Type, m.Event, m.ControlID, parsed.Bytes(), want)
		}
		if bytes.Contains(m.Bytes, []byte("\rNK1|")) && !bytes.Contains(want, []byte("\rNK1|")) {
			changed++
		}
	}
	if changed == 0 {
		t.Error("no message had a next of kin: the test tests nothing")
	}
}

func TestTree(t *testing.T) {
	names, err := dictionary.Open()
	if err != nil {
		t.Fatal(err)
	}
	in := "MSH|^~\\&|HIS||||20260301||ADT^A01|C1|P|2.5.1\rPID|1||47^^^A&1.2&ISO~48||X^Y\rOBX|1\rOBX|2||||" + strings.Repeat("z", 5000) + "\rjunk\r"
	const want = `MSH  Message Header
    MSH-1        Field Separator                      |
    MSH-2        Encoding Characters                  ^~\&
    MSH-3        Sending Application                  HIS
    MSH-7        Date/Time Of Message                 20260301
    MSH-9        Message Type
        .1           Message Code                         ADT
        .2           Trigger Event                        A01
    MSH-10       Message Control ID                   C1
    MSH-11       Processing ID                        P
    MSH-12       Version ID                           2.5.1
PID  Patient Identification
    PID-1        Set ID - PID                         1
    PID-3(1)     Patient Identifier List
        .1           ID Number                            47
        .4.1         Namespace ID                         A
        .4.2         Universal ID                         1.2
        .4.3         Universal ID Type                    ISO
    PID-3(2)     Patient Identifier List              48
    PID-5        Patient Name
        .1           Family Name                          X
        .2           Given Name                           Y
OBX(1)  Observation/Result
    OBX(1)-1     Set ID - OBX                         1
OBX(2)  Observation/Result
    OBX(2)-1     Set ID - OBX                         2
    OBX(2)-5     Observation Value                    zzz`
	got := tree([]byte(in), names)
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant it to begin\n%s", got, want)
	}
	for _, end := range []string{"… (5,000 bytes)", "junk"} {
		if !strings.Contains(got, end) {
			t.Errorf("no %q in\n%s", end, got)
		}
	}
	if got := tree([]byte("\x1b[2Jnothing"), names); !strings.Contains(got, "not legible") || strings.Contains(got, "\x1b") {
		t.Errorf("of what is no message: %q", got)
	}
}

func parseClone(b []byte) (*hl7.Message, error) { return hl7.Parse(bytes.Clone(b)) }
