package hl7_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
)

func TestNewAck(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 30, 45, 0, time.FixedZone("", 3600))
	missing := []hl7.AckError{{Location: "PID-3.1", Code: "101", UserMessage: "say who it is"}}
	for _, c := range []struct {
		name, message string
		ack           hl7.Ack
		want          string
	}{
		{"2.5.1 accepted",
			"MSH|^~\\&|ADT|MERCY|LAB|STATE|20260301||ADT^A01^ADT_A01|M1|P|2.5.1\r",
			hl7.Ack{Code: hl7.AA},
			"MSH|^~\\&|LAB|STATE|ADT|MERCY|20260301123045+0100||ACK^A01^ACK|OWN|P|2.5.1\rMSA|AA|M1\r"},
		{"2.5.1 in enhanced mode",
			"MSH|^~\\&|ADT|MERCY|LAB|STATE|20260301||ADT^A01^ADT_A01|M1|P|2.5.1|||AL|NE||8859/1\r",
			hl7.Ack{Code: hl7.AA, Enhanced: true},
			"MSH|^~\\&|LAB|STATE|ADT|MERCY|20260301123045+0100||ACK^A01^ACK|OWN|P|2.5.1||||||8859/1\rMSA|CA|M1\r"},
		{"2.5 with an error in ERR-2, ERR-3, ERR-4 and ERR-8",
			"MSH|^~\\&|ADT|MERCY|LAB|STATE|20260301||ADT^A01^ADT_A01|M1|P^T|2.5\r",
			hl7.Ack{Code: hl7.AE, Text: "no patient", Errors: missing},
			"MSH|^~\\&|LAB|STATE|ADT|MERCY|20260301123045+0100||ACK^A01^ACK|OWN|P^T|2.5\rMSA|AE|M1|no patient\r" +
				"ERR||PID^1^3^1^1|101^Required field missing^HL70357|E||||say who it is\r"},
		{"2.7 has no MSA-3, and one ERR for each error",
			"MSH|^~\\&#|ADT|MERCY|LAB|STATE|20260301||ADT^A01^ADT_A01|M1|P|2.7\r",
			hl7.Ack{Code: hl7.AE, Text: "twice # wrong", Errors: []hl7.AckError{
				{Location: "OBX(3)-5(2).1.2", Code: "102", Severity: "W", Text: "a # b"}, {Location: "ZZ1", Code: "100"}}},
			"MSH|^~\\&#|LAB|STATE|ADT|MERCY|20260301123045+0100||ACK^A01^ACK|OWN|P|2.7\rMSA|AE|M1\r" +
				"ERR||OBX^3^5^2^1^2|102^Data type error^HL70357|W|||a \\P\\ b\rERR||ZZ1^1|100^Segment sequence error^HL70357|E\r"},
		{"2.7 without errors gets the text in ERR-8",
			"MSH|^~\\&|ADT|MERCY|LAB|STATE|20260301||ADT^A01^ADT_A01|M1|P|2.7\r",
			hl7.Ack{Code: hl7.AR, Text: "disk full"},
			"MSH|^~\\&|LAB|STATE|ADT|MERCY|20260301123045+0100||ACK^A01^ACK|OWN|P|2.7\rMSA|AR|M1\r" +
				"ERR|||207^Application internal error^HL70357|E||||disk full\r"},
		{"2.4 repeats ERR-1, with the code as CE, and fills MSA-6",
			"MSH|^~\\&|ADT|MERCY|LAB|STATE|20260301||ADT^A01^ADT_A01|M1|P|2.4\r",
			hl7.Ack{Code: hl7.AE, Text: "no", Errors: append(missing, hl7.AckError{Location: "PV1-2", Code: "103"})},
			"MSH|^~\\&|LAB|STATE|ADT|MERCY|20260301123045+0100||ACK^A01^ACK|OWN|P|2.4\r" +
				"MSA|AE|M1|no|||101^Required field missing^HL70357\r" +
				"ERR|PID^1^3^101&Required field missing&HL70357~PV1^1^2^103&Table value not found&HL70357\r"},
		{"2.3.1 has three components in MSH-9",
			"MSH|^~\\&|ADT|MERCY|LAB|STATE|20260301||ADT^A01|M1|P|2.3.1\r",
			hl7.Ack{Code: hl7.AA},
			"MSH|^~\\&|LAB|STATE|ADT|MERCY|20260301123045+0100||ACK^A01^ACK|OWN|P|2.3.1\rMSA|AA|M1\r"},
		{"2.3 has ACK alone, and the plain code in ERR-1",
			"MSH|^~\\&|ADT|MERCY|LAB|STATE|20260301||ADT^A01|M1|P|2.3\r",
			hl7.Ack{Code: hl7.AE, Text: "no", Errors: missing},
			"MSH|^~\\&|LAB|STATE|ADT|MERCY|20260301123045+0100||ACK|OWN|P|2.3\rMSA|AE|M1|no\rERR|PID^1^3^101\r"},
		{"the message's own separators",
			"MSH$*!/%$ADT$MERCY$LAB$STATE$20260301$$ADT*A01$M1$P$2.5\r",
			hl7.Ack{Code: hl7.AE, Text: "5$ a*b", Errors: missing},
			"MSH$*!/%$LAB$STATE$ADT$MERCY$20260301123045+0100$$ACK*A01*ACK$OWN$P$2.5\rMSA$AE$M1$5/F/ a/S/b\r" +
				"ERR$$PID*1*3*1*1$101*Required field missing*HL70357$E$$$$say who it is\r"},
		{"no escape character",
			"MSH|^~&|ADT|MERCY|LAB|STATE|20260301||ADT^A01|M1|P|2.3\r",
			hl7.Ack{Code: hl7.AE, Text: "a|b"},
			"MSH|^~&|LAB|STATE|ADT|MERCY|20260301123045+0100||ACK|OWN|P|2.3\rMSA|AE|M1|a b\rERR|^^^207\r"},
		{"no version, no event, no control ID",
			"MSH|^~\\&|ADT\r",
			hl7.Ack{Code: hl7.AA},
			"MSH|^~\\&|||ADT||20260301123045+0100||ACK|OWN||2.5\rMSA|AA|\r"},
		{"a text that the character set does not have",
			"MSH|^~\\&|||||||ADT^A01|M1|P|2.5||||||8859/1\r",
			hl7.Ack{Code: hl7.AA, Text: "für 5 €"},
			"MSH|^~\\&|||||20260301123045+0100||ACK^A01^ACK|OWN|P|2.5||||||8859/1\rMSA|AA|M1|f\xfcr 5 ?\r"},
		{"a control ID with the bytes of a frame",
			"MSH|^~\\&|||||||ADT^A01|M\x1c\x0b1|P|2.5\rPID|1\r",
			hl7.Ack{Code: hl7.AA},
			"MSH|^~\\&|||||20260301123045+0100||ACK^A01^ACK|OWN|P|2.5\rMSA|AA|M\\X1C\\\\X0B\\1\r"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.ack.ControlID, c.ack.Time = "OWN", at
			m := parse(t, c.message)
			got := string(hl7.NewAck(m, c.ack))
			if got != c.want {
				t.Errorf("got\n%q\nwant\n%q", got, c.want)
			}
			r, err := hl7.ParseAck([]byte(got))
			if err != nil || r.ControlID != m.ControlID() || r.Code.Accepted() != c.ack.Code.Accepted() {
				t.Errorf("read back as %+v, %v", r, err)
			}
			if len(c.ack.Errors) > 0 && r.ErrorCode != c.ack.Errors[0].Code {
				t.Errorf("the error's code is read back as %q", r.ErrorCode)
			}
		})
	}
}

func TestNewAckRaw(t *testing.T) {
	for _, c := range []struct{ name, raw, control string }{
		{"nothing", "", ""},
		{"no HL7 at all", "GET / HTTP/1.1\r\n", ""},
		{"stray bytes before MSH", "xx\x00\rMSH|^~\\&|A|B|C|D|||ADT^A01|M7|P|2.3\rPID|1\r", "M7"},
		{"a batch", "FHS|^~\\&\rBHS|^~\\&\rMSH|^~\\&|A|B|C|D|||ADT^A01|M8|P|2.3\r", "M8"},
		{"MSH with separators that are letters", "MSHabcdea", ""},
		{"MSH in a text, and one behind it", "the MSH is missing\rMSH|^~\\&|A|B|C|D|||ADT^A01|M9|P|2.3\r", "M9"},
		{"binary", strings.Repeat("\x00\xff", 1<<17), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := hl7.NewAckRaw([]byte(c.raw), hl7.Ack{Code: hl7.AR, Text: "not legible", ControlID: "OWN"})
			r, err := hl7.ParseAck(out)
			if err != nil || r.Code != hl7.AR || r.ControlID != c.control {
				t.Errorf("%q is read as %+v, %v", out, r, err)
			}
			if !bytes.HasPrefix(out, []byte("MSH|^~\\&|")) || !bytes.Contains(out, []byte("not legible")) {
				t.Errorf("the answer is %q", out)
			}
		})
	}
}

func TestParseAckRefuses(t *testing.T) {
	for name, s := range map[string]string{
		"an answer without MSA":    "MSH|^~\\&|A\rERR|x\r",
		"a code that is none":      "MSH|^~\\&|A\rMSA|OK|1\r",
		"an empty code":            "MSH|^~\\&|A\rMSA||1\r",
		"something that is no HL7": "HTTP/1.1 200 OK\r\n",
	} {
		if r, err := hl7.ParseAck([]byte(s)); err == nil {
			t.Errorf("%s is read as %+v", name, r)
		}
	}
}

func TestAckConditions(t *testing.T) {
	m := parse(t, "MSH|^~\\&|A|B|C|D|||ADT^A01|M1|P|2.5|||AL|NE\r")
	accept, application := hl7.AckConditions(m)
	if accept != "AL" || application != "NE" || !hl7.WantsEnhanced(m) {
		t.Errorf("conditions %q, %q; enhanced: %v", accept, application, hl7.WantsEnhanced(m))
	}
	if hl7.WantsEnhanced(parse(t, "MSH|^~\\&|A|B|C|D|||ADT^A01|M1|P|2.5\r")) {
		t.Error("a message that says nothing is taken for enhanced mode")
	}
}

// TestAckErrorNames holds our list of table 0357 against the collected dictionary's.
func TestAckErrorNames(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(samplesDir(t), "dictionary", "v2.8.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Tables map[string]struct{ Values map[string]string }
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	values := d.Tables["0357"].Values
	if len(values) == 0 {
		t.Fatal("the dictionary has no table 0357")
	}
	for code, name := range values {
		if got := hl7.AckErrorName(code); got != name {
			t.Errorf("code %s is %q, and %q in the dictionary", code, got, name)
		}
	}
	t.Logf("%d codes of table 0357 in 1 file", len(values))
}

func TestEnhancedCodes(t *testing.T) {
	m := parse(t, "MSH|^~\\&|A|B|C|D|||ADT^A01|M1|P|2.5|||AL|NE\r")
	for code, want := range map[hl7.AckCode]hl7.AckCode{hl7.AA: hl7.CA, hl7.AE: hl7.CE, hl7.AR: hl7.CR, hl7.CA: hl7.CA, hl7.CE: hl7.CE, hl7.CR: hl7.CR} {
		r, err := hl7.ParseAck(hl7.NewAck(m, hl7.Ack{Code: code, Enhanced: true}))
		if err != nil || r.Code != want {
			t.Errorf("%s in enhanced mode is %s, %v; want %s", code, r.Code, err, want)
		}
	}
}
