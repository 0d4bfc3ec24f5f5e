package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A result is what one suite did. It is kept as DIR/SUITE.json between the calls of testsum.
type result struct {
	Suite     string
	Seconds   float64
	Passed    []string // names, "package.Test/sub"
	Failed    []note
	Skipped   []note // a path of ../shared is missing, and says so
	Elsewhere []note // must have run in another suite
}

// A note is one test with what it had to say.
type note struct{ Name, Text string }

func (r *result) ran() int { return len(r.Passed) + len(r.Failed) }

func load(dir, suite string) (*result, error) {
	b, err := os.ReadFile(filepath.Join(dir, suite+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return &result{Suite: suite}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read result of suite %s: %w", suite, err)
	}
	var r result
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read result of suite %s: %w", suite, err)
	}
	return &r, nil
}

func (r *result) save(dir string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write result of suite %s: %w", r.Suite, err)
	}
	if err := os.WriteFile(filepath.Join(dir, r.Suite+".json"), b, 0o600); err != nil {
		return fmt.Errorf("write result of suite %s: %w", r.Suite, err)
	}
	return nil
}
