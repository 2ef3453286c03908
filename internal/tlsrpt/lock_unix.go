//go:build unix && !solaris && !illumos && !aix

package tlsrpt

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes a lock that ends with the file, or fails at once.
func lockFile(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// syncDir sees to it that what was renamed in a directory stays renamed.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
