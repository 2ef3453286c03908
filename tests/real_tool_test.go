package tests

import (
	"os"
	"os/exec"
	"testing"
)

// realTool finds a program of Debian's. Where the real parts of tests/real must be,
// this one must be, too.
func realTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("TLSCONTROL_REAL") == "required":
		t.Fatalf("TLSCONTROL_REAL=required, but there is no %s: %v", name, err)
	default:
		t.Skipf("SKIPPED: there is no %s: %v", name, err)
	}
	return path
}
