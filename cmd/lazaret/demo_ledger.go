package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A ledgerEntry is one line of a ledger: what the hospital sent and was answered, or what a receiver was given. The messages of
// the demo are invented, so control IDs and patient numbers may stand here in the clear.
type ledgerEntry struct {
	Time   time.Time `json:"time"`
	What   string    `json:"what"`
	Feed   string    `json:"feed,omitempty"` // adt or oru
	Type   string    `json:"type,omitempty"` // ADT^A01
	ID     string    `json:"id"`             // MSH-10
	SHA256 string    `json:"sha256,omitempty"`

	// Of the hospital's "sent" only. What the laboratory must get, computed by the hospital without our libraries, and whose
	// messages it must get in order.
	Laboratory string   `json:"laboratory,omitempty"`
	Patients   []string `json:"patients,omitempty"`
}

// What happened, in the hospital's ledger and in a receiver's.
const (
	ledgerSent     = "sent"     // about to be sent, for the first time
	ledgerAccepted = "accepted" // answered AA
	ledgerRefused  = "refused"  // the hospital: answered AE or AR; a receiver: it answered so
	ledgerTaken    = "taken"    // a receiver: answered AA
)

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// A ledger is a file that only grows. Each line is one write, so that a killed process leaves at most one that is cut.
type ledger struct {
	mu   sync.Mutex
	file *os.File
}

func ledgerPath(dir, name string) string { return filepath.Join(dir, "ledgers", name+".jsonl") }

func openLedger(dir, name string) (*ledger, error) {
	path := ledgerPath(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &ledger{file: f}, nil
}

func (l *ledger) write(e ledgerEntry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = l.file.Write(append(line, '\n'))
	return err
}

func (l *ledger) close() error { return l.file.Close() }

// readLedger reads all entries in their order; a ledger that was never opened is empty.
func readLedger(dir, name string) (list []ledgerEntry, err error) {
	text, err := os.ReadFile(ledgerPath(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	in := bufio.NewScanner(bytes.NewReader(text))
	in.Buffer(nil, 1<<20)
	for n := 1; in.Scan(); n++ {
		var e ledgerEntry
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%s:%d: not a line of a ledger: %w", ledgerPath(dir, name), n, err)
		}
		list = append(list, e)
	}
	return list, in.Err()
}
