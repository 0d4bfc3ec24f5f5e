package dictionary_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lazaret-health/lazaret/hl7/dictionary"
)

// source is what the test reads of a file of facts. It is written apart from the generator's, so that a mistake there
// does not hide itself here.
type source struct {
	Version  string
	Segments map[string]struct {
		Name   string
		Fields []sourceField
	}
	Datatypes map[string]struct {
		Name       string
		Components []sourceField
	}
	Tables map[string]struct {
		Name   string
		Values map[string]string
	}
	Messages map[string]struct {
		Name      string
		Structure []map[string]any
	}
	Events map[string]string
}

type sourceField struct {
	Name, Type, Use, Table string
	Min, Max, Len          int
}

// dataFolder is a folder of ../shared/data beside the project; elsewhere the test has nothing to read.
func dataFolder(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = up
	}
	dir = filepath.Join(dir, "..", "shared", "data", name)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the folder ../shared/data/%s does not lie beside the project", name)
	}
	return dir
}

// TestEveryFactIsThere compares the embedded file with its source, fact by fact, both ways.
func TestEveryFactIsThere(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(dataFolder(t, "dictionary"), "v*.json"))
	if err != nil {
		t.Fatal(err)
	}
	d := open(t)
	if len(files) != len(d.Versions()) {
		t.Errorf("%d files of facts, %d versions", len(files), len(d.Versions()))
	}
	facts := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var s source
		if err := json.Unmarshal(b, &s); err != nil {
			t.Fatalf("%s: %v", filepath.Base(file), err)
		}
		v, exact := d.Version(s.Version)
		if !exact {
			t.Errorf("version %s is missing", s.Version)
			continue
		}
		t.Run(s.Version, func(t *testing.T) { facts += compare(t, v, s) })
	}
	t.Logf("read %d files, compared %d facts", len(files), facts)
	if facts < 100_000 {
		t.Errorf("only %d facts compared", facts)
	}
}

func compare(t *testing.T, v *dictionary.Version, s source) (facts int) {
	same := func(what string, got, want any) {
		facts++
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, want %+v", what, got, want)
		}
	}
	same("number of segments", len(v.Segments()), len(s.Segments))
	for code, want := range s.Segments {
		got, _ := v.Segment(code)
		same(code, got.Name, want.Name)
		same(code+" fields", len(got.Fields), len(want.Fields))
		for i, f := range want.Fields {
			same(code, got.Fields[i], dictionary.Field{Name: f.Name, Type: f.Type, Min: f.Min, Max: f.Max,
				Use: dictionary.Use(f.Use[0]), Length: f.Len, Table: f.Table})
		}
	}
	same("number of data types", len(v.DataTypes()), len(s.Datatypes))
	for code, want := range s.Datatypes {
		got, _ := v.DataType(code)
		same(code, got.Name, want.Name)
		same(code+" components", len(got.Components), len(want.Components))
		for i, c := range want.Components {
			use := dictionary.Optional
			if c.Min > 0 {
				use = dictionary.Required
			}
			same(code, got.Components[i], dictionary.Field{Name: c.Name, Type: c.Type, Min: c.Min, Max: 1,
				Use: use, Length: c.Len, Table: c.Table})
		}
	}
	same("number of tables", len(v.Tables()), len(s.Tables))
	for id, want := range s.Tables {
		got, _ := v.Table(id)
		same(id, got.Name, want.Name)
		same(id+" codes", len(got.Codes()), len(want.Values))
		for code, label := range want.Values {
			has, ok := got.Value(code)
			same(id+" "+code, has, label)
			same(id+" "+code, ok, true)
		}
	}
	same("number of structures", len(v.Structures()), len(s.Messages))
	for id, want := range s.Messages {
		got, _ := v.Structure(id)
		same(id, got.Name, want.Name)
		same(id+" outline", outline(got.Nodes), sourceOutline(want.Structure))
	}
	same("number of events", len(v.Events()), len(s.Events))
	for event, want := range s.Events {
		code, trigger, _ := strings.Cut(event, "^")
		got, _ := v.EventStructure(code, trigger)
		same(event, got, want)
	}
	return facts
}

type line struct {
	code     string
	min, max int
	choice   bool
	depth    int
}

func outline(nodes []dictionary.Node) (all []line) {
	for _, n := range nodes {
		all = append(all, line{code: n.Code, min: n.Min, max: n.Max, choice: n.Choice})
		for _, l := range outline(n.Nodes) {
			l.depth++
			all = append(all, l)
		}
	}
	return all
}

// sourceOutline reads the source's form, and what 2.7.1 writes as a segment "OBR,RXO" or "," the way the generator says
// that it reads it.
func sourceOutline(nodes []map[string]any) (all []line) {
	for _, n := range nodes {
		l := line{min: int(n["min"].(float64)), max: int(n["max"].(float64))}
		l.choice, _ = n["choice"].(bool)
		var below []line
		if code, ok := n["segment"].(string); ok {
			l.code = code
			if strings.Contains(code, ",") {
				l.code, l.choice = "CHOICE", true
				for _, c := range strings.FieldsFunc(code, func(r rune) bool { return r == ',' || r == ' ' }) {
					below = append(below, line{code: c, min: 1, max: 1})
				}
				if below == nil {
					continue
				}
			}
		} else {
			l.code = n["group"].(string)
			var of []map[string]any
			for _, m := range n["of"].([]any) {
				of = append(of, m.(map[string]any))
			}
			if below = sourceOutline(of); below == nil {
				continue
			}
		}
		all = append(all, l)
		for _, b := range below {
			b.depth++
			all = append(all, b)
		}
	}
	return all
}
