package db

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// diskOf says whether the disk below a folder is encrypted by dm-crypt (LUKS), as far as the kernel shows it.
func diskOf(path string) (seen, encrypted bool) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return false, false
	}
	dev := st.Dev
	if unix.Major(dev) == 0 { // a file system over several devices, or over none: its mount names one
		source := mountSource("/proc/self/mountinfo", dev)
		if !strings.HasPrefix(source, "/dev/") || unix.Stat(source, &st) != nil {
			return false, false
		}
		dev = st.Rdev
	}
	return deviceEncrypted("/sys", fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)))
}

// mountSource is what is mounted as dev (proc(5), mountinfo: the second field behind the dash).
func mountSource(mountinfo string, dev uint64) string {
	f, err := os.Open(mountinfo)
	if err != nil {
		return ""
	}
	defer f.Close()
	number := fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		_, rest, ok := strings.Cut(lines.Text(), " - ")
		if behind := strings.Fields(rest); ok && len(fields) > 2 && fields[2] == number && len(behind) > 1 {
			return behind[1]
		}
	}
	return ""
}

// deviceEncrypted looks at a block device and at what it stands on: encrypted is only what is so all the way. The kernel names
// dm-crypt in dm/uuid.
func deviceEncrypted(sys, number string) (seen, encrypted bool) {
	dir, err := filepath.EvalSymlinks(filepath.Join(sys, "dev", "block", number))
	if err != nil {
		return false, false
	}
	return folderEncrypted(dir)
}

func folderEncrypted(dir string) (seen, encrypted bool) {
	if id, err := os.ReadFile(filepath.Join(dir, "dm", "uuid")); err == nil && strings.HasPrefix(string(id), "CRYPT-") {
		return true, true
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		return folderEncrypted(filepath.Dir(dir))
	}
	below, err := os.ReadDir(filepath.Join(dir, "slaves"))
	if err != nil || len(below) == 0 {
		return true, false
	}
	for _, b := range below {
		one, err := filepath.EvalSymlinks(filepath.Join(dir, "slaves", b.Name()))
		if err != nil {
			return false, false
		}
		if seen, encrypted := folderEncrypted(one); !seen || !encrypted {
			return seen, false
		}
	}
	return true, true
}
