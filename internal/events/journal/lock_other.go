//go:build !unix

package journal

import (
	"os"
	"path/filepath"
)

// lockDir only makes the file: there is no lock that ends with the process.
func lockDir(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
}
