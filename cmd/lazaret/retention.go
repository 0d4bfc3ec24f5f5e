package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/internal/control"
	"github.com/lazaret-health/lazaret/internal/retention"
)

const retentionHelp = `How long what is kept, what keeps it longer, and the proof that it is gone. The times stand in the configuration (retention).

Usage: lazaret retention plan                         what would go now, and why things stay; changes nothing
       lazaret retention run [--yes]                  carry the policy out now, and not at its time of day
       lazaret retention certificate [SEQUENCE]       the certificates of disposal, or one of them
       lazaret retention hold add [OPTION...]         keep messages from disposal, for a legal case
       lazaret retention hold list [--all]            what is held
       lazaret retention hold release ID --reason WHY

    --config FILE   the service's configuration; else lazaret.yaml here, else /etc/lazaret/lazaret.yaml
    --json          as JSON

Content goes by the month: when all of a month is past its time, and nothing is held or undelivered, its data keys are destroyed,
then its rows. That cannot be taken back, not from a backup either.

"lazaret retention plan --help" and so on show more of each.

Examples:
    lazaret retention plan
    lazaret retention hold add --patient 4711 --reason "case 2026-17"
    lazaret retention certificate --json
`

const retentionPlanHelp = `Show month by month what a run would dispose of now, what stays, until when and why. Nothing is changed.

Usage: lazaret retention plan [--config FILE] [--json]

Each month is drawn: █ content that stays, ▒ content that goes now, · content that is gone. A month of which nothing is due is
not counted, only estimated (~).

Exit code: 0, also when something would go.

Example: lazaret retention plan
`

const retentionRunHelp = `Carry the policy out now. Without --yes the plan is shown and nothing is done.

Usage: lazaret retention run [--yes] [--config FILE] [--json]

    --yes           do it; the keys of the months that go are destroyed for good, and so is their content in every backup
    --config FILE   the service's configuration
    --json          as JSON: how it ended

The service does this by itself once a day (retention.at). A new policy waits for a day there, and a schedule that was
interrupted for more than 35 days waits for this command. Ctrl-C ends the watching, not the run.

Examples:
    lazaret retention run
    lazaret retention run --yes
`

const retentionCertificateHelp = `Show the certificates of disposal: what went, how much, which keys, by which policy, who began it. Each is an entry of the
audit log.

Usage: lazaret retention certificate [SEQUENCE] [--config FILE] [--json]

    SEQUENCE        only this one: its place in the audit log

Example: lazaret retention certificate 4711 --json > disposal-2026-01.json
`

func retentionCommands() []command {
	return []command{
		{name: "plan", help: retentionPlanHelp, run: (*program).retentionPlan},
		{name: "run", help: retentionRunHelp, run: (*program).retentionRun},
		{name: "certificate", help: retentionCertificateHelp, run: (*program).retentionCertificate},
		{name: "hold", help: retentionHoldHelp, nested: holdCommands()},
	}
}

func (p *program) retentionPlan(ctx context.Context, args []string) error {
	r := newRemote("retention plan")
	if _, err := r.arguments(args); err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	plan, err := c.RetentionPlan(ctx)
	if err != nil {
		return err
	}
	if *r.json {
		return p.json(plan)
	}
	p.print(drawPlan(plan))
	return nil
}

// drawPlan draws the months as a table with a bar each, and below each why something of it stays.
func drawPlan(plan retention.Plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "content %s, refused %s, metadata %s, audit details %s; %s\n\n", plan.Policy.Content, plan.Policy.Rejected,
		plan.Policy.Metadata, plan.Policy.AuditDetails, count(plan.Holds, "hold"))
	if len(plan.Months) == 0 {
		b.WriteString("no message is stored\n")
	}
	most := int64(1)
	for _, m := range plan.Months {
		most = max(most, m.Messages)
	}
	var rows [][]string
	for _, m := range plan.Months {
		n := thousands(m.Messages)
		if m.Estimated {
			n = "~" + n
		}
		goes := ""
		if m.Now > 0 {
			goes = thousands(m.Now)
		}
		rows = append(rows, []string{m.Period, monthBar(m, most), n, m.State, goes, until(m)})
		for _, why := range m.Why {
			rows = append(rows, []string{"", "", "", "  " + clean(why), "", ""})
		}
	}
	if rows != nil {
		b.WriteString(planTable(rows))
	}
	for _, a := range plan.Audit {
		fmt.Fprintf(&b, "audit details of %s go now\n", a)
	}
	if plan.Due {
		b.WriteString("\nwhat goes now goes with the next daily run, or with \"lazaret retention run --yes\"\n")
	} else {
		b.WriteString("\nnothing goes now\n")
	}
	return b.String()
}

// planTable lays the rows out; a reason, which stands alone on its line, widens no column.
func planTable(rows [][]string) string {
	var main [][]string
	for _, r := range rows {
		if r[0] != "" {
			main = append(main, r)
		}
	}
	lines := strings.SplitAfter(columns([]string{"month", "content", "messages", "state", "goes", "until"}, main), "\n")
	var b strings.Builder
	b.WriteString(lines[0])
	next := 1
	for _, r := range rows {
		if r[0] == "" {
			b.WriteString("         " + strings.TrimSpace(r[3]) + "\n")
			continue
		}
		b.WriteString(lines[next])
		next++
	}
	return b.String()
}

// monthBar is as long as the month is big: what stays, what goes now, what is gone.
func monthBar(m retention.Month, most int64) string {
	const width = 20
	part := func(n int64) int {
		if n <= 0 {
			return 0
		}
		return max(1, int(n*width/most))
	}
	goes := min(m.Now, m.Content)
	if m.State == retention.Unfinished {
		goes = m.Content
	}
	return strings.Repeat("█", part(m.Content-goes)) + strings.Repeat("▒", part(goes)) + strings.Repeat("·", part(m.Messages-m.Content))
}

func until(m retention.Month) string {
	switch {
	case m.State == retention.Disposed && m.Due.IsZero():
		return "content gone " + m.Disposed.Format(time.DateOnly)
	case m.State == retention.Disposed:
		return "content gone " + m.Disposed.Format(time.DateOnly) + ", metadata until " + m.Due.Format(time.DateOnly)
	case m.State == retention.Kept && m.Due.IsZero(), m.State == retention.Partly && m.Due.IsZero():
		return "for good"
	case m.Due.IsZero():
		return ""
	}
	return m.Due.Format(time.DateOnly)
}

func (p *program) retentionRun(ctx context.Context, args []string) error {
	r := newRemote("retention run")
	yes := r.Bool("yes", false, "")
	if _, err := r.arguments(args); err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if !*yes {
		plan, err := c.RetentionPlan(ctx)
		if err != nil {
			return err
		}
		p.print(drawPlan(plan))
		if !plan.Due {
			return nil
		}
		return usage("nothing was done: what goes cannot be brought back, so --yes has to say that you have seen the plan", r.command)
	}
	end, err := p.watchRetention(ctx, c)
	if err != nil {
		return err
	}
	if *r.json {
		if err := p.json(end); err != nil {
			return err
		}
	} else {
		p.printf("%s in %s\n", count(len(end.Certificates), "disposal"), since(end.Ended.Sub(end.Started)))
		for _, seq := range end.Certificates {
			p.printf("certificate %d\n", seq)
		}
	}
	if end.Error != "" {
		return hint(fmt.Errorf("the run ended early: %s", end.Error), "the next one goes on where it was; see the service's log")
	}
	return nil
}

// watchRetention starts a run and shows its progress until it ends.
func (p *program) watchRetention(ctx context.Context, c *control.Client) (retention.Progress, error) {
	before, err := c.RunRetention(ctx)
	if err != nil {
		return before, err
	}
	area := &live{p: p}
	for {
		now, err := c.RetentionProgress(ctx)
		if err != nil {
			return now, err
		}
		if now.Number > before.Number {
			if !now.Running {
				return now, nil
			}
			if now.Step != "" {
				text := now.Step
				if now.Total > 0 {
					text = fmt.Sprintf("%s  %s  %s of %s", now.Step, bar(now.Done, now.Total, 20), thousands(now.Done), thousands(now.Total))
				}
				area.draw([]string{text}, text)
			}
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return now, err
		}
	}
}

func (p *program) retentionCertificate(ctx context.Context, args []string) error {
	r := newRemote("retention certificate")
	rest, err := r.parse(args)
	if err != nil {
		return err
	}
	only := int64(-1)
	if len(rest) == 1 {
		if only, err = strconv.ParseInt(rest[0], 10, 64); err != nil || only < 0 {
			return usage(quoted(rest[0])+" is no place in the audit log", r.command)
		}
	} else if len(rest) > 1 {
		return usage("it takes one SEQUENCE at most", r.command)
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.Certificates(ctx)
	if err != nil {
		return err
	}
	if only >= 0 {
		list = slices.DeleteFunc(list, func(c retention.Certificate) bool { return c.Sequence != only })
		if len(list) == 0 {
			return hint(fmt.Errorf("no certificate stands at %d in the audit log", only), `"lazaret retention certificate" lists them`)
		}
	}
	switch {
	case *r.json && only >= 0:
		return p.json(list[0])
	case *r.json:
		return p.json(list)
	case only >= 0:
		p.print(certificateText(list[0]))
	case len(list) == 0:
		p.say("nothing was disposed of yet")
	default:
		var rows [][]string
		for _, c := range list {
			what := c.Class + " of " + c.Period
			if c.Channel != "" {
				what += " from " + c.Channel
			}
			rows = append(rows, []string{strconv.FormatInt(c.Sequence, 10), stamp(c.Time), clean(what), thousands(c.Messages), strconv.Itoa(len(c.Keys)), clean(c.BegunBy)})
		}
		p.print(columns([]string{"sequence", "certified", "what", "messages", "keys", "begun by"}, rows))
	}
	return nil
}

// certificateText is a certificate for paper.
func certificateText(c retention.Certificate) string {
	rows := [][]string{
		{"what", c.Class + " of " + c.Period},
		{"channel", c.Channel},
		{"how", c.Method},
		{"messages", thousands(c.Messages)},
		{"bytes as they came", thousands(c.Bytes)},
		{"rows beside", thousands(c.Others)},
		{"index rows", thousands(c.IndexRows)},
		{"policy", c.Policy},
		{"holds looked at", strconv.FormatInt(c.Holds, 10)},
		{"begun", c.Begun.UTC().Format(time.RFC3339) + " by " + c.BegunBy},
		{"certified", c.Time.UTC().Format(time.RFC3339) + " by " + strings.TrimSpace(c.By+" "+c.Program)},
		{"note", c.Note},
		{"damage", c.Damage},
	}
	for _, id := range c.Keys {
		rows = append(rows, []string{"destroyed key", id})
	}
	rows = slices.DeleteFunc(rows, func(r []string) bool { return r[1] == "" })
	for i := range rows {
		rows[i][1] = clean(rows[i][1])
	}
	return "Certificate of disposal\n" + columns([]string{"audit entry", fmt.Sprintf("%d, %s", c.Sequence, c.Entry)}, rows)
}
