package seal

import (
	"fmt"
	"io/fs"
	"os"
)

// tempPrefix marks files that a crash may leave behind half-written. Nothing reads them.
const tempPrefix = ".tmp-"

// checkPrivateDir refuses a directory that others may enter, or that is somebody else's.
func checkPrivateDir(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is no directory", dir)
	}
	return checkPrivate(dir, st, "chmod 700")
}

// checkPrivate refuses what others than its owner may touch, or what is somebody else's. fix is the command that helps.
func checkPrivate(path string, st fs.FileInfo, fix string) error {
	if m := st.Mode().Perm(); m&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, so that others may use it: run %q", path, m, fix+" "+path)
	}
	if uid, me, known := owner(st); known && uid != me {
		return fmt.Errorf("%s belongs to user %d and this program runs as user %d: run %q", path, uid, me, fmt.Sprintf("chown %d %s", me, path))
	}
	return nil
}

// syncDir makes names in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// eraseFile overwrites a file, makes that last, and unlinks it.
func eraseFile(path string) error {
	if err := overwrite(path); err != nil {
		return err
	}
	return os.Remove(path)
}

func overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil {
		_, err = f.Write(make([]byte, st.Size()))
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
