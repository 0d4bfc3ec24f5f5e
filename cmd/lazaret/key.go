package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/control"
	"github.com/lazaret-health/lazaret/internal/seal"
)

const keyHelp = `The keys that seal everything: what there is, and what to do to them. docs/keys.md explains them and has the drills.

Usage: lazaret key status [--all]                     the root key, its recovery copy, the data keys, the work under way
       lazaret key check                              have the root key wrap and unwrap once, now
       lazaret key rotate root                        put all data keys under a new root key, or its newest version
       lazaret key rotate data [--reseal]             fresh data keys from now on; --reseal: old records under them too
       lazaret key shred --purpose P --period MONTH   destroy a month's data keys: what they sealed is gone for good
       lazaret key recovery create|confirm|restore    a copy of the root key, for the day it is lost
       lazaret key passphrase [--new REFERENCE]       change the passphrase of the root key: asked for, or env:NAME, file:PATH

    --config FILE   the service's configuration; else lazaret.yaml here, else /etc/lazaret/lazaret.yaml
    --json          of status: as JSON

Every act is on record. A root key in OpenBao, Vault or AWS KMS is known to our own tests only as a double written from their API
texts: run "lazaret key check" against yours.

Examples:
    lazaret key status
    lazaret key rotate root
    lazaret key rotate data --reseal
`

const keyShredHelp = `Destroy the data keys of one purpose and month. What they sealed can never be opened again, here and in any copy.

Usage: lazaret key shred --purpose PURPOSE --period YYYY-MM [--organisation N] [--yes] [--config FILE]

    --purpose PURPOSE  message, identifiers, contact, sensitive, audit-detail, resource, or blind-index
    --period YYYY-MM   a month that is over
    --organisation N   its number, as "lazaret key status" shows it (default: the only one there is)
    --yes              do not ask; else the month has to be typed once more

Disposal by a policy, with legal holds and certificates, is "lazaret retention". This is for what a policy does not know of.

Example: lazaret key shred --purpose message --period 2020-03
`

func keyCommands() []command {
	return []command{
		{name: "status", help: keyHelp, run: (*program).keyStatus},
		{name: "check", help: keyHelp, run: (*program).keyCheck},
		{name: "rotate", help: keyHelp, nested: []command{
			{name: "root", help: keyHelp, run: (*program).keyRotateRoot},
			{name: "data", help: keyHelp, run: (*program).keyRotateData},
		}},
		{name: "shred", help: keyShredHelp, run: (*program).keyShred},
		{name: "recovery", help: recoveryHelp, nested: []command{
			{name: "create", help: recoveryHelp, run: (*program).recoveryCreate},
			{name: "confirm", help: recoveryHelp, run: (*program).recoveryConfirm},
			{name: "restore", help: recoveryHelp, run: (*program).recoveryRestore},
		}},
		{name: "passphrase", help: keyHelp, run: (*program).keyPassphrase},
	}
}

func (p *program) keyStatus(ctx context.Context, args []string) error {
	r := newRemote("key status")
	all := r.Bool("all", false, "")
	if _, err := r.arguments(args); err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.Keys(ctx)
	if err != nil {
		return err
	}
	if *r.json {
		return p.json(s)
	}
	p.printf("root key       %s\n", clean(s.Root.ID))
	switch {
	case s.Root.Shut:
		p.printf("               OUT OF REACH since %s: nothing is sealed or opened\n", moment(s.Root.Away))
	case !s.Root.Away.IsZero():
		p.printf("               out of reach since %s; going on with the keys in memory\n", moment(s.Root.Away))
	default:
		p.printf("               wrapped and unwrapped at %s\n", moment(s.Root.Seen))
	}
	if s.Root.Why != "" {
		p.printf("               %s\n", clean(s.Root.Why))
	}
	if !s.Local {
		p.print("               a service elsewhere, which our tests know only as a double; the line above is your live proof\n")
	}
	switch {
	case s.Recovered:
		p.printf("recovery copy  %s, tried on %s\n", copyOf(s.Recovery), s.Recovery.Confirmed.Format(time.DateOnly))
	case s.Recovery.Root == s.Root.ID:
		p.printf("recovery copy  %s, NOT TRIED: run \"lazaret key recovery confirm\"\n", copyOf(s.Recovery))
	case s.Local:
		p.print("recovery copy  NONE of this root key: a lost key loses everything. Run \"lazaret key recovery create\"\n")
	default:
		p.print("recovery copy  the matter of the service that holds the root key\n")
	}
	for _, what := range []string{"locked memory", "core dumps", "fips140"} {
		p.printf("%-15s%s\n", what, clean(s.Host[what]))
	}
	p.showWork(s.Work)
	p.printf("data keys      %s, and %s of months that were destroyed\n\n", count(len(s.Keys), "key"), count(len(s.Disposals), "record"))
	p.print(keyTable(s, *all))
	if s.Root.Shut {
		return errFound
	}
	return nil
}

func copyOf(r seal.Recovery) string {
	if r.How == "shares" {
		return fmt.Sprintf("%d shares, of which %d are needed", r.Shares, r.Needed)
	}
	return r.How
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// keyTable shows what seals now, and with all also what only opens.
func keyTable(s seal.Status, all bool) string {
	var rows [][]string
	for _, k := range s.Keys {
		if k.Spent && !all {
			continue
		}
		seals, state := thousands(int64(k.Seals)), ""
		switch {
		case k.Damaged:
			state = "DAMAGED: restore it from the backup of the key store"
		case k.Spent:
			state = "opens only"
		case k.Purpose == seal.BlindIndex:
			seals = ""
		}
		if !k.Damaged && k.Root != s.Root.ID {
			state = strings.TrimSpace(state + " under another root key")
		}
		rows = append(rows, []string{fmt.Sprint(k.ID.Org()), k.Purpose.String(), k.Period.String(), k.Created.Format(time.DateOnly), seals, k.ID.String(), state})
	}
	return columns([]string{"organisation", "purpose", "period", "made", "seals, at most", "key", ""}, rows)
}

func (p *program) showWork(w seal.Work) {
	switch {
	case w.What == "":
	case w.Busy():
		p.printf("under way      %s %s\n", w.What, progressOf(w, 20))
	case w.Error != "":
		p.printf("last work      %s FAILED: %s\n", w.What, clean(w.Error))
	default:
		p.printf("last work      %s, done at %s\n", w.What, moment(w.Ended))
	}
}

func progressOf(w seal.Work, width int) string {
	if w.Total == 0 {
		return "begins"
	}
	return fmt.Sprintf("%s %d %%", bar(w.Done, w.Total, width), min(100, w.Done*100/w.Total))
}

func (p *program) keyCheck(ctx context.Context, args []string) error {
	return p.onKeys(ctx, "key check", args, func(c *control.Client) error {
		if err := c.CheckRoot(ctx); err != nil {
			return err
		}
		p.print("the root key wrapped and unwrapped\n")
		return nil
	})
}

func (p *program) keyRotateRoot(ctx context.Context, args []string) error {
	return p.onKeys(ctx, "key rotate root", args, func(c *control.Client) error {
		if err := c.RotateRoot(ctx); err != nil {
			return err
		}
		if err := p.follow(ctx, c); err != nil {
			return err
		}
		s, err := c.Keys(ctx)
		if err != nil {
			return err
		}
		p.printf("all data keys are under root key %s\n", clean(s.Root.ID))
		if s.Local && !s.Recovered {
			p.say(`hint: the recovery copy is of the former key: run "lazaret key recovery create", and make a new backup of the key store`)
		}
		return nil
	})
}

func (p *program) keyRotateData(ctx context.Context, args []string) error {
	r := newRemote("key rotate data")
	reseal := r.Bool("reseal", false, "")
	if _, err := r.arguments(args); err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	n, err := c.RenewKeys(ctx, control.Renewal{Reseal: *reseal})
	if err != nil {
		return err
	}
	p.printf("%s no more: fresh ones do from now on\n", map[bool]string{true: "1 data key seals", false: thousands(int64(n.Retired)) + " data keys seal"}[n.Retired == 1])
	if !*reseal {
		return nil
	}
	if err := p.follow(ctx, c); err != nil {
		return err
	}
	p.print("old records are sealed anew\n")
	return nil
}

// follow draws a long work until it has ended. It goes on in the service when the command is interrupted.
func (p *program) follow(ctx context.Context, c *control.Client) error {
	screen := live{p: p}
	for {
		w, err := c.KeyWork(ctx)
		if err != nil {
			return err
		}
		line := w.What + " " + progressOf(w, 30)
		screen.draw([]string{line}, line)
		if !w.Busy() {
			if w.Error != "" {
				return hint(errors.New(w.Error), "what is done stays done, and everything can be read; see to the cause, then run it again")
			}
			return nil
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			p.say("it goes on in the service: lazaret key status")
			return err
		}
	}
}

// onKeys runs a command without arguments of its own.
func (p *program) onKeys(_ context.Context, name string, args []string, act func(*control.Client) error) error {
	r := newRemote(name)
	if _, err := r.arguments(args); err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return act(c)
}

func (p *program) keyShred(ctx context.Context, args []string) error {
	r := newRemote("key shred")
	purpose, period := r.String("purpose", "", ""), r.String("period", "", "")
	org, yes := r.Uint("organisation", 0, ""), r.Bool("yes", false, "")
	if _, err := r.arguments(args); err != nil {
		return err
	}
	what, err := seal.ParsePurpose(*purpose)
	if err != nil {
		return usage("--purpose: "+err.Error(), "key shred")
	}
	month, err := seal.ParsePeriod(*period)
	if err != nil {
		return usage("--period: "+err.Error(), "key shred")
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.Keys(ctx)
	if err != nil {
		return err
	}
	which, err := organisationOf(s, uint32(*org))
	if err != nil {
		return err
	}
	n := 0
	for _, k := range s.Keys {
		if k.ID.Org() == which && k.Purpose == what && k.Period == month {
			n++
		}
	}
	if !*yes {
		p.say("%s for %s of %s, organisation %d, will be destroyed. Nothing that they sealed can ever be opened again.", count(n, "key"), what, month, which)
		if typed, err := p.ask("type the month to go on: "); err != nil || typed != month.String() {
			return errors.New("nothing was destroyed")
		}
	}
	gone, err := c.ShredKeys(ctx, control.Shredding{Organisation: which, Purpose: what, Period: month})
	if err != nil {
		return err
	}
	p.printf("destroyed, and on record as such: %s\n", count(len(gone.Keys), "key"))
	for _, id := range gone.Keys {
		p.printf("    %s\n", id)
	}
	return nil
}

// organisationOf finds the one that is meant.
func organisationOf(s seal.Status, given uint32) (uint32, error) {
	var have []uint32
	for _, k := range s.Keys {
		if o := k.ID.Org(); o != 0 && !slices.Contains(have, o) {
			have = append(have, o)
		}
	}
	switch {
	case given != 0:
		return given, nil
	case len(have) == 1:
		return have[0], nil
	}
	return 0, usage("there are several organisations: name one with --organisation", "key shred")
}

func (p *program) keyPassphrase(_ context.Context, args []string) error {
	f := newFlags("key passphrase")
	path, next := f.String("config", "", ""), f.String("new", "", "")
	if err := f.noArguments(args); err != nil {
		return err
	}
	c, err := config.Load(*path)
	if err != nil {
		return err
	}
	if c.Keys.Root.Kind != "passphrase" {
		return errors.New("the root key is not under a passphrase (keys.root)")
	}
	before, err := p.passphrase(c.Keys.Root, "present passphrase")
	if err != nil {
		return err
	}
	after, err := p.newPassphrase(*next)
	if err != nil {
		return err
	}
	if err := seal.ChangePassphrase(seal.PassphraseFile(string(c.Keys.Store)), before, after); err != nil {
		return err
	}
	p.print("changed; the next start needs the new one\n")
	return nil
}

// newPassphrase resolves a reference, or asks twice.
func (p *program) newPassphrase(reference string) (string, error) {
	if reference != "" {
		secret := config.ParseSecret(reference)
		if secret.Clear() {
			return "", usage("--new takes env:NAME or file:PATH: a passphrase on a command line is seen by everybody", "key passphrase")
		}
		return secret.Resolve()
	}
	first, err := p.askSecret("new passphrase")
	if err != nil {
		return "", err
	}
	again, err := p.askSecret("new passphrase, once more")
	if err == nil && again != first {
		err = errors.New("they are not the same; nothing was changed")
	}
	return first, err
}
