package main

import (
	"context"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/internal/retention"
)

const retentionHoldHelp = `Keep messages from disposal, whatever the policy says: for a legal case, an inquiry, a patient's request.

Usage: lazaret retention hold add [OPTION...]
       lazaret retention hold list [--all] [--json]
       lazaret retention hold release ID --reason WHY

Who added and who released is on record. A hold keeps the keys of every month that it touches; other messages of the month are
deleted in their time all the same.

Example: lazaret retention hold add --channel adt --since 2026-01-01 --until 2026-03-01 --reason "case 2026-17"
`

const holdAddHelp = `Hold messages: those of which all that is given is true. Something beside the reason must be given.

Usage: lazaret retention hold add [OPTION...]

    --patient ID      about this patient (an identifier as in PID-3.1)
    --message ID      this message
    --channel NAME    of this channel
    --since TIME      accepted then or later: 30d, 2026-01-01, or 2026-01-01T08:00:00Z
    --until TIME      accepted before
    --reason WHY      needed; stored sealed. A case number says enough: write no names of patients
    --config FILE     the service's configuration
    --json            as JSON

Messages that come later and fit are held too. The answer says which months are gone already. A hold by patient finds what the
search finds: no message that was not legible, and of one with more than 64 identifiers the first 64.

Examples:
    lazaret retention hold add --patient 4711 --reason "case 2026-17"
    lazaret retention hold add --message 01993a5e-8c1f-7d3a-b5f2-6f0c3b1d2e4a --reason "incident 12"
`

const holdListHelp = `List what is held. A patient is shown by a blind value: the same patient has the same one.

Usage: lazaret retention hold list [--all] [--config FILE] [--json]

    --all    also what was released

Example: lazaret retention hold list --all
`

const holdReleaseHelp = `End a hold. It stays on record.

Usage: lazaret retention hold release ID --reason WHY [--config FILE]

Example: lazaret retention hold release 01993a5e-8c1f-7d3a-b5f2-6f0c3b1d2e4a --reason "case closed"
`

func holdCommands() []command {
	return []command{
		{name: "add", help: holdAddHelp, run: (*program).holdAdd},
		{name: "list", help: holdListHelp, run: (*program).holdList},
		{name: "release", help: holdReleaseHelp, run: (*program).holdRelease},
	}
}

func (p *program) holdAdd(ctx context.Context, args []string) error {
	r := newRemote("retention hold add")
	var q retention.HoldRequest
	var from, to string
	for name, v := range map[string]*string{"patient": &q.Patient, "message": &q.Message, "channel": &q.Channel, "since": &from, "until": &to, "reason": &q.Reason} {
		r.StringVar(v, name, "", "")
	}
	_, err := r.arguments(args)
	if err == nil {
		q.From, err = p.moment(r.flagSet, "since", from)
	}
	if err == nil {
		q.Until, err = p.moment(r.flagSet, "until", to)
	}
	if err == nil && strings.TrimSpace(q.Reason) == "" {
		err = usage("--reason is needed", r.command)
	}
	if err == nil && q.Patient == "" && q.Message == "" && q.Channel == "" && from == "" && to == "" {
		err = usage("name what is held: --patient, --message, --channel, --since or --until", r.command)
	}
	if err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	h, err := c.AddHold(ctx, q)
	if err != nil {
		return err
	}
	if *r.json {
		return p.json(h)
	}
	p.printf("%s\n", h.ID)
	if len(h.Gone) > 0 {
		p.say("warning: for these months it comes too late: %s", strings.Join(h.Gone, ", "))
	}
	return nil
}

func (p *program) holdList(ctx context.Context, args []string) error {
	r := newRemote("retention hold list")
	all := r.Bool("all", false, "")
	if _, err := r.arguments(args); err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.Holds(ctx, *all)
	if err != nil {
		return err
	}
	if *r.json {
		return p.json(list)
	}
	if len(list) == 0 {
		p.say("nothing is held")
		return nil
	}
	var rows [][]string
	for _, h := range list {
		state := "held"
		if !h.ReleasedAt.IsZero() {
			state = "released " + h.ReleasedAt.Format(time.DateOnly) + " by " + h.ReleasedBy
		}
		rows = append(rows, []string{h.ID.String(), clean(heldWhat(h)), h.AddedAt.Format(time.DateOnly) + " by " + clean(h.AddedBy), clean(state), clean(cut(h.Reason, 40))})
	}
	p.print(columns([]string{"id", "what", "added", "state", "reason"}, rows))
	return nil
}

// heldWhat says what a hold is about.
func heldWhat(h retention.Hold) string {
	var parts []string
	if h.Patient != "" {
		parts = append(parts, "patient "+h.Patient)
	}
	if !h.Message.IsZero() {
		parts = append(parts, "message "+h.Message.String())
	}
	if h.Channel != "" {
		parts = append(parts, "channel "+h.Channel)
	}
	if !h.From.IsZero() {
		parts = append(parts, "since "+h.From.Format("2006-01-02 15:04"))
	}
	if !h.Until.IsZero() {
		parts = append(parts, "until "+h.Until.Format("2006-01-02 15:04"))
	}
	return strings.Join(parts, ", ")
}

func (p *program) holdRelease(ctx context.Context, args []string) error {
	r := newRemote("retention hold release")
	reason := r.String("reason", "", "")
	ids, err := r.arguments(args, "ID")
	if err == nil && strings.TrimSpace(*reason) == "" {
		err = usage("--reason is needed", r.command)
	}
	if err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return c.ReleaseHold(ctx, ids[0], *reason)
}
