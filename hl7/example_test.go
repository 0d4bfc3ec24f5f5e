package hl7_test

import (
	"fmt"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
)

// The patients of these examples are invented.

func Example() {
	m, err := hl7.Parse([]byte("MSH|^~\\&|ADT|MERCY|LAB|MERCY|20260301||ADT^A01|M1|P|2.5\r" +
		"PID|1||100^^^MERCY^MR~200^^^STATE^SS||Doe^Jane\r"))
	if err != nil {
		fmt.Println(err)
		return
	}
	code, event, _ := m.Type()
	fmt.Println(code, event, m.Get(hl7.MustPath("PID-5.1")), m.Get(hl7.MustPath("PID-3(2).4")))

	if err := m.Set(hl7.MustPath("PID-5.2"), "Jane & Joan"); err != nil {
		fmt.Println(err)
		return
	}
	raw, _ := m.Raw(hl7.MustPath("PID-5"))
	fmt.Printf("%s\n", raw)
	// Output:
	// ADT A01 Doe STATE
	// Doe^Jane \T\ Joan
}

func ExampleMessage_Expand() {
	m, err := hl7.Parse([]byte("MSH|^~\\&|LAB\rOBX|1|NM|GLU||5.1\rOBX|2|NM|HGB\rOBX|3|NM|NA||140\r"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range m.Expand(hl7.MustPath("OBX(*)-5")) {
		fmt.Println(p, m.Get(p))
	}
	// Output:
	// OBX(1)-5 5.1
	// OBX(3)-5 140
}

func ExampleMessage_Presence() {
	m, err := hl7.Parse([]byte("MSH|^~\\&|ADT\rPID|1||\"\"|\r"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range []string{"PID-1", "PID-2", "PID-3", "PID-9"} {
		fmt.Println(p, m.Presence(hl7.MustPath(p)))
	}
	// Output:
	// PID-1 present
	// PID-2 empty
	// PID-3 null
	// PID-9 absent
}

func ExampleNewAck() {
	m, err := hl7.Parse([]byte("MSH|^~\\&|ADT|MERCY|LAB|STATE|20260301||ADT^A01^ADT_A01|M1|P|2.5\r"))
	if err != nil {
		fmt.Println(err)
		return
	}
	ack := hl7.NewAck(m, hl7.Ack{
		Code:      hl7.AE,
		ControlID: "A1",
		Time:      time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Errors:    []hl7.AckError{{Location: "PID-3", Code: "101"}},
	})
	r, err := hl7.ParseAck(ack)
	fmt.Println(r.Code, r.ControlID, r.ErrorCode, r.Text, err)
	// Output: AE M1 101 Required field missing <nil>
}

func ExampleSplitBatch() {
	file := []byte("BHS|^~\\&|LAB\rMSH|^~\\&|LAB||||||ORU^R01|1\rMSH|^~\\&|LAB||||||ORU^R01|2\rBTS|3\r")
	for part := range hl7.SplitBatch(file) {
		switch {
		case part.Kind == hl7.MessagePart:
			if m, err := hl7.Parse(part.Raw); err == nil {
				fmt.Println("message", m.ControlID())
			}
		case part.Kind == hl7.BatchTrailer && part.Miscounted():
			fmt.Println("the trailer says", part.Declared, "and there were", part.Counted)
		}
	}
	// Output:
	// message 1
	// message 2
	// the trailer says 3 and there were 2
}
