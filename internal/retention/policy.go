package retention

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/internal/seal"
)

// A Span is how long something is kept: years and days of the calendar, counted from the end of the month that it came in. The
// zero value keeps it for good.
type Span struct{ Years, Days int }

// Keeps says whether it is for good.
func (s Span) Keeps() bool { return s == Span{} }

// Until is when a span that began at a moment is over; the zero time for one that never is.
func (s Span) Until(from time.Time) time.Time {
	if s.Keeps() {
		return time.Time{}
	}
	return from.AddDate(s.Years, 0, s.Days)
}

// String is the form of the configuration: keep, 90d, 6y.
func (s Span) String() string {
	switch {
	case s.Keeps():
		return "keep"
	case s.Days == 0:
		return fmt.Sprintf("%dy", s.Years)
	case s.Years == 0:
		return fmt.Sprintf("%dd", s.Days)
	}
	return fmt.Sprintf("%dy%dd", s.Years, s.Days)
}

// MarshalText is String.
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Span) UnmarshalText(b []byte) error {
	*s = Span{}
	text := string(b)
	if text == "keep" {
		return nil
	}
	if years, rest, ok := strings.Cut(text, "y"); ok {
		if _, err := fmt.Sscanf(years, "%d", &s.Years); err != nil {
			return errors.New("a span is keep, 90d or 6y")
		}
		text = rest
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if _, err := fmt.Sscanf(days, "%d", &s.Days); err != nil {
			return errors.New("a span is keep, 90d or 6y")
		}
	}
	return nil
}

// longer says whether a keeps longer than b. 2023-03-01 is followed by as many leap days as any day is.
func longer(a, b Span) bool {
	if a.Keeps() || b.Keeps() {
		return a.Keeps() && !b.Keeps()
	}
	from := time.Date(2023, 3, 1, 0, 0, 0, 0, time.UTC)
	return a.Until(from).After(b.Until(from))
}

// A Policy is one organisation's. Its zero value keeps everything.
type Policy struct {
	Content      Span      `json:"content"`       // what messages say, in every form
	Rejected     Span      `json:"rejected"`      // the same of those that were refused
	Metadata     Span      `json:"metadata"`      // that there was a message, and its way
	AuditDetails Span      `json:"audit_details"` // what of the audit log is PHI; entries stay for good
	Channels     []Channel `json:"channels,omitempty"`
}

// A Channel has times of its own. One that is not listed has the organisation's.
type Channel struct {
	Name     string        `json:"name"`
	Content  Span          `json:"content"`
	Rejected Span          `json:"rejected"`
	AtLeast  time.Duration `json:"at_least"` // its duplicate window: so long it compares new messages with old content
}

func (p *Policy) check() error {
	// The least for what documents an act: 45 CFR 164.316(b)(2)(i); 164.528(a)(3) wants as much of disclosures.
	if longer(Span{Years: 6}, p.AuditDetails) {
		return errors.New("audit details are kept for at least 6 years (45 CFR 164.316(b)(2)(i), 164.528)")
	}
	spans := map[string]Span{"content": p.Content, "rejected": p.Rejected}
	for _, c := range p.Channels {
		spans["content of channel "+c.Name], spans["rejected of channel "+c.Name] = c.Content, c.Rejected
	}
	for what, s := range spans {
		if longer(s, p.Metadata) {
			return fmt.Errorf("%s is kept for longer than metadata, without which nobody finds it", what)
		}
	}
	for what, s := range spans {
		if s.Years < 0 || s.Days < 0 {
			return fmt.Errorf("%s is kept for less than nothing", what)
		}
	}
	return nil
}

// of is the time of a channel's content.
func (p *Policy) of(channel string, rejected bool) Span {
	for _, c := range p.Channels {
		if c.Name == channel {
			if rejected {
				return c.Rejected
			}
			return c.Content
		}
	}
	if rejected {
		return p.Rejected
	}
	return p.Content
}

// due is when a month's content of a channel may go; the zero time: never.
func (p *Policy) due(m seal.Period, channel string, rejected bool) time.Time {
	end := (m + 1).Start()
	due := p.of(channel, rejected).Until(end)
	if due.IsZero() {
		return due
	}
	for _, c := range p.Channels {
		if least := end.Add(c.AtLeast); c.Name == channel && due.Before(least) {
			due = least
		}
	}
	return due
}

// shortest and longest are the bounds of what any channel's content has.
func (p *Policy) shortest() Span {
	s := p.Content
	for _, other := range p.contents() {
		if longer(s, other) {
			s = other
		}
	}
	return s
}

func (p *Policy) longest() Span {
	s := p.Content
	for _, other := range p.contents() {
		if longer(other, s) {
			s = other
		}
	}
	return s
}

func (p *Policy) contents() []Span {
	list := []Span{p.Rejected}
	for _, c := range p.Channels {
		list = append(list, c.Content, c.Rejected)
	}
	return list
}

// summary is the policy as the record keeps it: whole where it is short, else without the channels', and a digest of all.
func (p *Policy) summary() string {
	const most = 1000 // a detail of the audit log is cut at 1 KiB
	text := p.text()
	if len(text) <= most {
		return text
	}
	short := *p
	short.Channels = nil
	return fmt.Sprintf("%s and times of %d channels; SHA-256 of the whole: %s", short.text(), len(p.Channels), p.digest())
}

// text is the policy as JSON.
func (p *Policy) text() string {
	b, _ := json.Marshal(p) // plain fields: it cannot fail
	return string(b)
}
