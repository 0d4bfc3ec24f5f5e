//go:build unix

package seal

import (
	"io/fs"
	"os"
	"syscall"
)

// owner tells whose a file is and who we are.
func owner(st fs.FileInfo) (uid, me uint32, known bool) {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return s.Uid, uint32(os.Geteuid()), true
}

// lockFile takes the lock of an open file, and waits for it. The kernel gives it back when the file is closed or the process
// dies, however it dies.
func lockFile(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			return err
		}
	}
}
