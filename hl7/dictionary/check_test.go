package dictionary_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7/dictionary"
)

func TestCheck(t *testing.T) {
	d := open(t)
	for _, c := range []struct{ name, version, structure, segments, want string }{
		{"the least admission fits", "2.5.1", "ADT_A01", "MSH EVN PID PV1", ""},
		{"a full one fits", "2.5.1", "ADT_A01", "MSH EVN PID PD1 NK1 NK1 PV1 PV2 OBX AL1 AL1 DG1 PR1 ROL PR1 GT1 IN1 IN2 IN1", ""},
		{"Z segments may stand anywhere", "2.5.1", "ADT_A01", "MSH ZZ1 EVN PID ZPI PV1 ZZ9", ""},
		{"groups repeat", "2.5.1", "ORU_R01", "MSH PID OBR OBX NTE OBX OBR OBX SPM PID OBR OBX", ""},
		{"an OBX after SPM is of the specimen", "2.5.1", "ORU_R01", "MSH PID ORC OBR OBX SPM OBX OBX SPM", ""},
		{"one of a choice fits", "2.5.1", "ORM_O01", "MSH PID ORC OBR NTE ORC RXO", ""},
		{"two of a choice do not", "2.5.1", "ORM_O01", "MSH PID ORC OBR RXO", "segment 5 is RXO where ORM_O01 has"},
		{"a missing visit is named", "2.5.1", "ADT_A01", "MSH EVN PID", "the message ends where ADT_A01 has PD1, ROL, NK1, PV1"},
		{"a segment out of place is counted with Z segments", "2.5.1", "ADT_A01", "MSH ZZ1 PID EVN", "segment 3 is PID where ADT_A01 has SFT, EVN"},
		{"a segment too many", "2.3", "ADT_A02", "MSH EVN PID PV1 PV1", "segment 5 is PV1 where ADT_A02 has PV2, DB1, OBX or the end"},
		{"nothing", "2.5.1", "ACK", "", "the message ends where ACK has MSH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, _ := d.Version(c.version)
			s, ok := v.Structure(c.structure)
			if !ok {
				t.Fatalf("no %s", c.structure)
			}
			err := s.Check(strings.Fields(c.segments))
			if c.want == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			var e *dictionary.StructureError
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A hundred thousand observations, and one wrong segment at their end, are no reason to think for long: it takes 60 ms, and would take
// hours if each were compared with all. The limit leaves room for a busy machine.
func TestCheckOfManySegmentsIsQuick(t *testing.T) {
	s, _ := version(t, "2.5.1").Structure("ORU_R01")
	segments := slices.Concat([]string{"MSH", "PID", "OBR"}, slices.Repeat([]string{"OBX", "NTE"}, 50_000))
	start := time.Now()
	if err := s.Check(segments); err != nil {
		t.Error(err)
	}
	var e *dictionary.StructureError
	if err := s.Check(append(segments, "EVN")); !errors.As(err, &e) || e.Position != len(segments)+1 || e.Segment != "EVN" {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v", took)
	}
	t.Logf("%d segments twice in %v", len(segments), time.Since(start))
}
