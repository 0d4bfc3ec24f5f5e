// Package mllp carries HL7 v2 messages over TCP and TLS (HL7 Transport Specification: MLLP, Release 1).
//
// A block is 0x0B, the content, 0x1C 0x0D. Content is opaque bytes here; segments and character sets are package
// hl7's matter. The standard allows in it every byte above 0x1F, and 0x0D; so UTF-16 and UTF-32 cannot be carried.
//
// Reading forgives what the field does: bytes outside blocks are skipped and counted, up to 64 KiB between two
// blocks; the 0x0D after 0x1C may be missing when 0x0B, the end of the stream or a quarter of a second of silence
// follows; 0x0B inside a block and 0x1C before any other byte are content, for cutting a message short is worse.
//
// Writing refuses 0x1C in content: a receiver that ends a block there would take, and acknowledge, a shortened message.
// It passes 0x0B, though the standard forbids it: real messages hold it (six of the sample files of this project do),
// and a receiver that begins anew there cannot give the answer that Client.Send asks for, so nothing is lost unseen.
//
// A Server calls its Handler once a block, in order, and writes the answer before it takes up the next block. An
// answer is written as soon as there is one: it never waits for a later block of the same connection. Blocks over
// MaxBlock end the connection with ErrTooLong, and their memory is bounded by MaxBlock whatever the peer sends.
// A Client keeps one connection, sends one block at a time and takes as its answer only a message whose MSA-2 is the
// MSH-10 that was sent; Pipeline sends ahead for those who ask for it.
//
// Release 2 is not spoken: its commit bytes (0x06, 0x15) are no answer to Client.Send, and a Server sends none.
package mllp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

const (
	startByte = 0x0B // <SB>, vertical tab
	endByte   = 0x1C // <EB>, file separator
	lastByte  = 0x0D // <CR>, carriage return
)

const (
	defaultMaxBlock         = 16 << 20
	defaultMaxConns         = 1024
	defaultMaxConnsPerPeer  = 128
	defaultIdleTimeout      = 30 * time.Minute
	defaultReadTimeout      = time.Minute
	defaultWriteTimeout     = 30 * time.Second
	defaultAnswerTimeout    = 30 * time.Second
	defaultConnectTimeout   = 10 * time.Second
	defaultDrainTimeout     = 30 * time.Second
	defaultKeepAlive        = 15 * time.Second
	handshakeTimeout        = 10 * time.Second
	maxStray                = 64 << 10 // bytes outside blocks, between two of them
	prefixLength            = 4 << 10  // of an over-long block, for Refuser
	endWait                 = 250 * time.Millisecond
	lingerAfterDrain        = 500 * time.Millisecond
	lingerAfterTooLong      = 5 * time.Second
	firstBuffer             = 4 << 10
	handOver                = 64 << 10 // blocks from this size on leave with their buffer instead of being copied
	keptAnswerBuffer        = 64 << 10
	emptyReads              = 100 // reads of nothing before io.ErrNoProgress, as in bufio
	minimumTLS              = tls.VersionTLS12
	longestBackoffByDefault = 30 * time.Second
	firstBackoffByDefault   = 250 * time.Millisecond
)

var (
	// ErrTooLong says that a block is longer than MaxBlock. The stream cannot be used any further.
	ErrTooLong = errors.New("mllp: block is longer than the limit")
	// ErrStray says that more than 64 KiB came without a block beginning: the peer speaks something else.
	ErrStray = errors.New("mllp: too many bytes outside a block")
	// ErrEmpty refuses to frame a block without content: the standard asks for one byte at least.
	ErrEmpty = errors.New("mllp: block is empty")
	// ErrClose may be returned by a Handler to end the connection without an answer.
	ErrClose = errors.New("mllp: close the connection without an answer")
	// ErrServerClosed is returned by Serve after Shutdown.
	ErrServerClosed = errors.New("mllp: server is shut down")
	// ErrClientClosed is returned by Send after Close.
	ErrClientClosed = errors.New("mllp: client is closed")
)

// Causes inside a SendError.
var (
	ErrMismatch = errors.New("answer belongs to another message")
	ErrGarbage  = errors.New("answer is no acknowledgement")
	ErrTimeout  = errors.New("no answer in time")
	ErrClosed   = errors.New("connection was closed by the peer")
)

// A ContentError says where content holds 0x1C, which cannot be carried. In HL7 text it is written as \X1C\.
type ContentError struct {
	Offset int // from 0
}

func (e *ContentError) Error() string {
	return fmt.Sprintf("mllp: byte 0x1C at offset %d cannot be carried inside a block; escape it first", e.Offset)
}

// within turns a limit into a deadline. None: the zero time.
func within(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// sooner returns the earlier of two deadlines, where the first may be none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// orDefault: zero means the default and below zero no limit, which within understands.
func orDefault(d, byDefault time.Duration) time.Duration {
	if d == 0 {
		return byDefault
	}
	return d
}

// past wakes whatever waits on a connection.
func past() time.Time { return time.Unix(1, 0) }
