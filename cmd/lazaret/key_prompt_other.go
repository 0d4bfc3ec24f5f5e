//go:build !linux

package main

import "errors"

func (p *program) askSecret(what string) (string, error) {
	return "", errors.New("the " + what + " cannot be typed on this system: give it by reference, passphrase:file:PATH or passphrase:env:NAME")
}
