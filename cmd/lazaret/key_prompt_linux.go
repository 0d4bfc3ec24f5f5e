package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// askSecret asks at the terminal, without showing what is typed.
func (p *program) askSecret(what string) (string, error) {
	in, ok := p.stdin.(*os.File)
	if !ok || !isTerminal(in) {
		return "", hint(errors.New("the "+what+" is to be typed, and there is no terminal"), "give it by reference: file:PATH, or env:NAME")
	}
	state, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil {
		return "", err
	}
	quiet := *state
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &quiet); err != nil {
		return "", err
	}
	defer unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, state)
	fmt.Fprintf(p.stderr, "%s: ", what)
	line, err := bufio.NewReader(in).ReadString('\n')
	fmt.Fprintln(p.stderr)
	return strings.TrimRight(line, "\r\n"), err
}
