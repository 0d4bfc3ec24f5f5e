package main

import (
	"context"
	"strings"

	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/control"
)

const channelHelp = `See and switch the channels of the running service.

Usage: lazaret channel list                            what each channel and destination does now
       lazaret channel stop CHANNEL                    end its connections and its deliveries
       lazaret channel start CHANNEL                   let it listen and deliver again
       lazaret channel pause CHANNEL DESTINATION       deliver nothing to it; messages wait in their order
       lazaret channel resume CHANNEL DESTINATION      deliver again, also after a hold

    --config FILE   the service's configuration; else lazaret.yaml here, else /etc/lazaret/lazaret.yaml
    --json          of list: as JSON

What was switched stays so after a restart, and who switched it is on record.

Examples:
    lazaret channel list
    lazaret channel pause adt laboratory
`

func channelCommands() []command {
	return []command{
		{name: "list", help: channelHelp, run: (*program).channelList},
		{name: "stop", help: channelHelp, run: (*program).channelStop},
		{name: "start", help: channelHelp, run: (*program).channelStart},
		{name: "pause", help: channelHelp, run: (*program).destinationPause},
		{name: "resume", help: channelHelp, run: (*program).destinationResume},
	}
}

// A remote is a command about the running service: its options, and the way to it.
type remote struct {
	*flagSet
	config *string
	json   *bool
}

func newRemote(command string) *remote {
	f := newFlags(command)
	return &remote{f, f.String("config", "", ""), f.Bool("json", false, "")}
}

// dial names the service by its configuration. Nothing is asked yet.
func (r *remote) dial() (*control.Client, error) {
	c, err := config.Load(*r.config)
	if err != nil {
		return nil, err
	}
	return control.Dial(string(c.Control.Socket), "lazaret "+r.command), nil
}

// arguments parses the command line, which must have as many arguments as there are names.
func (r *remote) arguments(args []string, names ...string) ([]string, error) {
	rest, err := r.parse(args)
	if err == nil && len(rest) != len(names) {
		err = usage("it takes "+strings.Join(names, " and ")+", and got "+count(len(rest), "argument"), r.command)
		if len(names) == 0 {
			err = usage("what is "+quoted(rest[0])+"? the command takes options alone", r.command)
		}
	}
	return rest, err
}

func (p *program) channelList(ctx context.Context, args []string) error {
	r := newRemote("channel list")
	if _, err := r.arguments(args); err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.Channels(ctx)
	if err != nil {
		return err
	}
	if *r.json {
		return p.json(list)
	}
	var rows [][]string
	for _, ch := range list {
		rows = append(rows, []string{ch.Name, clean(ch.State), ch.Address, "", ""})
		for _, d := range ch.Destinations {
			waiting, oldest := "", ""
			if d.Waiting > 0 {
				waiting = thousands(d.Waiting)
			}
			if !d.Oldest.IsZero() {
				oldest = since(p.now().Sub(d.Oldest))
			}
			rows = append(rows, []string{"  → " + d.Name, clean(d.State), "", waiting, oldest})
		}
	}
	p.print(columns([]string{"channel", "state", "address", "waiting", "oldest"}, rows))
	return nil
}

func (p *program) channelStop(ctx context.Context, args []string) error {
	return p.switchChannel(ctx, "channel stop", args, (*control.Client).StopChannel)
}

func (p *program) channelStart(ctx context.Context, args []string) error {
	return p.switchChannel(ctx, "channel start", args, (*control.Client).StartChannel)
}

func (p *program) switchChannel(ctx context.Context, command string, args []string, act func(*control.Client, context.Context, string) error) error {
	r := newRemote(command)
	names, err := r.arguments(args, "CHANNEL")
	if err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return act(c, ctx, names[0])
}

func (p *program) destinationPause(ctx context.Context, args []string) error {
	return p.switchDestination(ctx, "channel pause", args, (*control.Client).PauseDestination)
}

func (p *program) destinationResume(ctx context.Context, args []string) error {
	return p.switchDestination(ctx, "channel resume", args, (*control.Client).ResumeDestination)
}

func (p *program) switchDestination(ctx context.Context, command string, args []string, act func(*control.Client, context.Context, string, string) error) error {
	r := newRemote(command)
	names, err := r.arguments(args, "CHANNEL", "DESTINATION")
	if err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return act(c, ctx, names[0], names[1])
}
