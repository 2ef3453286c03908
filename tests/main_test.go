// Package tests runs the real maddy process with the plugin, end to end: real
// sockets, real TLS, a real DNS server, one promise a file.
//
// Each test writes a configuration, starts the process, sends mail through its
// submission endpoint and looks at all four sides: the wire (what arrived at
// the MX hosts, and what of it in clear), the SMTP status, the delivery-status
// document, and the counters. Nothing is shared between tests but the binary,
// and nothing leaves the loopback addresses.
package tests

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
	dir, err := os.MkdirTemp("", "tlscontrol-tests-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "maddy")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "tlscontrol/cmd/maddy")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building cmd/maddy:", err)
		return 1
	}
	return m.Run()
}
