package main

import (
	"context"
	"os"
	"os/user"
	"strconv"

	"github.com/lazaret-health/lazaret/internal/config"
)

const serveHelp = `Run the service: take messages at the sources, keep them, deliver them.

Usage: lazaret serve [--config FILE]

    --config FILE   the configuration; else lazaret.yaml here, else /etc/lazaret/lazaret.yaml.
                    The files of lazaret.d beside it belong to it

It starts only if "lazaret check" finds no error. The first start makes the root key; copy it away, for without it nothing
stored can be read. SIGTERM or SIGINT stops it from outside in: sources first, so that no accepted message loses its answer.
After a failed fsync it ends at once, without acknowledging anything more. The log goes to standard error.

Examples:
    lazaret serve --config /etc/lazaret/lazaret.yaml
    systemd: ExecStart=/usr/bin/lazaret serve, Restart=on-failure, TimeoutStopSec=60
`

func (p *program) serve(ctx context.Context, args []string) error {
	f := newFlags("serve")
	path := f.String("config", "", "")
	if err := f.noArguments(args); err != nil {
		return err
	}
	c, warnings, err := p.safeConfig(*path)
	if err != nil {
		return err
	}
	tuneMemory()
	log := p.logger(c.Log.Level, c.Log.Format)
	for _, w := range warnings {
		log.Warn("configuration: "+w.What, "file", w.File, "line", w.Line, "key", w.Key, "next", w.Next)
	}
	s, err := p.openService(ctx, c, log)
	if err != nil {
		return migrated(err)
	}
	if s.newRoot != "" {
		p.say("lazaret: made the root key %s", clean(s.newRoot))
		p.say("hint: copy it to a safe place now; without it nothing that is stored can ever be read: lazaret key recovery create")
	}
	err = s.run(ctx)
	if closed := s.close(); err == nil {
		err = closed
	}
	if err == nil {
		log.Info("stopped in good order")
	}
	return err
}

// safeConfig loads the configuration and refuses one with errors. The warnings, accepted risks among them, belong in the log.
func (p *program) safeConfig(path string) (c *config.Config, warnings []config.Problem, err error) {
	if c, err = config.Load(path); err != nil {
		return nil, nil, err
	}
	list, err := p.findings(path)
	if err != nil {
		return nil, nil, err
	}
	var wrong config.Errors
	for _, one := range list {
		problem := config.Problem{File: one.File, Line: one.Line, Column: one.Column, Key: one.Key, What: one.What, Next: one.Next}
		if one.Level == config.Error {
			wrong = append(wrong, problem)
		} else {
			warnings = append(warnings, problem)
		}
	}
	if len(wrong) > 0 {
		return nil, nil, wrong
	}
	return c, warnings, nil
}

// osUser is who runs this process.
func osUser() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(os.Geteuid())
}
