package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/internal/control"
	"github.com/lazaret-health/lazaret/internal/engine"
)

const messageHelp = `Find messages of the running service, look into them, see their way, send them again.

Usage: lazaret message list [OPTION...]          which messages there are, newest first
       lazaret message show ID [OPTION...]       one message as a tree; your reading goes on record
       lazaret message trace ID                  its way: when it came, where it went, what is on record about it
       lazaret message resend ID [OPTION...]     queue it again; a rejected one is admitted by the rules of today

    --config FILE   the service's configuration; else lazaret.yaml here, else /etc/lazaret/lazaret.yaml
    --json          as JSON

"lazaret message list --help" and so on show the options of each.

Examples:
    lazaret message list --status error --since 24h
    lazaret message show 01993a5e-8c1f-7d3a-b5f2-6f0c3b1d2e4a --purpose TREAT
`

const messageListHelp = `List messages, newest first. No content is shown.

Usage: lazaret message list [OPTION...]

    --channel NAME      of this channel
    --status STATUS     accepted, rejected; or with a delivery that is pending, sent, filtered, error
    --type TYPE         ADT, or ADT^A01
    --control-id ID     with this MSH-10
    --patient ID        about this patient (an identifier as in PID-3.1); the search goes on record
    --purpose PURPOSE   why, for --patient (default HOPERAT)
    --since TIME        not older than this: 2h, 7d, or 2026-11-25, or 2026-11-25T08:00:00Z
    --until TIME        older than this
    --limit N           so many at most (default 50, at most 1000)
    --before NUMBER     go on where a former list has ended
    --config FILE       the service's configuration
    --json              as JSON

Examples:
    lazaret message list --status error
    lazaret message list --patient 4711 --purpose TREAT --since 30d
`

const messageShowHelp = `Show a message as a tree with the names of its version's dictionary. Who reads it and why goes on record first.

Usage: lazaret message show ID [OPTION...]

    --purpose PURPOSE   why you read it (HL7 PurposeOfUse; default HOPERAT, health care operations):
                        TREAT ETREAT CAREMGT HPAYMT HOPERAT HSYSADMIN HRESCH PUBHLTH PATRQT BTG
    --sent DESTINATION  what this destination got, where that differs
    --raw               the bytes as they came, to be piped; not to a terminal
    --config FILE       the service's configuration
    --json              as JSON, content as base64

Examples:
    lazaret message show 01993a5e-8c1f-7d3a-b5f2-6f0c3b1d2e4a
    lazaret message show 01993a5e-8c1f-7d3a-b5f2-6f0c3b1d2e4a --raw --purpose HPAYMT > message.hl7
`

const messageTraceHelp = `Show the way of a message: when it came, what each destination did about it, and what is on record. No content is shown.

Usage: lazaret message trace ID [--config FILE] [--json]

Example: lazaret message trace 01993a5e-8c1f-7d3a-b5f2-6f0c3b1d2e4a
`

const messageResendHelp = `Queue a message again, behind what waits for its destinations. Who did it goes on record. A rejected message is admitted by
the rules of today first.

Usage: lazaret message resend ID [--destination NAME]... [--config FILE] [--json]

    --destination NAME   only to this one; may be given several times

Example: lazaret message resend 01993a5e-8c1f-7d3a-b5f2-6f0c3b1d2e4a --destination laboratory
`

func messageCommands() []command {
	return []command{
		{name: "list", help: messageListHelp, run: (*program).messageList},
		{name: "show", help: messageShowHelp, run: (*program).messageShow},
		{name: "trace", help: messageTraceHelp, run: (*program).messageTrace},
		{name: "resend", help: messageResendHelp, run: (*program).messageResend},
	}
}

const defaultPurpose = "HOPERAT"

func checkPurpose(f *flagSet, purpose string) error {
	return oneOf(f, "purpose", purpose, control.Purposes()...)
}

func (p *program) messageList(ctx context.Context, args []string) error {
	r := newRemote("message list")
	var q control.Search
	var from, to, purpose string
	for name, v := range map[string]*string{"channel": &q.Channel, "status": &q.Status, "type": &q.Type, "control-id": &q.ControlID,
		"patient": &q.Patient, "since": &from, "until": &to} {
		r.StringVar(v, name, "", "")
	}
	r.StringVar(&purpose, "purpose", defaultPurpose, "")
	r.IntVar(&q.Limit, "limit", 50, "")
	r.Int64Var(&q.Before, "before", 0, "")
	_, err := r.arguments(args)
	if err == nil && q.Status != "" {
		err = oneOf(r.flagSet, "status", q.Status, "accepted", "rejected", "pending", "sent", "filtered", "error")
	}
	if err == nil {
		err = checkPurpose(r.flagSet, purpose)
	}
	if err == nil {
		q.From, err = p.moment(r.flagSet, "since", from)
	}
	if err == nil {
		q.To, err = p.moment(r.flagSet, "until", to)
	}
	if err == nil && (q.Limit < 1 || q.Limit > 1000) {
		err = usage("--limit is 1 to 1000", r.command)
	}
	if err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	page, err := c.List(ctx, purpose, q)
	if err != nil {
		return err
	}
	if *r.json {
		return p.json(page)
	}
	var rows [][]string
	for _, m := range page.Messages {
		rows = append(rows, []string{stamp(m.AcceptedAt), clean(m.Channel), clean(m.Type), clean(cut(m.ControlID, 24)), clean(cut(m.From, 28)), outcome(m), m.ID.String()})
	}
	if len(rows) == 0 {
		p.say("no message")
	} else {
		p.print(columns([]string{"accepted", "channel", "type", "control id", "from", "outcome", "id"}, rows))
	}
	if page.Next > 0 {
		p.say("there may be more: --before %d", page.Next)
	}
	return nil
}

// moment reads a time: an age, a day, or RFC 3339.
func (p *program) moment(f *flagSet, name, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days+" ", "%d ", &n); err == nil && n > 0 {
			return p.now().AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return p.now().Add(-d), nil
	}
	for _, form := range []string{time.RFC3339, "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(form, s, time.Local); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, usage("--"+name+" "+quoted(s)+" is no time: write 2h, 7d, 2026-11-25 or 2026-11-25T08:00:00Z", f.command)
}

// outcome sums up a message's deliveries: "sent 2, filtered 1".
func outcome(m engine.Summary) string {
	if m.Status == "rejected" {
		return "rejected"
	}
	if len(m.Deliveries) == 0 {
		return "kept"
	}
	n := map[string]int{}
	var order []string
	for _, d := range m.Deliveries {
		if n[d.State]++; n[d.State] == 1 {
			order = append(order, d.State)
		}
	}
	slices.Sort(order)
	for i, state := range order {
		order[i] = fmt.Sprintf("%s %d", state, n[state])
	}
	return strings.Join(order, ", ")
}

// stamp is a time as lists show it: of this machine's zone.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05.000")
}

func (p *program) messageResend(ctx context.Context, args []string) error {
	r := newRemote("message resend")
	var to []string
	r.Func("destination", "", func(name string) error { to = append(to, name); return nil })
	ids, err := r.arguments(args, "ID")
	if err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.Resend(ctx, ids[0], to)
	if err != nil {
		return err
	}
	if *r.json {
		return p.json(list)
	}
	for _, d := range list {
		p.printf("queued for %s\n", clean(d.Destination))
	}
	return nil
}
