// Package real lets the product meet what it will meet: mail servers, name
// servers and a TLS examiner that others wrote, as Debian packages them.
//
//   - Postfix and Exim receive mail from a real maddy process; what they filed is
//     compared octet by octet with what was handed in.
//
// The parts are installed by tests/real/install, which .ci/run calls first. Each
// test starts its own, in the foreground, with a configuration and directories
// of its own, on loopback addresses drawn at random, and stops them; nothing of
// the machine's mail or name service is read or touched. They drop privileges by
// themselves, so the tests must be root.
//
// Where a part is missing, the tests that need it are skipped, and say so. With
// TLSCONTROL_REAL=required in the environment they fail instead: so that
// nothing is skipped unseen where the parts are meant to be.
package real

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the custom maddy, built once.
var binary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if missing := missingParts(); missing != "" {
		fmt.Fprintf(os.Stderr, "SKIPPED in part: %s; see tests/real/install\n", missing)
	}
	dir, err := os.MkdirTemp("", "tlscontrol-real-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "maddy")
	build := exec.Command("go", "build", "-o", binary, "tlscontrol/cmd/maddy")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building cmd/maddy:", err)
		return 1
	}
	return m.Run()
}
