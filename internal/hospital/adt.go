package hospital

// ADT lets something happen to a patient that an admission system reports.
func (h *Hospital) ADT() Message {
	// A house that is full sends people home; an empty one takes them in.
	admit, discharge := 40, 10
	if len(h.in) > 1+h.known/4 {
		admit, discharge = 14, 34
	}
	for {
		n := h.rand.IntN(100)
		var m Message
		var ok bool
		switch {
		case n < admit:
			m, ok = h.admit()
		case n < admit+discharge:
			m, ok = h.discharge()
		case n < admit+discharge+14:
			m, ok = h.transfer()
		case n < admit+discharge+28:
			m, ok = h.updateVisit()
		case n < admit+discharge+34:
			m, ok = h.updatePerson()
		case n < admit+discharge+40:
			m, ok = h.addPerson(), true
		case n < admit+discharge+43:
			m, ok = h.cancel()
		case n < admit+discharge+47:
			m, ok = h.merge()
		case n < admit+discharge+49:
			m, ok = h.link()
		default:
			m, ok = h.changeIdentifier()
		}
		if ok {
			return m
		}
	}
}

// admit is A01 for a bed and A04 for a call, of somebody known or of somebody new.
func (h *Hospital) admit() (Message, bool) {
	var p *patient
	if len(h.out) > 0 && !h.chance(20) {
		p = find(h.rand, h.out, func(p *patient) bool { return !p.double })
	}
	if p == nil {
		p = h.newPatient()
		h.register(p)
	}
	event, class, where := "A01", "I", one(h.rand, wards)
	if h.chance(45) {
		event, class, where = "A04", one(h.rand, []string{"O", "E"}), one(h.rand, clinics)
	}
	w, m := h.begin(*p.system, FeedADT, "ADT", event, "ADT_A01")
	h.enter(p, h.newVisit(class, where))
	h.pid(w, p, p.visit)
	h.kin(w, p)
	h.pv1(w, p.visit, "")
	h.clinical(w, p)
	return h.finish(*p.system, w, m, p), true
}

// discharge is A03.
func (h *Hospital) discharge() (Message, bool) {
	if len(h.in) == 0 {
		return Message{}, false
	}
	p := one(h.rand, h.in)
	w, m := h.begin(*p.system, FeedADT, "ADT", "A03", "ADT_A03")
	p.visit.discharge = h.now
	h.pid(w, p, p.visit)
	h.pv1(w, p.visit, "")
	w.put("DG1", at{1, "1"}, at{3, p.visit.reason}, at{5, stamp(h.now)}, at{6, "F"})
	m = h.finish(*p.system, w, m, p)
	h.leave(p)
	return m, true
}

// transfer is A02, of somebody in a bed.
func (h *Hospital) transfer() (Message, bool) {
	p := find(h.rand, h.in, func(p *patient) bool { return p.visit.class == "I" })
	if p == nil {
		return Message{}, false
	}
	w, m := h.begin(*p.system, FeedADT, "ADT", "A02", "ADT_A02")
	before := p.visit.location
	for p.visit.location == before {
		p.visit.location = h.bed("I", one(h.rand, wards))
	}
	p.visit.quiet = false
	h.pid(w, p, p.visit)
	h.pv1(w, p.visit, before)
	return h.finish(*p.system, w, m, p), true
}

// updateVisit is A08, of somebody in the house.
func (h *Hospital) updateVisit() (Message, bool) {
	if len(h.in) == 0 {
		return Message{}, false
	}
	p := one(h.rand, h.in)
	w, m := h.begin(*p.system, FeedADT, "ADT", "A08", "ADT_A01")
	h.change(p)
	if h.chance(30) {
		p.visit.doctor = one(h.rand, doctors)
	}
	p.visit.quiet = false
	h.pid(w, p, p.visit)
	h.kin(w, p)
	h.pv1(w, p.visit, "")
	h.clinical(w, p)
	return h.finish(*p.system, w, m, p), true
}

// updatePerson is A31, of somebody who is not in the house.
func (h *Hospital) updatePerson() (Message, bool) {
	if len(h.out) == 0 {
		return Message{}, false
	}
	p := one(h.rand, h.out)
	h.change(p)
	return h.person(p, "A31"), true
}

// addPerson is A28. One in three is somebody whom the desk has not found although he is known: a duplicate, until a merge.
func (h *Hospital) addPerson() Message {
	p := h.newPatient()
	if len(h.duplicates) < 20 && h.chance(33) {
		known := find(h.rand, h.out, func(p *patient) bool { return !p.double && p.orders == 0 && !h.isLinked(p) })
		if known != nil {
			mrn := p.mrn
			*p = *known
			p.mrn, p.national = mrn, "" // the desk did not ask for it
			p.phone = h.newPhone()
			p.double, known.double = true, true
			h.duplicates = append(h.duplicates, [2]*patient{known, p})
		}
	}
	h.register(p)
	return h.person(p, "A28")
}

// person writes A28 or A31. In 2.3 they have the structure of A01.
func (h *Hospital) person(p *patient, event string) Message {
	w, m := h.begin(*p.system, FeedADT, "ADT", event, "ADT_A05")
	h.pid(w, p, nil)
	h.kin(w, p)
	h.pv1(w, nil, "")
	h.clinical(w, p)
	return h.finish(*p.system, w, m, p)
}

// cancel is A11, of an admission after which nothing else has happened.
func (h *Hospital) cancel() (Message, bool) {
	p := find(h.rand, h.in, func(p *patient) bool { return p.visit.quiet })
	if p == nil {
		return Message{}, false
	}
	w, m := h.begin(*p.system, FeedADT, "ADT", "A11", "ADT_A09")
	h.pid(w, p, p.visit)
	h.pv1(w, p.visit, "")
	m = h.finish(*p.system, w, m, p)
	h.leave(p)
	return m, true
}

// merge is A40, or from the older system as often A18 or A34, its forms before 2.3.1: PID is who stays, MRG who goes.
func (h *Hospital) merge() (Message, bool) {
	if len(h.duplicates) == 0 {
		return Message{}, false
	}
	stays, goes := h.duplicates[0][0], h.duplicates[0][1]
	h.duplicates = h.duplicates[1:]
	stays.double = false
	event := "A40"
	if stays.system == &h.clinic {
		event = one(h.rand, []string{"A40", "A18", "A34"})
	}
	w, m := h.begin(*stays.system, FeedADT, "ADT", event, "ADT_A39")
	h.pid(w, stays, nil)
	w.put("MRG", at{1, h.identifierList(goes)}, at{7, goes.name()})
	if event == "A18" {
		h.pv1(w, nil, "")
	}
	m = h.finish(*stays.system, w, m, stays, goes)
	h.out = without(h.out, goes)
	return m, true
}

// link is A24 between two registrations that may be kin, and later A37 between the same two, where the version has it.
func (h *Hospital) link() (Message, bool) {
	event, structure := "A24", "ADT_A24"
	var a, b *patient
	if len(h.linked) > 0 && h.chance(50) {
		event, structure = "A37", "ADT_A37"
		a, b = h.linked[0][0], h.linked[0][1]
		h.linked = h.linked[1:]
	} else {
		free := func(p *patient) bool { return p.system == &h.main && !p.double && !h.isLinked(p) }
		a = find(h.rand, h.out, free)
		b = find(h.rand, h.out, func(p *patient) bool { return p != a && free(p) })
		if a == nil || b == nil || len(h.linked) >= 20 {
			return Message{}, false
		}
		h.linked = append(h.linked, [2]*patient{a, b})
	}
	w, m := h.begin(*a.system, FeedADT, "ADT", event, structure)
	h.pid(w, a, a.visit)
	h.pid(w, b, b.visit)
	return h.finish(*a.system, w, m, a, b), true
}

// changeIdentifier is A47: a national identifier was wrong. MRG has the old list.
func (h *Hospital) changeIdentifier() (Message, bool) {
	p := find(h.rand, h.out, func(p *patient) bool { return p.national != "" && !p.double })
	if p == nil {
		return Message{}, false
	}
	w, m := h.begin(*p.system, FeedADT, "ADT", "A47", "ADT_A30")
	was := p.national
	p.national = h.newNational()
	h.pid(w, p, nil)
	w.put("MRG", at{1, comp(p.mrn, "", "", h.facility, "MR") + "~" + comp(was, "", "", "NATIONAL", "SS")})
	m = h.finish(*p.system, w, m, p)
	m.Patients = append(m.Patients, was)
	return m, true
}

// change lets a person move, marry, or tell a number that was not known.
func (h *Hospital) change(p *patient) {
	switch h.rand.IntN(4) {
	case 0:
		p.address = h.newAddress()
	case 1:
		p.phone = h.newPhone()
	case 2:
		p.marital = one(h.rand, []string{"S", "M", "D", "W"})
	default:
		if p.national == "" && !p.double {
			p.national = h.newNational()
		}
		p.language = one(h.rand, languages)
	}
}

func (h *Hospital) kin(w *wire, p *patient) {
	w.put("NK1", at{1, "1"}, at{2, p.kin[0]}, at{3, p.kin[1]}, at{5, p.phone})
}

// clinical writes what follows the visit in ADT_A01 and its like: allergies, reason, insurance.
func (h *Hospital) clinical(w *wire, p *patient) {
	if p.allergy[1] != "" {
		w.put("AL1", at{1, "1"}, at{2, p.allergy[0]}, at{3, p.allergy[1]}, at{4, p.allergy[2]})
	}
	if p.visit != nil {
		w.put("DG1", at{1, "1"}, at{3, p.visit.reason}, at{5, stamp(p.visit.admitted)}, at{6, "A"})
	}
	w.put("IN1", at{1, "1"}, at{2, p.insurance[0]}, at{3, p.insurance[1]}, at{4, p.insurance[2]})
}
