package main

import (
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/retention"
)

// The plan as a person sees it: invented months, one in each state.
func TestThePlanIsDrawn(t *testing.T) {
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	plan := retention.Plan{Holds: 1, Due: true, Audit: []string{"2020-01"},
		Policy: retention.Policy{Content: retention.Span{Days: 90}, Rejected: retention.Span{Days: 30}, Metadata: retention.Span{Years: 6}},
		Months: []retention.Month{
			{Period: "2026-04", State: retention.Disposed, Messages: 500, Disposed: day("2026-08-30"), Due: day("2032-05-01")},
			{Period: "2026-05", State: retention.Partly, Messages: 1000, Content: 1000, Now: 900, Due: day("2026-08-30"), Why: []string{"100 under hold\x1b[2J"}},
			{Period: "2026-06", State: retention.Goes, Messages: 1000, Content: 1000, Now: 1000, Due: day("2026-09-29")},
			{Period: "2026-07", State: retention.Kept, Messages: 1000, Content: 1000, Estimated: true, Due: day("2026-10-29")},
			{Period: "2026-08", State: retention.Kept, Messages: 1, Content: 1, Estimated: true},
		}}
	const want = `content 90d, refused 30d, metadata 6y, audit details keep; 1 hold

month    content               messages  state     goes   until
2026-04  ··········            500       disposed         content gone 2026-08-30, metadata until 2032-05-01
2026-05  ██▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  1,000     partly    900    2026-08-30
         100 under hold\x1b[2J
2026-06  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  1,000     goes      1,000  2026-09-29
2026-07  ████████████████████  ~1,000    kept             2026-10-29
2026-08  █                     ~1        kept             for good
audit details of 2020-01 go now

what goes now goes with the next daily run, or with "lazaret retention run --yes"
`
	if got := drawPlan(plan); got != want {
		t.Errorf("the plan is drawn as\n%s\nwant\n%s", got, want)
	}
}
