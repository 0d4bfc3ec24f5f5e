//go:build !unix

package mllp

import (
	"errors"
	"net"
	"syscall"
)

// isReset says whether the peer has torn the connection down. 10053 and 10054 are Windows' own numbers for it.
func isReset(err error) bool {
	var n syscall.Errno
	return errors.As(err, &n) && (n == 10053 || n == 10054)
}

// peek cannot look without waiting here; the caller reads for a millisecond instead.
func peek(net.Conn) (silent, known bool) { return false, false }
