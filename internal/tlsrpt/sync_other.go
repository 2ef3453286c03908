//go:build !unix

package tlsrpt

// syncDir does nothing where directories cannot be synced.
func syncDir(string) error { return nil }
