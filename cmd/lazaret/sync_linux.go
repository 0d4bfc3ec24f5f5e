package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// dataSync brings a file's content to stable storage, and of its metadata what is needed to read that.
func dataSync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// inMemory says whether a folder lies in memory, where a sync costs nothing and keeps nothing.
func inMemory(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && (s.Type == unix.TMPFS_MAGIC || s.Type == unix.RAMFS_MAGIC)
}
