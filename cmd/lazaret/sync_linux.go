package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// dataSync brings a file's content to stable storage, and of its metadata what is needed to read that.
func dataSync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
