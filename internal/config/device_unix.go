//go:build unix

package config

import (
	"os"
	"syscall"
)

// sameDevice says whether two paths, or the nearest folders above them that exist, lie on one file system.
func sameDevice(a, b string) (same, known bool) {
	deviceA, okA := device(existing(a))
	deviceB, okB := device(existing(b))
	return deviceA == deviceB, okA && okB
}

func device(path string) (uint64, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(s.Dev), true //nolint:unconvert // int32 on some systems
}
