package main

import (
	"context"
	"crypto/fips140"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

const helpHead = `Lazaret moves HL7 v2 messages between systems. It acknowledges only what is safe on disk, keeps everything sealed, and
delivers in order.

Usage: lazaret COMMAND [OPTION...]

`

const helpTail = `
Every command has --help, with examples. Commands about the running service find it by the configuration: --config FILE,
else lazaret.yaml here, else /etc/lazaret/lazaret.yaml.

Exit codes: 0 done, 1 it did not work or something was found, 2 wrong use.

First steps:
    lazaret demo                              see it work; needs nothing, writes ./lazaret-demo
    lazaret check --config site.yaml          what is wrong or unsafe in a configuration
    lazaret serve --config site.yaml          run it
`

const helpHelp = `Show what there is, or how a command is used.

Usage: lazaret help [COMMAND...]

Example: lazaret help message show
`

const versionHelp = `Say what this binary is: version, commit, Go, and whether Go's FIPS 140-3 module is switched on.

Usage: lazaret version [--json]

    --json    the same as JSON

Example: lazaret version
`

// helpOf is the text of the command that path leads to.
func helpOf(path []string) string {
	list, text := commands(), ""
	for _, name := range path {
		i := slices.IndexFunc(list, func(c command) bool { return c.name == name })
		if i < 0 || list[i].help == "" {
			return ""
		}
		list, text = list[i].nested, list[i].help
	}
	if text != "" {
		return text
	}
	var b strings.Builder
	b.WriteString(helpHead)
	for _, c := range commands() {
		if c.brief != "" {
			b.WriteString("    " + c.name + strings.Repeat(" ", 10-len(c.name)) + c.brief + "\n")
		}
	}
	return b.String() + helpTail
}

func (p *program) help(_ context.Context, args []string) error {
	text := helpOf(args)
	if text == "" {
		return usage("there is no command "+quoted(strings.Join(args, " ")), "help")
	}
	return p.show(text, nil)
}

// build is what version tells.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Changed bool   `json:"changed,omitempty"` // built from a tree with changes that are not in the commit
	Go      string `json:"go"`
	System  string `json:"system"`
	FIPS    bool   `json:"fips140"`
}

func thisBuild() build {
	b := build{Version: "devel", Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, FIPS: fips140.Enabled()}
	from, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if from.Main.Version != "" && from.Main.Version != "(devel)" {
		b.Version = from.Main.Version
	}
	for _, s := range from.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Changed = s.Value == "true"
		}
	}
	return b
}

func (p *program) version(_ context.Context, args []string) error {
	f := newFlags("version")
	asJSON := f.Bool("json", false, "")
	if err := f.noArguments(args); err != nil {
		return err
	}
	b := thisBuild()
	if *asJSON {
		return p.json(b)
	}
	text := "lazaret " + b.Version
	if b.Commit != "" {
		text += " (" + b.Commit[:min(12, len(b.Commit))]
		if b.Changed {
			text += ", changed"
		}
		text += ")"
	}
	mode := "off"
	if b.FIPS {
		mode = "on"
	}
	p.printf("%s, %s, %s, FIPS 140-3 module %s\n", text, b.Go, b.System, mode)
	return nil
}
