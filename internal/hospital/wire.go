package hospital

import (
	"fmt"
	"strings"
	"time"
)

// at is a field by its number.
type at struct {
	n int
	v string
}

// A wire collects segments. Texts stay UTF-8 until finish.
type wire struct{ out []byte }

// put writes a segment with the fields that are not empty. Fields come by rising number. MSH begins at 3.
func (w *wire) put(segment string, fields ...at) {
	w.out = append(w.out, segment...)
	written := 0
	if segment == "MSH" {
		w.out = append(w.out, `|^~\&`...)
		written = 2
	}
	for _, f := range fields {
		if f.v == "" {
			continue
		}
		for ; written < f.n; written++ {
			w.out = append(w.out, '|')
		}
		w.out = append(w.out, f.v...)
	}
	w.out = append(w.out, '\r')
}

// comp joins components, without the empty ones at the end.
func comp(parts ...string) string { return strings.TrimRight(strings.Join(parts, "^"), "^") }

// text escapes what would be read as a separator.
func text(s string) string {
	if !strings.ContainsAny(s, `|^~\&`) {
		return s
	}
	return escapes.Replace(s)
}

func stamp(t time.Time) string { return t.Format("20060102150405") }

// begin writes the MSH and, for ADT, the EVN, at a new moment of the clock.
func (h *Hospital) begin(s system, feed, code, trigger, structure string) (*wire, Message) {
	h.tick()
	h.messages++
	m := Message{Type: code, Event: trigger, Feed: feed, Version: s.version, Charset: s.charset, Time: h.now,
		ControlID: fmt.Sprintf("%s%010d", h.prefix, h.messages)}
	app := map[string]string{FeedADT: s.admission, FeedORM: s.orders, FeedORU: s.laboratory}[feed]
	kind := comp(code, trigger)
	if s.version != "2.3" { // MSH-9.3 came with 2.3.1
		kind = comp(code, trigger, structure)
	}
	w := &wire{out: make([]byte, 0, 2048)}
	w.put("MSH", at{3, app}, at{4, h.facility}, at{5, "LAZARET"}, at{6, h.facility}, at{7, stamp(h.now)}, at{9, kind},
		at{10, m.ControlID}, at{11, "P"}, at{12, s.version}, at{15, "AL"}, at{16, "NE"}, at{18, s.charset})
	if feed == FeedADT {
		w.put("EVN", at{1, trigger}, at{2, stamp(h.now)}, at{5, one(h.rand, clerks)}, at{6, stamp(h.now)})
	}
	return w, m
}

// finish encodes the message in its character set and names the patients that it touches.
func (h *Hospital) finish(s system, w *wire, m Message, touched ...*patient) Message {
	m.Bytes = w.out
	if s.latin1 {
		m.Bytes = latin1(w.out)
	}
	for _, p := range touched {
		m.Patients = append(m.Patients, p.identifiers()...)
	}
	return m
}

// latin1 turns UTF-8 into ISO 8859-1. The lists of names for its systems hold nothing else.
func latin1(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for _, r := range string(b) {
		if r > 0xff {
			r = '?'
		}
		out = append(out, byte(r))
	}
	return out
}
