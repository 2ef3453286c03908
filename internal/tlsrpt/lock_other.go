//go:build !unix || solaris || illumos || aix

package tlsrpt

import "os"

// lockFile does nothing where there is no flock: two processes in one directory
// may then send one report each.
func lockFile(*os.File) error { return nil }

// syncDir does nothing where directories cannot be synced.
func syncDir(string) error { return nil }
