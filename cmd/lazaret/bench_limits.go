package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/hospital"
)

// medianSync writes 4 KiB into a file that is reused, and syncs it, as a write-ahead log is. It is the least that a durable
// answer costs on this disk.
func medianSync(path string, long time.Duration) (time.Duration, error) {
	const size, write = 8 << 20, 4 << 10
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	defer os.Remove(path)
	defer f.Close()
	if _, err := f.Write(bytes.Repeat([]byte{1}, size)); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	block := bytes.Repeat([]byte{2}, write)
	var times []time.Duration
	for end := time.Now().Add(long); time.Now().Before(end); {
		start := time.Now()
		if _, err := f.WriteAt(block, int64(len(times)*write%size)); err != nil {
			return 0, err
		}
		if err := dataSync(f); err != nil {
			return 0, fmt.Errorf("fdatasync: %w", err)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// measureParse parses the standard message and reads four fields, again and again on one core.
func measureParse(long time.Duration) (gbs, nanos float64) {
	block := hospital.Standard(1)
	paths := [...]hl7.Path{hl7.MustPath("MSH-9.1"), hl7.MustPath("PID-3.1"), hl7.MustPath("PID-5.1"), hl7.MustPath("PV1-2")}
	var m hl7.Message
	n, found := 0, 0
	start := time.Now()
	for took := time.Duration(0); took < long; took = time.Since(start) {
		for range 1000 {
			if m.Reset(block) != nil {
				return 0, 0
			}
			for _, p := range paths {
				if raw, ok := m.Raw(p); ok {
					found += len(raw)
				}
			}
		}
		n += 1000
	}
	took := time.Since(start)
	if found == 0 {
		return 0, 0
	}
	return float64(n) * float64(len(block)) / took.Seconds() / 1e9, float64(took.Nanoseconds()) / float64(n)
}

// measureScan looks through memory for a byte that is not there.
func measureScan(long time.Duration) (gbs float64) {
	memory := bytes.Repeat(hospital.Standard(1), (64<<20)/hospital.StandardSize)
	n := 0
	start := time.Now()
	for took := time.Duration(0); took < long; took = time.Since(start) {
		if bytes.IndexByte(memory, 0) >= 0 {
			return 0
		}
		n++
	}
	return float64(n) * float64(len(memory)) / time.Since(start).Seconds() / 1e9
}
