package hospital_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/lazaret-health/lazaret/hl7/dictionary"
	"github.com/lazaret-health/lazaret/internal/hospital"
)

var start = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

func open(t testing.TB, seed uint64) *hospital.Hospital {
	t.Helper()
	h, err := hospital.New(hospital.Config{Seed: seed, Start: start, Facility: "STMARY", Patients: 60})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func history(t testing.TB, seed uint64, n int) []hospital.Message {
	t.Helper()
	h := open(t, seed)
	all := make([]hospital.Message, n)
	for i := range all {
		all[i] = h.Next()
	}
	return all
}

// segments splits a message, as UTF-8, into segments of fields: [0] is the code, and field n is [n], in MSH too.
func segments(t testing.TB, m hospital.Message) [][]string {
	t.Helper()
	s := string(m.Bytes)
	if m.Charset == "8859/1" {
		var b strings.Builder
		for _, c := range m.Bytes {
			b.WriteRune(rune(c))
		}
		s = b.String()
	}
	var all [][]string
	for _, line := range strings.Split(strings.TrimSuffix(s, "\r"), "\r") {
		f := strings.Split(line, "|")
		if f[0] == "MSH" {
			f = slices.Insert(f, 1, "|")
		}
		all = append(all, f)
	}
	return all
}

func first(all [][]string, code string) []string {
	for _, f := range all {
		if f[0] == code {
			return f
		}
	}
	return nil
}

func field(f []string, n int) string {
	if n >= len(f) {
		return ""
	}
	return f[n]
}

func component(s string, n int) string { return field(strings.Split(s, "^"), n-1) }

// mrn finds the medical record number in a list like PID-3.
func mrn(list string) string {
	for _, id := range strings.Split(list, "~") {
		if component(id, 5) == "MR" {
			return component(id, 1)
		}
	}
	return ""
}

func TestTheSameSeedGivesTheSameBytes(t *testing.T) {
	a, b := history(t, 7, 1000), history(t, 7, 1000)
	for i := range a {
		if !bytes.Equal(a[i].Bytes, b[i].Bytes) || !slices.Equal(a[i].Patients, b[i].Patients) || !a[i].Time.Equal(b[i].Time) {
			t.Fatalf("message %d differs", i)
		}
	}
}

func TestControlIDsAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(5) {
		for _, m := range history(t, seed, 1000) {
			if seen[m.ControlID] {
				t.Fatalf("seed %d: control ID %s comes twice", seed, m.ControlID)
			}
			seen[m.ControlID] = true
		}
	}
}

func TestEveryMessageIsLegal(t *testing.T) {
	d, err := dictionary.Open()
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(4) {
		for i, m := range history(t, seed, 2000) {
			if problem := legal(t, d, m); problem != "" {
				t.Errorf("seed %d, message %d, %s^%s of %s: %s", seed, i, m.Type, m.Event, m.Version, problem)
			}
		}
	}
	std := hospital.Message{Bytes: hospital.Standard(5), Type: "ADT", Event: "A01", ControlID: "STD00000005", Version: "2.5.1",
		Patients: []string{"00000005"}, Feed: hospital.FeedADT, Time: time.Date(2026, 3, 5, 0, 0, 0, 0, time.UTC)}
	if problem := legal(t, d, std); problem != "" {
		t.Errorf("the standard message: %s", problem)
	}
}

// legal compares a message with the dictionary of its version: structure, required fields, codes, lengths, times.
func legal(t *testing.T, d *dictionary.Dictionary, m hospital.Message) string {
	if !bytes.HasPrefix(m.Bytes, []byte(`MSH|^~\&|`)) || !bytes.HasSuffix(m.Bytes, []byte("\r")) {
		return "does not begin with MSH or end with CR"
	}
	if bytes.ContainsAny(m.Bytes, "\n\x0b\x1c\x00") || bytes.Contains(m.Bytes, []byte("\r\r")) {
		return "holds a byte that no message should, or an empty segment"
	}
	if m.Charset != "8859/1" && !utf8.Valid(m.Bytes) {
		return "is not UTF-8"
	}
	all := segments(t, m)
	msh := all[0]
	if got, want := component(msh[9], 1)+component(msh[9], 2)+msh[10]+msh[12]+field(msh, 18), m.Type+m.Event+m.ControlID+m.Version+m.Charset; got != want {
		return fmt.Sprintf("MSH says %s, the message %s", got, want)
	}
	v, exact := d.Version(m.Version)
	id, ok := v.EventStructure(m.Type, m.Event)
	if !exact || !ok {
		return "the version has no such event"
	}
	if said := component(msh[9], 3); m.Version != "2.3" && said != id {
		return "MSH-9.3 is " + said + ", not " + id
	}
	s, _ := v.Structure(id)
	var codes []string
	for _, f := range all {
		codes = append(codes, f[0])
	}
	if err := s.Check(codes); err != nil {
		return err.Error()
	}
	for _, f := range all {
		segment, _ := v.Segment(f[0])
		if len(f)-1 > len(segment.Fields) {
			return fmt.Sprintf("%s has %d fields of %d", f[0], len(f)-1, len(segment.Fields))
		}
		for n, want := range segment.Fields {
			if problem := legalField(v, want, field(f, n+1), m.Time); problem != "" {
				return v.Describe(f[0], n+1, 0, 0) + " " + problem
			}
		}
	}
	return ""
}

func legalField(v *dictionary.Version, want dictionary.Field, has string, now time.Time) string {
	switch {
	case has == "":
		if want.Use == dictionary.Required {
			return "is required and empty"
		}
		return ""
	case want.Use == dictionary.Withdrawn:
		return "is withdrawn"
	case want.Name == "Encoding Characters":
		return ""
	}
	// 2.3 grants an identifier 20 characters with its authority and all, and a location 12. No hospital ever kept to
	// that, nor does ours.
	lengthHolds := want.Length > 0 && (v.Name() != "2.3" || want.Type != "CX" && want.Type != "PL")
	repetitions := strings.Split(has, "~")
	if want.Max == 1 && len(repetitions) > 1 {
		return "may not repeat"
	}
	for _, r := range repetitions {
		if lengthHolds && utf8.RuneCountInString(r) > want.Length {
			return fmt.Sprintf("is longer than %d", want.Length)
		}
		if want.Type == "TS" || want.Type == "DT" {
			when, err := time.Parse("20060102150405"[:len(r)], r)
			if err != nil {
				return "is no time"
			}
			if when.After(now) {
				return "lies in the future"
			}
		}
		table, ok := v.Table(want.Table)
		if want.Type != "ID" && want.Type != "IS" || !ok || len(table.Codes()) == 0 {
			continue
		}
		// Tables that each site fills: the dictionary has only suggestions.
		if slices.Contains([]string{"0010", "0069", "0112", "0302"}, table.ID) {
			continue
		}
		if _, ok := table.Value(component(r, 1)); !ok {
			return "has a code that table " + table.ID + " has not: " + component(r, 1)
		}
	}
	return ""
}

// TestHistoriesAreCoherent replays a history from the bytes alone.
func TestHistoriesAreCoherent(t *testing.T) {
	inHouse := map[string]string{} // MRN to account
	announced := map[string]bool{} // by A28
	gone := map[string]bool{}      // by A40
	placed := map[string]bool{}    // orders that wait
	done := map[string]bool{}      // orders with a final result
	linked := map[string]bool{}
	for i, m := range history(t, 3, 20000) {
		all := segments(t, m)
		pid := first(all, "PID")
		who, account := mrn(pid[3]), component(field(pid, 18), 1)
		where := fmt.Sprintf("message %d, %s^%s", i, m.Type, m.Event)
		if who == "" || gone[who] {
			t.Fatalf("%s: of nobody, or of somebody who was merged away", where)
		}
		if !slices.Contains(m.Patients, who) || account != "" && !slices.Contains(m.Patients, account) {
			t.Fatalf("%s: Patients %v lacks what PID names", where, m.Patients)
		}
		_, in := inHouse[who]
		switch m.Event {
		case "A01", "A04":
			if in {
				t.Fatalf("%s: admitted twice", where)
			}
			inHouse[who] = account
		case "A02", "A08", "O01", "O21":
			if inHouse[who] != account || account == "" {
				t.Fatalf("%s: of somebody who is not in the house under this account", where)
			}
		case "A03", "A11":
			if inHouse[who] != account || account == "" {
				t.Fatalf("%s: of somebody who is not in the house under this account", where)
			}
			delete(inHouse, who)
		case "A28":
			if announced[who] {
				t.Fatalf("%s: added twice", where)
			}
			announced[who] = true
		case "A31":
			if in {
				t.Fatalf("%s: of somebody in the house", where)
			}
		case "A40", "A18", "A34":
			other := mrn(first(all, "MRG")[1])
			if !announced[other] || other == who || inHouse[other] != "" || gone[other] {
				t.Fatalf("%s: merges somebody unknown, himself, or in the house", where)
			}
			if !slices.Contains(m.Patients, other) {
				t.Fatalf("%s: Patients %v lacks who is merged", where, m.Patients)
			}
			gone[other] = true
		case "A24", "A37":
			var pair []string
			for _, f := range all {
				if f[0] == "PID" {
					pair = append(pair, mrn(f[3]))
				}
			}
			if len(pair) != 2 || pair[0] == pair[1] || !slices.Contains(m.Patients, pair[1]) {
				t.Fatalf("%s: links %v, Patients %v", where, pair, m.Patients)
			}
			key := strings.Join(pair, " ")
			if m.Event == "A37" != linked[key] {
				t.Fatalf("%s: unlinks what was not linked, or links twice", where)
			}
			linked[key] = m.Event == "A24"
		case "A47":
			was := strings.Split(first(all, "MRG")[1], "~")
			if mrn(was[0]) != who || len(was) != 2 || was[1] == "" || strings.Contains(pid[3], was[1]) || !slices.Contains(m.Patients, component(was[1], 1)) {
				t.Fatalf("%s: changes nothing, or Patients lacks the old identifier", where)
			}
		case "R01":
			placer := component(field(first(all, "ORC"), 2), 1)
			if placer == "" {
				break // a walk-in
			}
			if !placed[placer] || done[placer] {
				t.Fatalf("%s: a result without an order, or after the final one", where)
			}
			done[placer] = field(first(all, "OBR"), 25) == "F"
		}
		if m.Feed == hospital.FeedORM {
			placed[component(first(all, "ORC")[2], 1)] = true
		}
	}
	if len(gone) < 50 || len(done) < 1000 {
		t.Errorf("only %d merges and %d finished orders", len(gone), len(done))
	}
}

func TestMix(t *testing.T) {
	const n = 20000
	feeds, events, versions := map[string]int{}, map[string]int{}, map[string]int{}
	national, accents, wide := 0, 0, 0
	for _, m := range history(t, 4, n) {
		feeds[m.Feed]++
		events[m.Event+" "+m.Version]++
		versions[m.Version]++
		pid := first(segments(t, m), "PID")
		if strings.HasPrefix(pid[3], "9") {
			national++ // the national identifier stands first
		}
		for _, r := range pid[5] {
			if r >= 0x80 && r <= 0xff {
				accents++
			}
			if r > 0xff {
				wide++
			}
		}
	}
	share := func(what string, got, low, high int) {
		if p := got * 100 / n; p < low || p > high {
			t.Errorf("%s are %d in 100, want %d to %d", what, p, low, high)
		}
	}
	share("admission messages", feeds[hospital.FeedADT], 45, 60)
	share("orders", feeds[hospital.FeedORM], 18, 30)
	share("results", feeds[hospital.FeedORU], 18, 30)
	share("messages of 2.3", versions["2.3"], 20, 50)
	share("lists that begin with the national identifier", national, 3, 12)
	if accents == 0 || wide == 0 {
		t.Errorf("%d letters with accents, %d beyond ISO 8859-1", accents, wide)
	}
	for _, e := range []string{
		"A01 2.3", "A02 2.3", "A03 2.3", "A04 2.3", "A08 2.3", "A11 2.3", "A28 2.3", "A31 2.3", "A18 2.3", "A34 2.3", "A40 2.3", "A47 2.3", "O01 2.3", "R01 2.3",
		"A01 2.5.1", "A02 2.5.1", "A03 2.5.1", "A04 2.5.1", "A08 2.5.1", "A11 2.5.1", "A24 2.5.1", "A28 2.5.1", "A31 2.5.1", "A37 2.5.1",
		"A40 2.5.1", "A47 2.5.1", "O21 2.5.1", "R01 2.5.1",
	} {
		if events[e] < 10 {
			t.Errorf("%s comes %d times in %d", e, events[e], n)
		}
	}
	t.Logf("feeds %v, events %v", feeds, events)
}

func TestOneKindOnRequest(t *testing.T) {
	h := open(t, 5)
	for range 300 {
		if m := h.ADT(); m.Feed != hospital.FeedADT || m.Type != "ADT" {
			t.Fatalf("ADT gave %s^%s", m.Type, m.Event)
		}
		if m := h.ORU(); m.Feed != hospital.FeedORU || m.Type != "ORU" {
			t.Fatalf("ORU gave %s^%s", m.Type, m.Event)
		}
	}
	empty := open(t, 5)
	if m := empty.ORM(); m.Event != "A01" && m.Event != "A04" {
		t.Errorf("an order in an empty house gave %s^%s, not an admission", m.Type, m.Event)
	}
	if m := empty.ORM(); m.Feed != hospital.FeedORM {
		t.Errorf("the next order gave %s^%s", m.Type, m.Event)
	}
	if m := open(t, 6).ORU(); m.Feed != hospital.FeedORU {
		t.Errorf("a result in an empty house gave %s^%s", m.Type, m.Event)
	}
}

func TestTheClockMovesOn(t *testing.T) {
	h := open(t, 8)
	last := start
	for range 500 {
		m := h.Next()
		if step := m.Time.Sub(last); step < 5*time.Second || step > time.Minute || !h.Now().Equal(m.Time) {
			t.Fatalf("the clock moved %v, to %v", step, h.Now())
		}
		if want := m.Time.Format("20060102150405"); segments(t, m)[0][7] != want {
			t.Fatalf("MSH-7 is not the clock")
		}
		last = m.Time
	}
}

func TestResultsCarryPDFs(t *testing.T) {
	found, wide := 0, 0
	for _, m := range history(t, 9, 4000) {
		for _, f := range segments(t, m) {
			if f[0] != "OBX" || f[2] != "ED" {
				continue
			}
			found++
			if got, want := f[5][:strings.LastIndex(f[5], "^")], "^application^pdf^Base64"; !strings.HasSuffix(got, want) {
				t.Fatalf("OBX-5 begins %q", got)
			}
			pdf, err := base64.StdEncoding.DecodeString(component(f[5], 5))
			if err != nil {
				t.Fatal(err)
			}
			if problem := readPDF(pdf); problem != "" {
				t.Fatalf("message %s: %s", m.ControlID, problem)
			}
			if bytes.Contains(pdf, []byte("(simulated)")) {
				t.Fatal("a bracket stands unescaped in a text")
			}
			if bytes.Contains(pdf, []byte(`\(simulated\)`)) {
				wide++
			}
		}
	}
	if found < 40 || wide != found {
		t.Errorf("%d PDFs, %d of them with their first line", found, wide)
	}
}

func TestLongReportsHavePages(t *testing.T) {
	lines := slices.Repeat([]string{"one (1) line"}, 120)
	pdf := hospital.PDF("Lines", lines)
	if problem := readPDF(pdf); problem != "" {
		t.Error(problem)
	}
	if n := bytes.Count(pdf, []byte("/Type /Page ")); n != 3 || !bytes.Contains(pdf, []byte("/Count 3 ")) {
		t.Errorf("%d pages, want 3", n)
	}
	if n := bytes.Count(pdf, []byte(`(one \(1\) line) Tj`)); n != 120 {
		t.Errorf("%d lines, want 120", n)
	}
}

// readPDF follows a document as a reader does: the end, the cross-reference table, every object, every stream's length.
func readPDF(b []byte) string {
	if !bytes.HasPrefix(b, []byte("%PDF-1.4\n")) || !bytes.HasSuffix(b, []byte("%%EOF\n")) {
		return "does not begin with %PDF or end with %%EOF"
	}
	_, tail, _ := strings.Cut(string(b), "startxref\n")
	at, err := strconv.Atoi(strings.TrimSuffix(tail, "\n%%EOF\n"))
	if err != nil || at >= len(b) || !bytes.HasPrefix(b[at:], []byte("xref\n0 ")) {
		return "startxref does not lead to the table"
	}
	table := strings.Split(string(b[at:]), "\n")
	n, _ := strconv.Atoi(strings.Fields(table[1])[1])
	for i := 1; i < n; i++ {
		row := table[2+i]
		offset, err := strconv.Atoi(row[:10])
		if err != nil || len(row) != 19 || !bytes.HasPrefix(b[offset:], []byte(fmt.Sprintf("%d 0 obj\n", i))) {
			return fmt.Sprintf("object %d is not where the table says", i)
		}
		body, _, _ := bytes.Cut(b[offset:], []byte("\nendobj\n"))
		if head, stream, ok := bytes.Cut(body, []byte(">>\nstream\n")); ok {
			said, _ := strconv.Atoi(strings.TrimSpace(string(head[bytes.LastIndex(head, []byte("/Length "))+8:])))
			if said != len(bytes.TrimSuffix(stream, []byte("\nendstream"))) {
				return fmt.Sprintf("stream %d has another length than it says", i)
			}
		}
	}
	return ""
}

// Numbers that could be somebody's must not come out.
func TestNobodyHasTheseNumbers(t *testing.T) {
	phone := regexp.MustCompile(`\(\d{3}\)\d{3}-\d{4}`)
	national := regexp.MustCompile(`\b\d{3}-\d{2}-\d{4}\b`)
	phones, nationals := 0, 0
	check := func(b []byte) {
		for _, p := range phone.FindAll(b, -1) {
			phones++
			if !bytes.HasPrefix(p[5:], []byte("555-01")) {
				t.Fatalf("telephone %s may be real", p)
			}
		}
		for _, n := range national.FindAll(b, -1) {
			nationals++
			if group, _ := strconv.Atoi(string(n[4:6])); n[0] != '9' || group < 1 || group > 49 {
				t.Fatalf("national identifier %s may be real", n)
			}
		}
	}
	for _, m := range history(t, 10, 5000) {
		check(m.Bytes)
	}
	check(hospital.Standard(1))
	if phones < 1000 || nationals < 1000 {
		t.Errorf("only %d telephones and %d national identifiers seen", phones, nationals)
	}
}

func TestNationalIdentifiersAreNotShared(t *testing.T) {
	owner := map[string]string{}
	for _, m := range history(t, 11, 20000) {
		if m.Event == "A47" { // the old identifier stands in MRG alone, and goes to nobody else
			delete(owner, component(strings.Split(first(segments(t, m), "MRG")[1], "~")[1], 1))
		}
		pid := first(segments(t, m), "PID")
		for _, id := range strings.Split(pid[3], "~") {
			n := component(id, 1)
			if component(id, 5) != "SS" {
				continue
			}
			if was, ok := owner[n]; ok && was != mrn(pid[3]) {
				t.Fatalf("%s and %s share a national identifier", was, mrn(pid[3]))
			}
			owner[n] = mrn(pid[3])
		}
	}
}

func TestStandard(t *testing.T) {
	for _, i := range []int{0, 1, 99_999_999, 100_000_000, -1} {
		if n := len(hospital.Standard(i)); n != hospital.StandardSize {
			t.Errorf("message %d has %d bytes, want %d", i, n, hospital.StandardSize)
		}
	}
	a, b := hospital.Standard(1234), hospital.Standard(1235)
	if got, want := bytes.Count(a, []byte("00001234")), 4; got != want {
		t.Errorf("the number stands %d times, want %d: control ID, patient, account, visit", got, want)
	}
	if !bytes.Equal(bytes.ReplaceAll(a, []byte("00001234"), []byte("00001235")), b) {
		t.Error("two messages differ in more than their number")
	}
	if n := testing.AllocsPerRun(100, func() { hospital.Standard(7) }); n > 1 {
		t.Errorf("it takes %v allocations, want 1", n)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := hospital.Config{Start: start, Facility: "STMARY", Patients: 2}
	for _, c := range []struct {
		name   string
		change func(*hospital.Config)
		want   string
	}{
		{"a good one opens", func(*hospital.Config) {}, ""},
		{"no start", func(c *hospital.Config) { c.Start = time.Time{} }, "Start"},
		{"no facility", func(c *hospital.Config) { c.Facility = "" }, "Facility"},
		{"a facility that would break a segment", func(c *hospital.Config) { c.Facility = "ST|MARY" }, "Facility"},
		{"a facility that is too long", func(c *hospital.Config) { c.Facility = strings.Repeat("A", 21) }, "Facility"},
		{"one patient", func(c *hospital.Config) { c.Patients = 1 }, "Patients"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := good
			c.change(&config)
			_, err := hospital.New(config)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// Even the smallest hospital goes on.
func TestTwoPatientsAreEnough(t *testing.T) {
	h, err := hospital.New(hospital.Config{Seed: 1, Start: start, Facility: "HUT", Patients: 2})
	if err != nil {
		t.Fatal(err)
	}
	for range 5000 {
		if m := h.Next(); len(m.Patients) == 0 {
			t.Fatal("a message of nobody")
		}
	}
}

func BenchmarkNext(b *testing.B) {
	h := open(b, 1)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n += len(h.Next().Bytes)
	}
	b.SetBytes(int64(n / b.N))
}

func BenchmarkStandard(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(hospital.StandardSize)
	i := 0
	for b.Loop() {
		hospital.Standard(i)
		i++
	}
}
