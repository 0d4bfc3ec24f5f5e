//go:build unix

package mllp

import (
	"errors"
	"net"
	"syscall"
)

// isReset says whether the peer has torn the connection down.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}

// peek looks, without waiting, whether a connection holds neither data nor its end. Not known: it is no socket.
func peek(nc net.Conn) (silent, known bool) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, false
	}
	var b [1]byte
	var got error
	if err := raw.Read(func(fd uintptr) bool {
		_, _, got = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		return true
	}); err != nil {
		return false, false
	}
	return got == syscall.EAGAIN || got == syscall.EWOULDBLOCK, true
}
