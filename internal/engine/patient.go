package engine

import (
	"strings"

	"github.com/lazaret-health/lazaret/hl7"
)

// maxIdentifiers bounds what one message may add to the index and to the order keys of its deliveries. A message with more is
// a barrier instead: it waits for all, and all wait for it.
const maxIdentifiers = 64

// patientFields are the fields whose first component identifies a patient (HL7 v2.5.1 sections 3.4.2 and 3.4.9): the external,
// internal and alternate ids, and in MRG the same ones of the record that is merged away. All PID and MRG segments count: a
// link (A24) and a swap (A17) have two PID, a merge of many (A40) repeats PID and MRG.
var patientFields = []hl7.Path{
	hl7.MustPath("PID(*)-2(*).1"), hl7.MustPath("PID(*)-3(*).1"), hl7.MustPath("PID(*)-4(*).1"),
	hl7.MustPath("MRG(*)-1(*).1"), hl7.MustPath("MRG(*)-2(*).1"), hl7.MustPath("MRG(*)-4(*).1"),
}

// patientIdentifiers lists the distinct identifiers of all patients that a message names, in upper case without space around.
// Assigning authorities are left out on purpose: one system sends them and the next does not, and two deliveries that wait for
// each other without need do less harm than two that should have and did not. overflow: there were too many to list.
func patientIdentifiers(m *hl7.Message) (ids []string, overflow bool) {
	for _, f := range patientFields {
		if m.Count(f.Segment) == 0 {
			continue
		}
		for _, p := range m.Expand(f) {
			id := strings.ToUpper(strings.TrimSpace(m.Get(p)))
			if id == "" || contains(ids, id) {
				continue
			}
			if len(ids) == maxIdentifiers {
				return ids, true
			}
			ids = append(ids, id)
		}
	}
	return ids, false
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}
