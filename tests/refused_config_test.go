package tests

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// refusedTail completes the configurations: the same for all, behind them, so
// that line numbers are those of the file.
const refusedTail = `
state_dir {dir}/state
runtime_dir {dir}/run
hostname relay.example.com
`

// refusedEndpoint is for those that have none of their own.
const refusedEndpoint = `
smtp tcp://{ip}:2525 {
    tls off
    deliver_to &outbound
}
`

// TestRefusedConfig: nothing wrong in a configuration is passed over. Each file
// in testdata/refused has one mistake, and the message about it in its first
// line, as "# expected: ..."; {file}, {dir} and {ip} stand for what the test
// chooses. The process must end by itself, with that message.
func TestRefusedConfig(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/refused/*.conf")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d configurations, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".conf"), func(t *testing.T) {
			t.Parallel()
			refused(t, file)
		})
	}
}

func refused(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	want, ok := strings.CutPrefix(first, "# expected: ")
	if !ok {
		t.Fatalf("the first line is %q, not what is expected", first)
	}
	dir := t.TempDir()
	copied := filepath.Join(dir, "maddy.conf")
	replace := strings.NewReplacer("{file}", copied, "{dir}", dir, "{ip}", ownIP()).Replace
	conf := string(text) + refusedTail
	if !strings.Contains(conf, "deliver_to") {
		conf += refusedEndpoint
	}
	if err := os.WriteFile(copied, []byte(replace(conf)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := runToEnd(t, copied)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	var said []string
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if message, ok := strings.CutPrefix(line, "maddy: "); ok {
			said = append(said, message)
		}
	}
	if len(said) != 1 || said[0] != replace(want) {
		t.Errorf("maddy said\n%s\nwant\n%s", out, replace(want))
	}
}

// ownIP is a loopback address that no other test has, where the system has many.
func ownIP() string {
	ip := fmt.Sprintf("127.%d.%d.2", rand.IntN(254)+1, rand.IntN(256))
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		return "127.0.0.1"
	}
	l.Close()
	return ip
}

// runToEnd starts the process and returns what it said and its exit code.
func runToEnd(t *testing.T, conf string) (string, int) {
	t.Helper()
	var out lockedBuffer
	cmd := exec.Command(binary, "--config", conf, "run")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// A configuration that is taken has the process serve for ever.
	watchdog := time.AfterFunc(hang, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	_ = cmd.Wait() // the code says it
	return out.String(), cmd.ProcessState.ExitCode()
}
