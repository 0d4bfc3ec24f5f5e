package transform

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTimestampsAreReadAsTheStandardHasThem(t *testing.T) {
	for _, c := range []struct {
		text    string
		precise precision
	}{
		{"1980", toYear}, {"198006", toMonth}, {"19800615", toDay}, {"1980061512", toHour}, {"198006151230", toMinute},
		{"19800615123059", toSecond}, {"19800615123059.1", toFraction}, {"19800615123059.1234+0100", toFraction},
		{"1980-0500", toYear}, {" 19800615 ", toDay}, {"20000229", toDay},
		{"", noDate}, {"19", noDate}, {"198", noDate}, {"19801", noDate}, {"19801301", noDate}, {"19800001", noDate},
		{"19800230", noDate}, {"19000229", noDate}, {"1980061524", noDate}, {"198006151260", noDate}, {"1980-06-15", noDate},
		{"19800615123059.12345", noDate}, {"198006151230.5", noDate}, {"19800615+01", noDate}, {"19800615+2500", noDate},
		{"19800615123059.", noDate}, {"+0100", noDate}, {".5", noDate}, {"abcd", noDate}, {"19800615x", noDate},
	} {
		if got := parseStamp([]byte(c.text)); got.precise != c.precise {
			t.Errorf("%q goes to %d, want %d", c.text, got.precise, c.precise)
		}
	}
}

// Whole timestamps are ordered as package time orders them, with and without zones.
func TestTimestampsAreOrderedAsTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) (stamp, time.Time) {
			at := time.Unix(rapid.Int64Range(-2e9, 4e9).Draw(t, label), 0).UTC()
			zone := rapid.IntRange(-14*60, 14*60).Draw(t, label+" zone")
			local := at.In(time.FixedZone("", zone*60))
			s := parseStamp([]byte(local.Format("20060102150405-0700")))
			return s, at
		}
		a, ta := draw("a")
		b, tb := draw("b")
		order, ok := compareStamps(a, b)
		if !ok || order != ta.Compare(tb) {
			t.Fatalf("%v and %v: %d, %v; times say %d", a, b, order, ok, ta.Compare(tb))
		}
		if back, _ := compareStamps(b, a); back != -order {
			t.Fatalf("turned around, %d becomes %d", order, back)
		}
	})
}

func TestSpansAreCountedAsTheCalendarDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
		a := start.AddDate(0, 0, rapid.IntRange(0, 60000).Draw(t, "a"))
		n := rapid.IntRange(0, 40000).Draw(t, "days")
		b := a.AddDate(0, 0, n)
		sa, sb := parseStamp([]byte(a.Format("20060102"))), parseStamp([]byte(b.Format("20060102")))
		if got := daysBetween(sa, sb); got != float64(n) {
			t.Fatalf("days: %v, want %d", got, n)
		}
		if got := daysBetween(sb, sa); got != float64(-n) {
			t.Fatalf("days back: %v, want %d", got, -n)
		}
		years := int(yearsBetween(sa, sb))
		// The age is right when that many birthdays have been, and the next has not.
		birthday := func(k int) string { return strconv.Itoa(a.Year()+k) + a.Format("0102") }
		today := b.Format("20060102")
		if birthday(years) > today || birthday(years+1) <= today {
			t.Fatalf("born %s, on %s: %d years", a.Format("20060102"), today, years)
		}
	})
}

func TestNumbersAreReadAsTheStandardHasThem(t *testing.T) {
	for text, want := range map[string]float64{"1": 1, "-1.50": -1.5, "+2": 2, ".5": .5, "5.": 5, " 7 ": 7, "007": 7} {
		if got, ok := parseNumber([]byte(text)); !ok || got != want {
			t.Errorf("%q is %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", " ", "-", ".", "1.2.3", "1e5", "0x10", "inf", "NaN", "1_000", "1,5", "--1", "1-", "١", strings.Repeat("1", 65)} {
		if got, ok := parseNumber([]byte(text)); ok || got == got {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// Conditions of true and false, written with as few brackets as the document's order of operators allows, with any
// spelling and blanks, come out as a plain evaluation says.
func TestPrecedence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src, want, _ := drawCondition(t, 5)
		x, err := CompileExpr(src)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		e := x.envs.Get().(*env)
		if got := x.test(e); got != want {
			t.Fatalf("%s is %v, want %v", src, got, want)
		}
		y, err := CompileExpr(x.String())
		if err != nil || y.String() != x.String() || y.test(e) != want {
			t.Fatalf("%s, as %s, is another", src, x)
		}
	})
}

// drawCondition makes a condition, what it is, and how tightly it binds: 1 or, 2 and, 3 not, 4 ==, 5 a value.
func drawCondition(t *rapid.T, depth int) (src string, holds bool, tight int) {
	within := func(at int) (string, bool) {
		s, b, tight := drawCondition(t, depth-1)
		if tight < at || rapid.IntRange(0, 4).Draw(t, "brackets") == 0 {
			s = "(" + s + ")"
		}
		return s, b
	}
	kind := 0
	if depth > 0 {
		kind = rapid.IntRange(0, 4).Draw(t, "kind")
	}
	switch kind {
	case 1:
		a, x := within(1)
		b, y := within(2)
		return a + rapid.SampledFrom([]string{" or ", "||", "\n|| "}).Draw(t, "or") + b, x || y, 1
	case 2:
		a, x := within(2)
		b, y := within(3)
		return a + rapid.SampledFrom([]string{" and ", "&&", " &&\t"}).Draw(t, "and") + b, x && y, 2
	case 3:
		a, x := within(3)
		return rapid.SampledFrom([]string{"not ", "!", "! "}).Draw(t, "not") + a, !x, 3
	case 4:
		a, x := within(5)
		b, y := within(5)
		if rapid.Bool().Draw(t, "equal") {
			return a + " == " + b, x == y, 4
		}
		return a + "!=" + b, x != y, 4
	}
	holds = rapid.Bool().Draw(t, "value")
	return strconv.FormatBool(holds), holds, 5
}
