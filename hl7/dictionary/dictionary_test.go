package dictionary_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/lazaret-health/lazaret/hl7/dictionary"
)

func open(t testing.TB) *dictionary.Dictionary {
	t.Helper()
	d, err := dictionary.Open()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func version(t testing.TB, name string) *dictionary.Version {
	t.Helper()
	v, exact := open(t).Version(name)
	if !exact {
		t.Fatalf("version %s is not in the dictionary", name)
	}
	return v
}

func TestVersions(t *testing.T) {
	want := []string{"2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2"}
	if got := open(t).Versions(); !slices.Equal(got, want) {
		t.Errorf("versions are %v, want %v", got, want)
	}
}

func TestVersionAnswers(t *testing.T) {
	d := open(t)
	for _, c := range []struct {
		name, ask, want string
		exact           bool
	}{
		{name: "a known version is itself", ask: "2.3.1", want: "2.3.1", exact: true},
		{name: "spaces around it do not matter", ask: " 2.5 ", want: "2.5", exact: true},
		{name: "a v before it does not matter", ask: "v2.8.2", want: "2.8.2", exact: true},
		{name: "a final .0 is the same version", ask: "2.4.0", want: "2.4", exact: true},
		{name: "a later version is answered by the last", ask: "2.9", want: "2.8.2"},
		{name: "an unknown one between is answered by the one below", ask: "2.3.7", want: "2.3.1"},
		{name: "2.10 is above 2.8, not below 2.2", ask: "2.10", want: "2.8.2"},
		{name: "one below all is answered by the lowest", ask: "1.0", want: "2.1"},
		{name: "no version is answered by the fallback", ask: "", want: dictionary.Fallback},
		{name: "a word is answered by the fallback", ask: "latest", want: dictionary.Fallback},
		{name: "too many parts are answered by the fallback", ask: "2.5.1.1", want: dictionary.Fallback},
		{name: "a sign is no version", ask: "-2.5", want: dictionary.Fallback},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, exact := d.Version(c.ask)
			if v.Name() != c.want || exact != c.exact {
				t.Errorf("%q is answered by %s, exact %v; want %s, %v", c.ask, v.Name(), exact, c.want, c.exact)
			}
		})
	}
}

func TestField(t *testing.T) {
	d := open(t)
	for _, c := range []struct {
		name, version, segment string
		n                      int
		want                   dictionary.Field
	}{
		{name: "PID-3 of 2.5.1 is a required list", version: "2.5.1", segment: "PID", n: 3, want: dictionary.Field{
			Name: "Patient Identifier List", Type: "CX", Min: 1, Max: dictionary.Unbounded, Use: dictionary.Required, Length: 250}},
		{name: "PID-8 of 2.5.1 has a table", version: "2.5.1", segment: "PID", n: 8, want: dictionary.Field{
			Name: "Administrative Sex", Type: "IS", Max: 1, Use: dictionary.Optional, Length: 1, Table: "0001"}},
		{name: "OBX-5 varies", version: "2.5.1", segment: "OBX", n: 5, want: dictionary.Field{
			Name: "Observation Value", Type: "varies", Max: dictionary.Unbounded, Use: dictionary.Optional, Length: 99999}},
		{name: "MSH-1 is the separator itself", version: "2.3", segment: "MSH", n: 1, want: dictionary.Field{
			Name: "Field Separator", Type: "ST", Min: 1, Max: 1, Use: dictionary.Required, Length: 1}},
		{name: "ACC-2 of 2.1 has its own type and length", version: "2.1", segment: "ACC", n: 2, want: dictionary.Field{
			Name: "Accident code", Type: "ID", Max: 1, Use: dictionary.Optional, Length: 2, Table: "0050"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, _ := d.Version(c.version)
			got, ok := v.Field(c.segment, c.n)
			if !ok || got != c.want {
				t.Errorf("%s-%d is %+v, %v; want %+v", c.segment, c.n, got, ok, c.want)
			}
		})
	}
}

func TestUnknownThingsAreUnknown(t *testing.T) {
	v := version(t, "2.5.1")
	for name, ok := range map[string]bool{
		"field 0":         second(v.Field("PID", 0)),
		"field -1":        second(v.Field("PID", -1)),
		"field 40":        second(v.Field("PID", 40)),
		"segment ZZZ":     second(v.Segment("ZZZ")),
		"segment pid":     second(v.Segment("pid")),
		"type ZZ":         second(v.DataType("ZZ")),
		"table 9998":      second(v.Table("9998")),
		"table empty":     second(v.Table("")),
		"table HL7":       second(v.Table("HL7")),
		"structure":       second(v.Structure("ADT_A99")),
		"event ZZZ^Z01":   second(v.EventStructure("ZZZ", "Z01")),
		"event of nobody": second(v.EventStructure("", "")),
	} {
		if ok {
			t.Errorf("%s is said to be known", name)
		}
	}
}

func second[T any](_ T, ok bool) bool { return ok }

func TestTable(t *testing.T) {
	v := version(t, "2.5.1")
	for _, id := range []string{"0001", "1", "HL70001"} {
		table, ok := v.Table(id)
		if !ok || table.ID != "0001" || table.Name != "Administrative Sex" {
			t.Fatalf("table %q is %+v, %v", id, table, ok)
		}
		if got, want := table.Codes(), []string{"A", "F", "M", "N", "O", "U"}; !slices.Equal(got, want) {
			t.Errorf("codes are %v, want %v", got, want)
		}
		if label, ok := table.Value("F"); label != "Female" || !ok {
			t.Errorf("F is %q, %v", label, ok)
		}
		if label, ok := table.Value("X"); label != "" || ok {
			t.Errorf("X, which is no code, is %q, %v", label, ok)
		}
	}
}

func TestCodesAreTheCallersOwn(t *testing.T) {
	table, _ := version(t, "2.5.1").Table("0001")
	table.Codes()[0] = "changed"
	if _, ok := table.Value("A"); !ok {
		t.Error("a caller that changed its list of codes changed the table")
	}
}

func TestDataType(t *testing.T) {
	v := version(t, "2.5.1")
	cx, ok := v.DataType("CX")
	if !ok || cx.Name != "Extended Composite ID with Check Digit" || len(cx.Components) != 10 || cx.Primitive() {
		t.Fatalf("CX is %+v, %v", cx, ok)
	}
	want := dictionary.Field{Name: "Assigning Authority", Type: "HD", Max: 1, Use: dictionary.Optional, Length: 227, Table: "0363"}
	if cx.Components[3] != want {
		t.Errorf("CX.4 is %+v, want %+v", cx.Components[3], want)
	}
	if st, ok := v.DataType("ST"); !ok || !st.Primitive() {
		t.Errorf("ST is %+v, %v", st, ok)
	}
}

func TestEventStructure(t *testing.T) {
	d := open(t)
	for _, c := range []struct{ name, version, code, trigger, want string }{
		{"A01 has its own", "2.5.1", "ADT", "A01", "ADT_A01"},
		{"A04 shares that of A01", "2.5.1", "ADT", "A04", "ADT_A01"},
		{"A08 shares that of A01", "2.3", "ADT", "A08", "ADT_A01"},
		{"A40 shares that of A39", "2.5.1", "ADT", "A40", "ADT_A39"},
		{"results", "2.5.1", "ORU", "R01", "ORU_R01"},
		{"an acknowledgement of anything", "2.5.1", "ACK", "A01", "ACK"},
		{"an acknowledgement without an event", "2.5.1", "ACK", "", "ACK"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, _ := d.Version(c.version)
			id, ok := v.EventStructure(c.code, c.trigger)
			if !ok || id != c.want {
				t.Fatalf("%s^%s of %s has %q, %v; want %q", c.code, c.trigger, c.version, id, ok, c.want)
			}
			if _, ok := v.Structure(id); !ok {
				t.Errorf("structure %q is not there", id)
			}
		})
	}
}

func TestStructure(t *testing.T) {
	s, ok := version(t, "2.5.1").Structure("ORU_R01")
	if !ok || s.Name != "Unsolicited transmission of an observation message" {
		t.Fatalf("ORU_R01 is %+v, %v", s, ok)
	}
	if first := s.Nodes[0]; first.Code != "MSH" || first.Min != 1 || first.Max != 1 || first.Nodes != nil {
		t.Errorf("it begins with %+v", first)
	}
	if n := s.Nodes[2]; n.Code != "ORU_R01_PATIENT_RESULT" || n.Min != 1 || n.Max != dictionary.Unbounded || len(n.Nodes) != 2 || n.Choice {
		t.Errorf("its third node is %+v", n)
	}
}

// The source of 2.7.1 writes a choice as one segment named "ROL,PRD"; nothing like that may come through.
func TestChoicesAreGroups(t *testing.T) {
	d := open(t)
	choices := 0
	for _, name := range d.Versions() {
		v, _ := d.Version(name)
		var walk func(string, []dictionary.Node)
		walk = func(id string, nodes []dictionary.Node) {
			for _, n := range nodes {
				if n.Choice {
					choices++
					if len(n.Nodes) == 0 {
						t.Errorf("%s %s: a choice without members", name, id)
					}
				}
				_, known := v.Segment(n.Code)
				// Segments withdrawn from 2.7 on stay in some structures of 2.7 to 2.8.2.
				withdrawn := slices.Contains([]string{"QRD", "QRF", "URD", "URS"}, n.Code)
				if n.Nodes == nil && !known && !withdrawn && n.Code != dictionary.AnySegment {
					t.Errorf("%s %s: %q is no segment", name, id, n.Code)
				}
				walk(id, n.Nodes)
			}
		}
		for _, id := range v.Structures() {
			s, _ := v.Structure(id)
			walk(id, s.Nodes)
		}
	}
	if choices < 200 {
		t.Errorf("only %d choices seen", choices)
	}
}

func TestDescribe(t *testing.T) {
	v := version(t, "2.5.1")
	for _, c := range []struct {
		name, segment  string
		field, comp, s int
		want           string
	}{
		{"a segment", "PID", 0, 0, 0, "PID Patient Identification"},
		{"a field", "PID", 3, 0, 0, "PID-3 Patient Identifier List"},
		{"a component", "PID", 3, 4, 0, "PID-3.4 Patient Identifier List / Assigning Authority"},
		{"a subcomponent", "PID", 3, 4, 2, "PID-3.4.2 Patient Identifier List / Assigning Authority / Universal ID"},
		{"component 1 of a field without components is the field", "PID", 8, 1, 1, "PID-8.1.1 Administrative Sex"},
		{"component 2 of such a field is nameless", "PID", 8, 2, 0, "PID-8.2 Administrative Sex"},
		{"a component that is not there is nameless", "PID", 3, 99, 0, "PID-3.99 Patient Identifier List"},
		{"a component of a field that varies is nameless", "OBX", 5, 2, 0, "OBX-5.2 Observation Value"},
		{"a Z segment is nameless", "ZPI", 3, 1, 0, "ZPI-3.1"},
		{"a Z segment alone", "ZPI", 0, 0, 0, "ZPI"},
		{"a field beyond the last", "PID", 77, 0, 0, "PID-77"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := v.Describe(c.segment, c.field, c.comp, c.s); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if _, ok := v.Names("OBX", 5, 2, 0); ok {
		t.Error("a component of a field that varies is said to be known")
	}
}

func TestVersionsShareWhatIsEqual(t *testing.T) {
	d := open(t)
	a, _ := d.Version("2.5")
	b, _ := d.Version("2.5.1")
	one, _ := a.Segment("EVN")
	other, _ := b.Segment("EVN")
	if one != other {
		t.Error("EVN is the same in 2.5 and 2.5.1, and is decoded twice")
	}
}

// Run with -race: many may read at once.
func TestConcurrentReaders(t *testing.T) {
	d := open(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, name := range d.Versions() {
				v, _ := d.Version(name)
				for _, code := range v.Segments() {
					if s, ok := v.Segment(code); !ok || s.Code != code {
						t.Errorf("%s: segment %s is %+v", name, code, s)
					}
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkOpen(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dictionary.Open(); err != nil {
			b.Fatal(err)
		}
	}
}

// From nothing to the first name: open, index one version, decode one segment and two data types.
func BenchmarkFirstName(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if version(b, "2.5.1").Describe("PID", 3, 4, 1) == "" {
			b.Fatal("nothing said")
		}
	}
}

func BenchmarkDescribe(b *testing.B) {
	v := version(b, "2.5.1")
	b.ReportAllocs()
	for b.Loop() {
		if v.Describe("PID", 3, 4, 1) == "" {
			b.Fatal("nothing said")
		}
	}
}
