//go:build !linux

package control

import (
	"errors"
	"fmt"
	"net"
)

// peerUser fails: how to ask this system's kernel is not written, and without an answer nobody is let in.
func peerUser(net.Conn) (uid uint32, err error) {
	return 0, errors.New("peer credentials are known on Linux only")
}

func shorten(path string) (name string, release func(), err error) {
	if len(path) > maxSocketName {
		return "", nil, fmt.Errorf("control socket %s: the path is longer than %d bytes: set control.socket to a shorter one", path, maxSocketName)
	}
	return path, func() {}, nil
}
