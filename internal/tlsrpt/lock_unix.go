//go:build unix && !solaris && !illumos && !aix

package tlsrpt

import (
	"os"
	"syscall"
)

// lockFile takes a lock that ends with the file, or fails at once.
func lockFile(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
