//go:build unix

package tlsrpt

import (
	"errors"
	"os"
)

// syncDir sees to it that what was renamed in a directory stays renamed.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
