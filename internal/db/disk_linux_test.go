package db

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDisksAreLookedAtAllTheWayDown builds what the kernel shows in /sys for disks that stand on one another.
func TestDisksAreLookedAtAllTheWayDown(t *testing.T) {
	sys := t.TempDir()
	device := func(number, path, uuid string, slaves ...string) {
		dir := filepath.Join(sys, "devices", path)
		for _, d := range []string{filepath.Join(dir, "slaves"), filepath.Join(sys, "dev", "block")} {
			if err := os.MkdirAll(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if uuid != "" {
			write(t, filepath.Join(dir, "dm", "uuid"), uuid+"\n")
		}
		for _, s := range slaves {
			if err := os.Symlink(filepath.Join(sys, "devices", s), filepath.Join(dir, "slaves", filepath.Base(s))); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(dir, filepath.Join(sys, "dev", "block", number)); err != nil {
			t.Fatal(err)
		}
	}
	device("8:0", "sda", "")
	device("8:1", "sda/sda1", "")
	write(t, filepath.Join(sys, "devices", "sda", "sda1", "partition"), "1\n")
	device("253:0", "dm-0", "CRYPT-LUKS2-0123456789abcdef-root", "sda/sda1")
	device("253:1", "dm-1", "LVM-abc", "dm-0")
	device("253:2", "dm-2", "LVM-def", "dm-0", "sda")
	device("9:0", "md0", "", "dm-1", "dm-0")
	device("9:1", "md0/md0p1", "")
	write(t, filepath.Join(sys, "devices", "md0", "md0p1", "partition"), "1\n")
	for _, c := range []struct {
		name, number    string
		seen, encrypted bool
	}{
		{"a disk", "8:0", true, false},
		{"its partition", "8:1", true, false},
		{"LUKS", "253:0", true, true},
		{"LVM on LUKS", "253:1", true, true},
		{"LVM on LUKS and on a bare disk", "253:2", true, false},
		{"RAID on LUKS", "9:0", true, true},
		{"a partition of that", "9:1", true, true},
		{"what the kernel does not show", "7:7", false, false},
	} {
		if seen, encrypted := deviceEncrypted(sys, c.number); seen != c.seen || encrypted != c.encrypted {
			t.Errorf("%s: seen %v, encrypted %v, want %v, %v", c.name, seen, encrypted, c.seen, c.encrypted)
		}
	}
	mounts := filepath.Join(sys, "mountinfo")
	write(t, mounts, "22 27 0:21 / /proc rw,relatime - proc proc rw\n33 1 0:40 /@ / rw shared:1 - btrfs /dev/mapper/root rw,ssd\n")
	if got := mountSource(mounts, unix.Mkdev(0, 40)); got != "/dev/mapper/root" {
		t.Errorf("the mount of a file system without a device of its own: %q", got)
	}
	if got := mountSource(mounts, unix.Mkdev(0, 41)); got != "" {
		t.Errorf("what is not mounted: %q", got)
	}
	if seen, _ := diskOf(filepath.Join(sys, "nowhere")); seen {
		t.Error("a folder that is not there was seen")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
