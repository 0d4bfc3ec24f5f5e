package dictionary_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// misfits are the samples that do not fit, and why.
var misfits = map[string]string{
	"ADT_A01-2.1.hl7": "segment 4 is PV1 where ADT_A01 has NK1",           // 2.1 demands a next of kin, and nobody sends one
	"RSP_K22.hl7":     "the message ends where RSP_K21 has PD1, NK1, QRI", // the facts of 2.5.1 have no RSP_K22 and name K21 for it
}

// TestSamplesFitTheirStructures checks invented messages of every ADT event and of thirteen versions. They were made from
// the same facts by another program: what it built, Check must accept.
func TestSamplesFitTheirStructures(t *testing.T) {
	d := open(t)
	read, checked := 0, 0
	for _, folder := range []string{"adt", "versions", "types"} {
		files, err := filepath.Glob(filepath.Join(dataFolder(t, "made"), folder, "*.hl7"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			read++
			var segments []string
			var msh []string
			for _, line := range strings.FieldsFunc(string(b), func(r rune) bool { return r == '\r' || r == '\n' }) {
				f := strings.Split(line, "|")
				if f[0] == "MSH" {
					msh = f
				}
				segments = append(segments, f[0])
			}
			if len(msh) < 12 {
				t.Errorf("%s: no version", filepath.Base(file))
				continue
			}
			v, _ := d.Version(msh[11])
			kind := strings.Split(msh[8], "^")
			trigger := ""
			if len(kind) > 1 {
				trigger = kind[1]
			}
			id, ok := v.EventStructure(kind[0], trigger)
			if !ok {
				t.Logf("%s: version %s has no structure for %s", filepath.Base(file), v.Name(), msh[8])
				continue
			}
			s, _ := v.Structure(id)
			got := ""
			if err := s.Check(segments); err != nil {
				got = err.Error()
			}
			if want := misfits[filepath.Base(file)]; got != want {
				t.Errorf("%s: got %q, want %q", filepath.Base(file), got, want)
			}
			checked++
		}
	}
	t.Logf("read %d files, checked %d messages", read, checked)
	if checked < 60 {
		t.Errorf("only %d messages checked", checked)
	}
}
