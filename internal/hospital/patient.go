package hospital

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A patient is a registration: a person registered twice by mistake is two patients until they are merged.
type patient struct {
	system    *system
	mrn       string
	national  string // "" when the hospital does not know it
	family    string
	given     string
	sex       string
	born      time.Time
	address   string
	phone     string
	language  string
	marital   string
	kin       [2]string // name and relation
	allergy   [3]string // type, substance and severity; "" for none
	insurance [3]string // plan, company and its name

	visit  *visit
	orders int  // waiting for a result
	double bool // half of a pair in Hospital.duplicates
}

// A visit is a stay (class I) or a call (class O, E).
type visit struct {
	account   string
	class     string
	location  string
	doctor    string
	reason    string
	admitted  time.Time
	discharge time.Time // zero while it lasts
	quiet     bool      // nothing has happened since the admission: it may still be cancelled
}

func (h *Hospital) newPatient() *patient {
	r := h.rand
	p := &patient{system: &h.main, mrn: h.newMRN(), language: one(r, languages), marital: one(r, []string{"S", "M", "D", "W"})}
	if h.chance(35) {
		p.system = &h.clinic
	}
	p.sex, p.given = "F", one(r, women)
	if h.chance(50) {
		p.sex, p.given = "M", one(r, men)
	}
	p.family = one(r, latinFamilies)
	if p.system == &h.main && h.chance(15) {
		p.family = one(r, wideFamilies)
	}
	// At least a day old, so that a birth date is never in the future.
	p.born = h.now.AddDate(0, 0, -1-r.IntN(95*365))
	if h.chance(80) {
		p.national = h.newNational()
	}
	p.address, p.phone = h.newAddress(), h.newPhone()
	p.kin = [2]string{comp(text(p.family), one(r, women)), one(r, relations)}
	if h.chance(25) {
		p.allergy = one(r, allergies)
	}
	p.insurance = one(r, insurers)
	return p
}

func (h *Hospital) newMRN() string { return fmt.Sprintf("%08d", 10_000_000+h.next()) }

// newNational walks through 900-01-0001 to 999-49-9999 in an order that looks random and comes back after 48 million.
func (h *Hospital) newNational() string {
	const areas, groups, serials = 100, 49, 9999
	n := h.next() * 7_368_787 % (areas * groups * serials)
	return fmt.Sprintf("%d-%02d-%04d", 900+n%areas, 1+n/areas%groups, 1+n/areas/groups)
}

func (h *Hospital) newAddress() string {
	city, rest, _ := strings.Cut(one(h.rand, towns), "^")
	return fmt.Sprintf("%d %s^^%s^%s^USA^H", 1+h.rand.IntN(250), text(one(h.rand, streets)), city, rest)
}

func (h *Hospital) newPhone() string {
	return fmt.Sprintf("(%d)555-01%02d", 200+h.rand.IntN(700), h.rand.IntN(100))
}

func (h *Hospital) newVisit(class, ward string) *visit {
	return &visit{
		account: fmt.Sprintf("A%08d", h.next()), class: class, location: h.bed(class, ward), doctor: one(h.rand, doctors),
		reason: one(h.rand, reasons), admitted: h.now, quiet: true,
	}
}

func (h *Hospital) bed(class, ward string) string {
	if class != "I" {
		return comp(ward, "", "", h.facility)
	}
	return comp(ward, fmt.Sprint(100+h.rand.IntN(40)), string(rune('A'+h.rand.IntN(4))), h.facility)
}

// identifiers are the numbers under which a message may name the patient.
func (p *patient) identifiers() []string {
	ids := []string{p.mrn}
	if p.national != "" {
		ids = append(ids, p.national)
	}
	if p.visit != nil {
		ids = append(ids, p.visit.account)
	}
	return ids
}

// identifierList is PID-3. Its repetitions have no fixed order: now and then the national one stands first.
func (h *Hospital) identifierList(p *patient) string {
	list := []string{comp(p.mrn, "", "", h.facility, "MR")}
	if p.national != "" {
		list = append(list, comp(p.national, "", "", "NATIONAL", "SS"))
		if h.chance(10) {
			slices.Reverse(list)
		}
	}
	return strings.Join(list, "~")
}

func (p *patient) name() string { return comp(text(p.family), text(p.given)) }

// pid writes PID. An order or result after discharge names the visit that it belongs to, and so may a discharge.
func (h *Hospital) pid(w *wire, p *patient, v *visit) {
	account := ""
	if v != nil {
		account = comp(v.account, "", "", h.facility, "AN")
	}
	w.put("PID", at{1, "1"}, at{3, h.identifierList(p)}, at{5, p.name()}, at{7, p.born.Format("20060102")}, at{8, p.sex},
		at{11, p.address}, at{13, p.phone}, at{15, p.language}, at{16, p.marital}, at{18, account}, at{19, p.national})
}

// pv1 writes PV1; a person without a visit has class N, not applicable.
func (h *Hospital) pv1(w *wire, v *visit, previous string) {
	if v == nil {
		w.put("PV1", at{1, "1"}, at{2, "N"})
		return
	}
	discharged := ""
	if !v.discharge.IsZero() {
		discharged = stamp(v.discharge)
	}
	w.put("PV1", at{1, "1"}, at{2, v.class}, at{3, v.location}, at{6, previous}, at{7, v.doctor}, at{10, "MED"},
		at{19, comp(v.account, "", "", h.facility, "VN")}, at{44, stamp(v.admitted)}, at{45, discharged})
}

// enter and leave move a patient between the lists.
func (h *Hospital) enter(p *patient, v *visit) {
	p.visit = v
	h.out = without(h.out, p)
	h.in = append(h.in, p)
}

func (h *Hospital) leave(p *patient) {
	p.visit = nil
	h.in = without(h.in, p)
	h.out = append(h.out, p)
}

// register makes the patient known. When there are many, one who is not busy is heard of no more, so that a hospital
// that runs for ever does not grow for ever.
func (h *Hospital) register(p *patient) {
	h.out = append(h.out, p)
	if len(h.out)+len(h.in) <= 4*h.known+8 {
		return
	}
	idle := func(q *patient) bool { return q != p && q.orders == 0 && !q.double && !h.isLinked(q) }
	if q := find(h.rand, h.out, idle); q != nil {
		h.out = without(h.out, q)
	}
}

func (h *Hospital) isLinked(p *patient) bool {
	return slices.ContainsFunc(h.linked, func(l [2]*patient) bool { return l[0] == p || l[1] == p })
}

// without takes p out of a list whose order does not matter.
func without(list []*patient, p *patient) []*patient {
	i := slices.Index(list, p)
	if i < 0 {
		return list
	}
	last := len(list) - 1
	list[i], list[last] = list[last], nil
	return list[:last]
}
