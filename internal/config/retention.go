package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Retention says how long what is kept. What is not given is kept for good.
type Retention struct {
	Content      Keep  `key:"content" doc:"Message content, in every form: keep, or so many days (90d) or years (6y), counted from the end of the month (UTC) in which a message came. Then the month's keys are destroyed and the rows deleted. Its length is the organisation's to decide; the law asks for a least of other records, not of an engine's copies."`
	Rejected     *Keep `key:"rejected" doc:"Content of messages that were refused. Not given: as content."`
	Metadata     Keep  `key:"metadata" doc:"That there was a message, and its way: rows without content. Not shorter than content."`
	AuditDetails Keep  `key:"audit_details" doc:"What of the audit log is about a person and lies sealed: at least 6y (45 CFR 164.316(b)(2)(i), 164.528). The log's entries stay for good."`
	Daily        Text  `key:"at" pattern:"clock" doc:"The time of day, in UTC, at which it is carried out. A new policy waits for a day."`
}

// ChannelRetention is what a channel has of its own.
type ChannelRetention struct {
	Content  *Keep `key:"content" doc:"As retention.content, for this channel. Not given: the organisation's. The month's keys go with the longest of all channels."`
	Rejected *Keep `key:"rejected" doc:"As retention.rejected, for this channel. Not given: the organisation's, and where that is not given as content."`
}

// Keep is how long something is kept: years and days of the calendar, or for good (the zero value).
type Keep struct{ Years, Days int }

const (
	keepPattern  = `keep|[1-9][0-9]{0,4}d|[1-9][0-9]?y`
	clockPattern = `^([01][0-9]|2[0-3]):[0-5][0-9]$`
)

func (t *Keep) read(r *reader, n *yaml.Node, key string) {
	const next = `write days ("90d"), years ("6y") or "keep"`
	text, ok := r.scalar(n, key, "a time to keep", next)
	if !ok {
		return
	}
	if !r.matches(`^(`+keepPattern+`)$`, text) {
		r.fail(n, key, "is not a time to keep", next)
		return
	}
	*t = Keep{}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		t.Days, _ = strconv.Atoi(days) // the pattern holds it small
	} else if years, ok := strings.CutSuffix(text, "y"); ok {
		t.Years, _ = strconv.Atoi(years)
	}
}

func (*Keep) schema() map[string]any {
	return map[string]any{"title": "time to keep", "type": "string", "pattern": `^(` + keepPattern + `)$`}
}

// String is the form that the file has.
func (t Keep) String() string {
	switch {
	case t.Days > 0:
		return fmt.Sprintf("%dd", t.Days)
	case t.Years > 0:
		return fmt.Sprintf("%dy", t.Years)
	}
	return "keep"
}

// shorter says whether t ends before o. Six years may have 2192 days; that is what counts for them.
func (t Keep) shorter(o Keep) bool {
	if t == (Keep{}) || o == (Keep{}) {
		return t != (Keep{}) && o == (Keep{})
	}
	from := time.Date(2023, 3, 1, 0, 0, 0, 0, time.UTC)
	return from.AddDate(t.Years, 0, t.Days).Before(from.AddDate(o.Years, 0, o.Days))
}

func (t *Retention) setDefaults() { t.Daily = "03:00" }

func (t *Retention) verify(r *reader, n *yaml.Node, key string) {
	if t.AuditDetails.shorter(Keep{Years: 6}) {
		r.fail(field(n, "audit_details"), joinKey(key, "audit_details"), "is shorter than 6 years, for which accesses and disclosures must be countable (45 CFR 164.316(b)(2)(i), 164.528)", `write "6y" or longer, or "keep"`)
	}
}

// OfRejected is how long refused content is kept.
func (t *Retention) OfRejected() Keep {
	if t.Rejected != nil {
		return *t.Rejected
	}
	return t.Content
}

// Kept is how long a channel's content and refused content are kept.
func (c *Config) Kept(ch *Channel) (content, rejected Keep) {
	content, rejected = c.Retention.Content, c.Retention.OfRejected()
	own := ch.Retention
	if own == nil {
		return content, rejected
	}
	if own.Content != nil {
		content = *own.Content
		if c.Retention.Rejected == nil {
			rejected = content
		}
	}
	if own.Rejected != nil {
		rejected = *own.Rejected
	}
	return content, rejected
}

// retention looks at how times stand to each other.
func (k *checker) retention() {
	c := k.c
	if m := c.Retention.Metadata; m.shorter(c.Retention.Content) || m.shorter(c.Retention.OfRejected()) {
		k.add(Error, "retention.metadata", "is shorter than content, which nobody would find without it", "make it as long as content, or longer")
	}
	endless, ends := "", false
	for i := range c.Channels {
		ch := &c.Channels[i]
		key := "channels." + ch.Name + ".retention"
		content, rejected := c.Kept(ch)
		for _, t := range []Keep{content, rejected} {
			if c.Retention.Metadata.shorter(t) && ch.Retention != nil {
				k.add(Error, key, "keeps content longer than retention.metadata, without which nobody finds it", "lengthen retention.metadata, or shorten this")
				break
			}
		}
		if content != (Keep{}) {
			ends = true
			if window := ch.Admit.Duplicates; window > time.Duration(content.Days+366*content.Years)*24*time.Hour {
				k.add(Warning, key, "keeps content for less than the channel's duplicate window, which compares with it: it is kept for the window", "shorten admit.duplicates")
			}
		} else {
			endless = ch.Name
		}
	}
	if endless != "" && ends {
		k.add(Warning, "channels."+endless+".retention", "keeps content for good, and so the keys of every month: other channels' content is deleted in time, but older backups of it can be opened for good",
			"give it a time as well")
	}
}
