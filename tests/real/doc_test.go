// Package real lets the product meet what it will meet: mail servers, name
// servers and a TLS examiner that others wrote, as Debian packages them.
//
//   - Postfix and Exim receive mail from a real maddy process; what they filed is
//     compared octet by octet with what was handed in.
//   - Unbound validates zones that NSD serves and ldns signed, well and badly,
//     below a root of their own; our resolver must tell which is which.
//   - Postfix's posttls-finger and "maddy tls probe" examine a matrix of hosts with
//     good and bad certificates and TLSA records; both must come to the same
//     verdict. Run the test with -v to see the table.
//
// The parts are installed by tests/real/install, which .ci/run calls first. Each
// test starts its own, in the foreground, with a configuration and directories
// of its own, on loopback addresses drawn at random, and stops them; nothing of
// the machine's mail or name service is read or touched. They drop privileges by
// themselves, so the tests must be root.
//
// Where a part is missing, the tests that need it are skipped, and say so; run with
// -count=1 after installing it, since a skipped test is a cached success. With
// TLSCONTROL_REAL=required in the environment they fail instead: so that
// nothing is skipped unseen where the parts are meant to be.
package real

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// workspace is a directory for what all tests share.
var workspace string

// binary is the custom maddy, built when the first test needs it.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(workspace, "maddy")
	if out, err := exec.Command("go", "build", "-o", path, "tlscontrol/cmd/maddy").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building cmd/maddy: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if missing := missingParts(); missing != "" {
		fmt.Fprintf(os.Stderr, "SKIPPED in part: %s; see tests/real/install\n", missing)
	}
	var err error
	if workspace, err = os.MkdirTemp("", "tlscontrol-real-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(workspace)
	go interrupted()
	return m.Run()
}
