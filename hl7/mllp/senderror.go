package mllp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// A SendError says at which step a block failed and whether the receiver may have it. After any SendError the
// connection is closed, so that an answer that comes late cannot be taken for the answer to another block.
//
// Err wraps ErrMismatch, ErrGarbage, ErrTimeout, ErrClosed, ErrTooLong, a *ContentError, the context's error, or what
// the network or TLS has said.
type SendError struct {
	Op   string // "frame", "dial", "handshake", "write" or "answer"
	Addr string
	// Sent: at least one byte of the block may have reached the receiver, so sending again may repeat it there.
	Sent bool
	// Ahead counts the blocks after the failed one that Pipeline had begun to send: they too may have arrived.
	Ahead int
	Err   error
}

func (e *SendError) Error() string {
	text := fmt.Sprintf("mllp: send to %s: %s: %v", e.Addr, e.Op, e.Err)
	if e.Sent {
		text += " (the block may have arrived)"
	}
	return text
}

func (e *SendError) Unwrap() error { return e.Err }

// cause gives an error of the connection its name. An ended context closes connections too, so it is asked first.
func cause(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrTimeout
	case err == ErrStray:
		return fmt.Errorf("%w: %w", ErrGarbage, err)
	case err == io.EOF:
		return ErrClosed
	case err == io.ErrUnexpectedEOF:
		return fmt.Errorf("%w inside its answer", ErrClosed)
	case isReset(err):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	default:
		return err
	}
}

// handshakeRefused: in TLS 1.3 a client may write before the server has judged its certificate. An alert about the
// handshake is then the first answer, and says that nothing that was written has been read (RFC 8446, 6.2). The alert
// arrives in a type that crypto/tls does not export, so it is known by its text.
func handshakeRefused(err error) bool {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return false
	}
	for _, alert := range [...]tls.AlertError{
		40,                 // handshake_failure
		42, 43, 44, 45, 46, // bad, unsupported, revoked, expired, unknown certificate
		48, 49, // unknown_ca, access_denied
		116, // certificate_required
	} {
		if op.Err.Error() == alert.Error() {
			return true
		}
	}
	return false
}
