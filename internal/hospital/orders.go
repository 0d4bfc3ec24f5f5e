package hospital

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// An order is placed by a ward or clinic and waits for its result.
type order struct {
	patient *patient
	visit   *visit // at which it was placed; nil for a walk-in
	panel   panel
	placer  string // "" when nobody ordered through a system: a walk-in
	filler  string
	doctor  string
	placed  time.Time
	status  string // of the last result: "", P or F
}

// ORM places an order for somebody in the house, as ORM^O01 in 2.3 and as OML^O21 in 2.5.1. When nobody is in, somebody
// is admitted first, and that is the message.
func (h *Hospital) ORM() Message {
	p := find(h.rand, h.in, func(p *patient) bool { return p.orders < 4 })
	if p == nil {
		for {
			if m, ok := h.admit(); ok {
				return m
			}
		}
	}
	s := *p.system
	code, trigger, structure := "OML", "O21", "OML_O21"
	if s.version == "2.3" {
		code, trigger, structure = "ORM", "O01", "ORM_O01"
	}
	w, m := h.begin(s, FeedORM, code, trigger, structure)
	o := h.newOrder(p)
	o.placer = fmt.Sprintf("P%08d", h.next())
	p.visit.quiet = false
	priority := "R"
	if h.chance(20) {
		priority = "S"
	}
	h.pid(w, p, p.visit)
	h.pv1(w, p.visit, "")
	if p.allergy[1] != "" {
		w.put("AL1", at{1, "1"}, at{2, p.allergy[0]}, at{3, p.allergy[1]}, at{4, p.allergy[2]})
	}
	quantity := ""
	if s.version == "2.3" { // TQ1 took over in 2.5
		quantity = comp("1", "", "", "", "", priority)
	}
	w.put("ORC", at{1, "NW"}, at{2, comp(o.placer, s.orders)}, at{5, "SC"}, at{7, quantity}, at{9, stamp(h.now)},
		at{10, one(h.rand, clerks)}, at{12, o.doctor})
	if s.version != "2.3" {
		w.put("TQ1", at{1, "1"}, at{7, stamp(h.now)}, at{9, priority + "^^HL70485"})
	}
	w.put("OBR", at{1, "1"}, at{2, comp(o.placer, s.orders)}, at{4, o.panel.service()}, at{5, before25(s, priority)},
		at{6, before25(s, stamp(h.now))}, at{16, o.doctor}, at{24, o.panel.section}, at{27, quantity}, at{31, p.visit.reason})
	if h.chance(25) {
		w.put("NTE", at{1, "1"}, at{2, "P"}, at{3, "Please call ward " + text(p.visit.location[:strings.IndexByte(p.visit.location, '^')])})
	}
	w.put("DG1", at{1, "1"}, at{3, p.visit.reason}, at{5, stamp(p.visit.admitted)}, at{6, "A"})
	if s.version != "2.3" && o.panel.specimen != "" {
		w.put("SPM", at{1, "1"}, at{4, o.panel.specimen})
	}
	p.orders++
	h.open = append(h.open, o)
	if len(h.open) > 2*h.known+16 { // nobody asks for results: the oldest order is never reported
		h.open[0].patient.orders--
		h.open = h.open[1:]
	}
	return h.finish(s, w, m, p)
}

// before25 is a value that later versions want elsewhere.
func before25(s system, v string) string {
	if s.version == "2.3" {
		return v
	}
	return ""
}

func (h *Hospital) newOrder(p *patient) *order {
	o := &order{patient: p, visit: p.visit, panel: one(h.rand, panels), doctor: one(h.rand, doctors), placed: h.now,
		filler: fmt.Sprintf("L%08d", h.next())}
	if p.visit != nil {
		o.doctor = p.visit.doctor
	}
	return o
}

// ORU reports a result: mostly of the oldest order that waits, or of a walk-in when none does. One in ten is preliminary
// and comes again. One in eight carries its report as a PDF.
func (h *Hospital) ORU() Message {
	var o *order
	if len(h.open) > 0 {
		i := h.rand.IntN(min(5, len(h.open)))
		o = h.open[i]
		if o.status == "" && h.chance(10) {
			o.status = "P"
		} else {
			o.status = "F"
			o.patient.orders--
			h.open = append(h.open[:i], h.open[i+1:]...)
		}
	} else {
		o = h.walkIn()
		o.status = "F"
	}
	return h.report(o)
}

// walkIn is an examination without an order in the system, of somebody from outside.
func (h *Hospital) walkIn() *order {
	p := find(h.rand, h.out, func(p *patient) bool { return !p.double })
	if p == nil {
		p = find(h.rand, h.in, func(*patient) bool { return true })
	}
	if p == nil {
		p = h.newPatient()
		h.register(p)
	}
	return h.newOrder(p)
}

func (h *Hospital) report(o *order) Message {
	p, s := o.patient, *o.patient.system
	w, m := h.begin(s, FeedORU, "ORU", "R01", "ORU_R01")
	// Taken and received between the order and now.
	taken := o.placed.Add(h.now.Sub(o.placed) / 3).Truncate(time.Second)
	received := o.placed.Add(h.now.Sub(o.placed) * 2 / 3).Truncate(time.Second)
	placer := ""
	if o.placer != "" {
		placer = comp(o.placer, s.orders)
	}
	filler := comp(o.filler, s.laboratory)
	quantity := before25(s, comp("1", "", "", "", "", "R"))
	specimen := ""
	if s.version == "2.3" && o.panel.specimen != "" {
		specimen, _, _ = strings.Cut(o.panel.specimen, "^") // the old form holds codes of another table: ours alone
	}

	h.pid(w, p, o.visit)
	if o.visit != nil {
		h.pv1(w, o.visit, "")
	}
	w.put("ORC", at{1, "RE"}, at{2, placer}, at{3, filler}, at{5, "CM"}, at{7, quantity}, at{9, stamp(h.now)}, at{12, o.doctor})
	w.put("OBR", at{1, "1"}, at{2, placer}, at{3, filler}, at{4, o.panel.service()}, at{7, stamp(taken)}, at{14, stamp(received)},
		at{15, specimen}, at{16, o.doctor}, at{22, stamp(h.now)}, at{24, o.panel.section}, at{25, o.status}, at{27, quantity})

	var lines []string // of the report
	set := 0
	for _, a := range o.panel.analytes {
		set++
		value, flag := h.measure(a)
		limits := decimal(a.low, a.decimals) + "-" + decimal(a.high, a.decimals)
		w.put("OBX", at{1, strconv.Itoa(set)}, at{2, "NM"}, at{3, comp(a.code, a.name, "L")}, at{5, value}, at{6, a.unit},
			at{7, limits}, at{8, flag}, at{11, o.status}, at{14, stamp(taken)})
		lines = append(lines, fmt.Sprintf("%-24s %10s %-8s %s %s", a.name, value, a.unit, limits, flag))
		if h.chance(12) {
			w.put("NTE", at{1, "1"}, at{2, "L"}, at{3, text(one(h.rand, notes))})
		}
	}
	if len(o.panel.findings) > 0 {
		set++
		i := h.rand.IntN(len(o.panel.findings) - 1)
		found := o.panel.findings[i : i+2]
		w.put("OBX", at{1, strconv.Itoa(set)}, at{2, "FT"}, at{3, o.panel.service()}, at{5, text(found[0]) + `\.br\` + text(found[1])},
			at{11, o.status}, at{14, stamp(taken)})
		lines = append(lines, found...)
	}
	if o.status == "F" && h.chance(12) {
		set++
		pdf := PDF(o.panel.name, append([]string{
			"Hospital " + h.facility + " (simulated)", "Patient " + p.mrn + "  " + p.family + ", " + p.given,
			"Order " + o.filler + "  reported " + h.now.Format("2006-01-02 15:04"), "",
		}, lines...))
		w.put("OBX", at{1, strconv.Itoa(set)}, at{2, "ED"}, at{3, "REPORT^Report^L"},
			at{5, comp(s.laboratory, "application", "pdf", "Base64", base64.StdEncoding.EncodeToString(pdf))}, at{11, o.status})
	}
	if s.version != "2.3" && o.panel.specimen != "" {
		w.put("SPM", at{1, "1"}, at{4, o.panel.specimen}, at{17, stamp(taken)}, at{18, stamp(received)})
	}
	m = h.finish(s, w, m, p)
	if v := o.visit; v != nil && p.visit != v {
		m.Patients = append(m.Patients, v.account) // reported after the visit ended
	}
	return m
}

// measure draws a value, one in seven of them outside its range, and says so.
func (h *Hospital) measure(a analyte) (value, flag string) {
	width := a.high - a.low
	v := a.low + width*(0.5+h.rand.NormFloat64()*0.32)
	v = math.Max(v, a.low/4)
	value = decimal(v, a.decimals)
	v, _ = strconv.ParseFloat(value, 64) // flagged as printed
	switch {
	case v < a.low-width/2:
		flag = "LL"
	case v < a.low:
		flag = "L"
	case v > a.high+width/2:
		flag = "HH"
	case v > a.high:
		flag = "H"
	}
	return value, flag
}

func decimal(v float64, decimals int) string { return strconv.FormatFloat(v, 'f', decimals, 64) }
