package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestVisitByRoot asks as root before the first start of a server that runs as somebody else. A directory of root's would
// keep that server from its own cache.
func TestVisitByRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can visit a server of somebody else's")
	}
	const server = 65534
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	conf := filepath.Join(dir, "maddy.conf")
	for _, err := range []error{
		os.Mkdir(state, 0o700),
		os.WriteFile(filepath.Join(state, "old"), nil, 0o600), // somebody's, and not ours to remove
		os.Chown(state, server, server),
		os.WriteFile(conf, []byte(`
state_dir `+state+`
runtime_dir `+dir+`
hostname mx.example.org
mx_auth published {
    mtasts
}
target.remote_tls outbound {
    mx_auth &published
    resolver 127.0.0.1:1
}
openmetrics tcp://127.0.0.1:0 { }
`), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	maddy, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(maddy, "--config", conf, "tls", "explain", "--from", "a@example.com", "--to", "b@example.net")
	cmd.Args[0] = "maddy"
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 3 {
		t.Fatalf("exit code %d, want 3, since nobody answers:\n%s", code, out)
	}
	entries, err := os.ReadDir(state)
	if err != nil || len(entries) != 1 || entries[0].Name() != "old" {
		t.Errorf("in the state directory are %v, %v; want what was there alone", entries, err)
	}
}
