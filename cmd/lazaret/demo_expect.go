package main

import (
	"bytes"
	"slices"
	"strings"
)

// What the demo's configuration does to a message, said a second time in plain Go: no filter language, no steps, no parser of
// ours. If the engine and this page differ, one of them is wrong, and demo --once says so.

// demoTypes are the events that the laboratory is told of; demoUnsupported is one that it refuses.
func demoTypes() []string {
	return []string{"A01", "A02", "A03", "A04", "A08", "A11", "A18", "A34", "A40", "A47"}
}

const demoUnsupported = "A11"

// demoClasses is the table patient-class of the demo's configuration.
func demoClasses() map[string]string {
	return map[string]string{"I": "INPATIENT", "O": "OUTPATIENT", "E": "EMERGENCY"}
}

// toLaboratory says whether the laboratory gets a message of this type: ADT^A01.
func toLaboratory(typ string) bool {
	event, ok := strings.CutPrefix(typ, "ADT^")
	return ok && slices.Contains(demoTypes(), event)
}

// forLaboratory is what the laboratory gets: addressed to it, without next of kin and national identifier, and with its own
// words for the patient's class.
func forLaboratory(message []byte) []byte {
	var out [][]byte
	for _, line := range bytes.SplitAfter(message, []byte{'\r'}) {
		end := ""
		if bytes.HasSuffix(line, []byte{'\r'}) {
			line, end = line[:len(line)-1], "\r"
		}
		fields := strings.Split(string(line), "|")
		set := func(n int, value string) {
			if n < len(fields) {
				fields[n] = value
			}
		}
		switch fields[0] {
		case "NK1":
			continue
		case "MSH": // its first field is the separator itself, so MSH-5 is the fifth piece, counted from 0 the fourth
			set(4, "LIS")
			set(5, "LABORATORY")
		case "PID":
			set(19, "")
		case "PV1":
			if word, ok := demoClasses()[fields[min(2, len(fields)-1)]]; ok {
				set(2, word)
			}
		}
		out = append(out, []byte(strings.Join(fields, "|")+end))
	}
	return bytes.Join(out, nil)
}
