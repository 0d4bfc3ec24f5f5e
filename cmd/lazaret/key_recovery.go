package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/control"
	"github.com/lazaret-health/lazaret/internal/seal"
)

const recoveryHelp = `A copy of the root key somewhere else. Without one, a lost root key loses everything that was ever stored.

Usage: lazaret key recovery create [--shares N] [--needed K]      parts for N people, of whom any K bring the key back
       lazaret key recovery create --recipient age1… [--recipient …]   one file, which the owner of an age identity opens
       lazaret key recovery confirm [--identity FILE --copy FILE]  try the copy; until then "lazaret check" reminds you
       lazaret key recovery restore [--identity FILE --copy FILE]  write the root key file from the copy; needs no service

    --config FILE   the service's configuration
    --shares N      how many parts (default 5)
    --needed K      how many of them bring the key back (default 3)
    --recipient R   an age recipient; the copy is printed
    --identity FILE an age identity file (AGE-SECRET-KEY-…), with --copy FILE

confirm and restore read shares from standard input, one a line, until an empty line. Print each share for its person alone, and
keep no file of it. age is not possible while the FIPS 140-3 module is on.

Examples:
    lazaret key recovery create --shares 5 --needed 3
    lazaret key recovery create --recipient age1qyqs… > root.age
    lazaret key recovery confirm
`

type recipients []string

func (r *recipients) String() string     { return strings.Join(*r, ",") }
func (r *recipients) Set(s string) error { *r = append(*r, s); return nil }

func (p *program) recoveryCreate(ctx context.Context, args []string) error {
	r := newRemote("key recovery create")
	shares, needed := r.Int("shares", 5, ""), r.Int("needed", 3, "")
	var to recipients
	r.Var(&to, "recipient", "")
	if _, err := r.arguments(args); err != nil {
		return err
	}
	if len(to) == 0 && (*needed < 2 || *shares < *needed || *shares > 255) {
		return usage("--needed is at least 2, and --shares at least as many, 255 at most", "key recovery create")
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	ask := control.CopyRequest{Needed: *needed, Shares: *shares, Recipients: to}
	copied, err := c.CopyRoot(ctx, ask)
	if err != nil {
		return err
	}
	if *r.json {
		return p.json(copied)
	}
	p.print(copied.Age)
	for _, s := range copied.Shares {
		p.print(s + "\n")
	}
	p.say(`hint: give each share to its person, then try the copy: lazaret key recovery confirm`)
	return nil
}

// broughtBack gives the root key from a copy: an age file, or shares from standard input.
func (p *program) broughtBack(identity, sealed string) (seal.Root, error) {
	if (identity == "") != (sealed == "") {
		return nil, usage("--identity and --copy go together", "key recovery")
	}
	if identity != "" {
		ids, err := os.ReadFile(identity)
		if err != nil {
			return nil, err
		}
		defer clear(ids)
		text, err := os.ReadFile(sealed)
		if err != nil {
			return nil, err
		}
		return seal.DecryptRoot(text, string(ids))
	}
	p.say("shares, one a line; end with an empty line:")
	var shares []string
	in := bufio.NewScanner(p.stdin)
	for in.Scan() && strings.TrimSpace(in.Text()) != "" {
		shares = append(shares, in.Text())
	}
	if err := in.Err(); err != nil {
		return nil, err
	}
	return seal.JoinRoot(shares)
}

func (p *program) recoveryConfirm(ctx context.Context, args []string) error {
	r := newRemote("key recovery confirm")
	identity, sealed := r.String("identity", "", ""), r.String("copy", "", "")
	if _, err := r.arguments(args); err != nil {
		return err
	}
	root, err := p.broughtBack(*identity, *sealed)
	if err != nil {
		return err
	}
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.ConfirmCopy(ctx, root.ID()); err != nil {
		return err
	}
	p.print("the copy gives the root key in use; that it was tried is on record\n")
	return nil
}

func (p *program) recoveryRestore(_ context.Context, args []string) error {
	f := newFlags("key recovery restore")
	path, identity, sealed := f.String("config", "", ""), f.String("identity", "", ""), f.String("copy", "", "")
	if err := f.noArguments(args); err != nil {
		return err
	}
	c, err := config.Load(*path)
	if err != nil {
		return err
	}
	to := c.Keys.Root.File()
	if to == "" {
		return hint(errors.New("keys.root is not a file"), "set it to file:PATH for the restored key; it may be moved to a credential afterwards")
	}
	root, err := p.broughtBack(*identity, *sealed)
	if err != nil {
		return err
	}
	if err := seal.SaveFileRoot(root, to); err != nil {
		return err
	}
	p.printf("root key %s is back at %s\n", clean(root.ID()), clean(to))
	return nil
}

// ask reads a line from standard input.
func (p *program) ask(what string) (string, error) {
	fmt.Fprint(p.stderr, what)
	line, err := bufio.NewReader(p.stdin).ReadString('\n')
	if errors.Is(err, io.EOF) && line != "" {
		err = nil
	}
	return strings.TrimSpace(line), err
}

// recoveryFindings reminds of a recovery copy that is missing or was never tried.
func recoveryFindings(c *config.Config) []finding {
	id := seal.FileRootID(c.Keys.Root.File())
	kind := c.Keys.Root.Kind
	if kind == "file" && id == "" || kind != "file" && kind != "passphrase" && kind != "credential" {
		return nil // not made yet, or nobody's to copy
	}
	if _, err := os.Stat(string(c.Keys.Store)); err != nil {
		return nil // never started
	}
	r, err := seal.ReadRecovery(string(c.Keys.Store))
	at := c.Where("keys.root")
	warn := finding{Level: config.Warning, File: at.File, Line: at.Line, Column: at.Column, Key: "keys.root"}
	switch {
	case err != nil:
		warn.What, warn.Next = "what is known of its recovery copy cannot be read", `run "lazaret key recovery create"`
	case r.Root == "" || id != "" && r.Root != id:
		warn.What, warn.Next = "has no recovery copy: when it is lost, everything is", `run "lazaret key recovery create", then "lazaret key recovery confirm"`
	case r.Confirmed.IsZero():
		warn.What, warn.Next = "has a recovery copy that was never tried", `run "lazaret key recovery confirm"`
	default:
		return nil
	}
	return []finding{warn}
}
