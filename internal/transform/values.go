package transform

import (
	"bytes"
	"cmp"
	"math"
	"strconv"
	"time"
)

// A stamp is an HL7 timestamp (TS, DTM, DT: YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ], 2.A.22). It is as precise as it
// was written; 0 stands for "no date": absent, empty, null or not a timestamp.
type stamp struct {
	precise precision
	parts   [7]int // year, month, day, hour, minute, second, ten-thousandths
	zoned   bool
	zone    int // minutes east of UTC
}

type precision int

const (
	noDate precision = iota
	toYear
	toMonth
	toDay
	toHour
	toMinute
	toSecond
	toFraction
)

// parseStamp reads a timestamp; spaces around it do not matter, anything else in it does.
func parseStamp(b []byte) stamp {
	b = bytes.TrimSpace(b)
	var s stamp
	if i := bytes.IndexAny(b, "+-"); i >= 0 {
		zone := b[i+1:]
		hours, ok1 := digits(zone, 0, 2)
		minutes, ok2 := digits(zone, 2, 4)
		if len(zone) != 4 || !ok1 || !ok2 || hours > 23 || minutes > 59 {
			return stamp{}
		}
		s.zoned, s.zone = true, hours*60+minutes
		if b[i] == '-' {
			s.zone = -s.zone
		}
		b = b[:i]
	}
	if i := bytes.IndexByte(b, '.'); i >= 0 {
		fraction := b[i+1:]
		n, ok := digits(fraction, 0, len(fraction))
		if !ok || i != 14 || len(fraction) < 1 || len(fraction) > 4 {
			return stamp{}
		}
		for range 4 - len(fraction) {
			n *= 10
		}
		s.parts[6], s.precise = n, toFraction
		b = b[:i]
	}
	at := 0
	for i, width := range [6]int{4, 2, 2, 2, 2, 2} {
		if at == len(b) {
			break
		}
		n, ok := digits(b, at, at+width)
		if !ok {
			return stamp{}
		}
		s.parts[i] = n
		s.precise = max(s.precise, precision(i+1))
		at += width
	}
	if at != len(b) || s.precise == noDate || !s.valid() {
		return stamp{}
	}
	return s
}

// valid says whether the day is in the calendar and the time on the clock.
func (s stamp) valid() bool {
	if s.precise >= toMonth && (s.parts[1] < 1 || s.parts[1] > 12) {
		return false
	}
	if s.precise >= toDay {
		day := time.Date(s.parts[0], time.Month(s.parts[1]), s.parts[2], 0, 0, 0, 0, time.UTC)
		if s.parts[2] < 1 || day.Day() != s.parts[2] {
			return false
		}
	}
	return s.parts[3] < 24 && s.parts[4] < 60 && s.parts[5] < 60
}

// digits reads b[from:to], which must be digits only.
func digits(b []byte, from, to int) (int, bool) {
	if to > len(b) || from >= to {
		return 0, false
	}
	n := 0
	for _, c := range b[from:to] {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// time is the moment, by UTC where a zone was written, by the clock on the wall otherwise.
func (s stamp) time() time.Time {
	month, day := max(s.parts[1], 1), max(s.parts[2], 1)
	t := time.Date(s.parts[0], time.Month(month), day, s.parts[3], s.parts[4], s.parts[5], s.parts[6]*100_000, time.UTC)
	return t.Add(-time.Duration(s.zone) * time.Minute)
}

// compareStamps orders two timestamps as far as both are precise: 1980 and 19800615 are equal. Zones count where both
// have one and the minute; elsewhere both are taken as local. ok is false where either is no date.
func compareStamps(a, b stamp) (order int, ok bool) {
	if a.precise == noDate || b.precise == noDate {
		return 0, false
	}
	if a.zoned && b.zoned && a.zone != b.zone && a.precise >= toMinute && b.precise >= toMinute {
		a, b = a.utc(), b.utc()
	}
	for i := range int(min(a.precise, b.precise)) {
		if order := cmp.Compare(a.parts[i], b.parts[i]); order != 0 {
			return order, true
		}
	}
	return 0, true
}

func (s stamp) utc() stamp {
	t := s.time()
	s.parts = [7]int{t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second(), s.parts[6]}
	s.zone = 0
	return s
}

// noNumber is what text that is no number, and arithmetic on it, comes to. It equals nothing.
var noNumber = math.NaN()

// part returns year, month, day, ... or noNumber where it was not written.
func (s stamp) part(p precision) float64 {
	if s.precise < p {
		return noNumber
	}
	return float64(s.parts[p-1])
}

// weekday counts from Monday, 1, to Sunday, 7 (ISO 8601).
func (s stamp) weekday() float64 {
	if s.precise < toDay {
		return noNumber
	}
	day := time.Date(s.parts[0], time.Month(s.parts[1]), s.parts[2], 0, 0, 0, 0, time.UTC).Weekday()
	return float64((int(day)+6)%7 + 1)
}

// daysBetween counts calendar days from a to b; both must have a day.
func daysBetween(a, b stamp) float64 {
	if a.precise < toDay || b.precise < toDay {
		return noNumber
	}
	const day = 24 * time.Hour
	at := func(s stamp) time.Time {
		return time.Date(s.parts[0], time.Month(s.parts[1]), s.parts[2], 0, 0, 0, 0, time.UTC)
	}
	// Not Sub: a Duration ends at 292 years, and HL7 years go from 0000 to 9999.
	return float64(at(b).Unix()/int64(day/time.Second)) - float64(at(a).Unix()/int64(day/time.Second))
}

// yearsBetween counts whole years from a to b, as an age is counted; both must have a day.
func yearsBetween(a, b stamp) float64 {
	if a.precise < toDay || b.precise < toDay {
		return noNumber
	}
	years := b.parts[0] - a.parts[0]
	if cmp.Or(cmp.Compare(b.parts[1], a.parts[1]), cmp.Compare(b.parts[2], a.parts[2])) < 0 {
		years--
	}
	return float64(years)
}

// parseNumber reads an HL7 number (NM, 2.A.47): a sign, digits, a point, digits; spaces around it do not matter. Not for
// it: exponents, hexadecimal, "inf", which strconv would take.
func parseNumber(b []byte) (float64, bool) {
	b = bytes.TrimSpace(b)
	digits := b
	if len(digits) > 0 && (digits[0] == '+' || digits[0] == '-') {
		digits = digits[1:]
	}
	seen, points := 0, 0
	for _, c := range digits {
		switch {
		case isDigit(c):
			seen++
		case c == '.':
			points++
		default:
			return noNumber, false
		}
	}
	if seen == 0 || points > 1 || len(b) > 64 {
		return noNumber, false
	}
	n, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return noNumber, false
	}
	return n, true
}
