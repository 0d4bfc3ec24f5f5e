package main

// The rules for what goes to the terminal:
//
//   - Standard output holds what was asked for, so that it can be piped; everything else goes to standard error.
//   - Errors are "lazaret: what, where", then "hint: what next". Lower case, no full stop.
//   - Nothing that came from a message, a peer or a file reaches the terminal raw: control characters, and the marks that turn
//     the direction of writing, are shown escaped.
//   - Progress is redrawn in place on a terminal, and a plain line every few seconds elsewhere. It goes to standard error.
//   - No colour carries meaning, and there is none where NO_COLOR is set or the output is no terminal.

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
)

func isTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }

// print writes to standard output. An error there (a closed pipe) ends the process by SIGPIPE, so nobody looks at it.
func (p *program) print(s string) { io.WriteString(p.stdout, s) }

func (p *program) printf(format string, args ...any) { fmt.Fprintf(p.stdout, format, args...) }

// say writes to standard error: for the person, not for the pipe.
func (p *program) say(format string, args ...any) { fmt.Fprintf(p.stderr, format+"\n", args...) }

// json writes a value for programs to read.
func (p *program) json(v any) error {
	e := json.NewEncoder(p.stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// clean makes text safe for a terminal: control characters, and what turns the direction of writing, become escapes.
func clean(s string) string {
	safe := true
	for _, r := range s {
		if r != '\t' && !shown(r) {
			safe = false
			break
		}
	}
	if safe && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case shown(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += n
	}
	return b.String()
}

func shown(r rune) bool { return unicode.IsPrint(r) && !unicode.Is(unicode.Bidi_Control, r) }

// cut shortens text to width characters.
func cut(s string, width int) string {
	if width < 1 || utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// columns lays rows out below their heads, each column as wide as its widest cell. Nothing is behind the last.
func columns(head []string, rows [][]string) string {
	width := make([]int, len(head))
	for _, row := range append([][]string{head}, rows...) {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range append([][]string{head}, rows...) {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// A live area is progress on standard error: redrawn on a terminal, a line now and then elsewhere.
type live struct {
	p     *program
	lines int       // drawn, to be drawn over
	last  time.Time // when the plain line was written
}

const plainEvery = 5 * time.Second

// draw shows the lines. Elsewhere than on a terminal it is the plain line that is shown.
func (l *live) draw(lines []string, plain string) {
	if !l.p.live {
		if now := l.p.now(); plain != "" && now.Sub(l.last) >= plainEvery {
			if !l.last.IsZero() {
				l.p.say("%s", plain)
			}
			l.last = now
		}
		return
	}
	var b strings.Builder
	if l.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", l.lines)
	}
	for _, line := range lines {
		b.WriteString("\r\x1b[K" + cut(line, l.p.width-1) + "\n")
	}
	l.lines = len(lines)
	io.WriteString(l.p.stderr, b.String())
}

// bar is a share of a whole as a picture.
func bar(done, whole int64, width int) string {
	full := width
	if whole > 0 {
		full = int(min(done, whole) * int64(width) / whole)
	}
	return strings.Repeat("█", full) + strings.Repeat("·", width-full)
}

// since writes a time span as a person would.
func since(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
