package main

import (
	"bufio"
	"context"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// demonstration is a running "maddy tls demo".
type demonstration struct {
	*testing.T
	cmd *exec.Cmd
	out *bufio.Scanner
	tmp string
}

// newDemo prepares the command with a temporary directory of its own.
func newDemo(t *testing.T, args ...string) *demonstration {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	t.Cleanup(cancel)
	d := &demonstration{T: t, tmp: t.TempDir()}
	d.cmd = exec.CommandContext(ctx, "maddy", append([]string{"tls", "demo"}, args...)...)
	d.cmd.Env = append(os.Environ(), "TMPDIR="+d.tmp)
	return d
}

// startDemo runs the command.
func startDemo(t *testing.T, args ...string) *demonstration {
	t.Helper()
	d := newDemo(t, args...)
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = d.cmd.Stdout
	d.out = bufio.NewScanner(out)
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return d
}

// waitFor reads the output up to a line that matches, and returns the match.
func (d *demonstration) waitFor(pattern string) []string {
	d.Helper()
	re := regexp.MustCompile(pattern)
	var said strings.Builder
	for d.out.Scan() {
		if match := re.FindStringSubmatch(d.out.Text()); match != nil {
			return match
		}
		said.WriteString(d.out.Text() + "\n")
	}
	d.Fatalf("no line matches %q:\n%s", pattern, said.String())
	return nil
}

// signal sends a signal and returns the exit code, which is -1 for a killed process, and what was said until then.
func (d *demonstration) signal(sig os.Signal) (code int, said string) {
	d.Helper()
	if err := d.cmd.Process.Signal(sig); err != nil {
		d.Error(err)
	}
	for d.out.Scan() { // to its end, which Wait must not forestall
		said += d.out.Text() + "\n"
	}
	_ = d.cmd.Wait()
	return d.cmd.ProcessState.ExitCode(), said
}

// gone waits until nobody listens at addr any more.
func (d *demonstration) gone(addr string) {
	d.Helper()
	for deadline := time.Now().Add(hang); ; time.Sleep(time.Millisecond) {
		c, err := smtp.Dial(addr)
		if err != nil {
			return
		}
		c.Close()
		if time.Now().After(deadline) {
			d.Fatal("the server is still there")
		}
	}
}

// files counts what is in the temporary directory, by pattern.
func (d *demonstration) files(pattern string) int {
	d.Helper()
	names, err := filepath.Glob(filepath.Join(d.tmp, pattern))
	if err != nil {
		d.Fatal(err)
	}
	return len(names)
}

// TestDemoKeep: the server stays for play until Ctrl-C, its files for good.
func TestDemoKeep(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "--keep")
	log := d.waitFor(`^Delivery log +(.*)$`)[1]
	addr := d.waitFor(`curl -sS smtp://(\S+) `)[1]
	auth := smtp.PlainAuth("", "demo@tlscontrol.example", "demo", "127.0.0.1")
	err := smtp.SendMail(addr, auth, "alice@required-verify.example", []string{"carol@good-certificate.example"},
		[]byte("From: <alice@required-verify.example>\r\nSubject: hello\r\n\r\nhello\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(hang); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), `"recipient":"carol@good-certificate.example"`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the message is not in the log")
		}
	}
	if code, said := d.signal(os.Interrupt); code != 0 {
		t.Errorf("exit code %d\n%s", code, said)
	}
	d.gone(addr)
	if d.files("*/maddy.conf") != 1 || d.files("*/deliveries.jsonl") != 1 || d.files("*") != 1 {
		t.Error("the files, or more, are not there")
	}
}

// TestDemoInterrupted: whoever stops it before the end finds nothing left of it.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			for !interrupted(t, sig) {
			}
		})
	}
}

// interrupted reports whether the signal came in time, which cannot be made sure of: the command is quick.
func interrupted(t *testing.T, sig os.Signal) bool {
	t.Helper()
	d := startDemo(t)
	d.waitFor(`^TLS connection control`)
	code, said := d.signal(sig)
	if strings.Contains(said, "as promised") {
		return false
	}
	if code != exitFailure || !strings.HasSuffix(said, "maddy: interrupted\n") {
		t.Errorf("exit code %d, said:\n%s", code, said)
	}
	if n := d.files("*"); n != 0 {
		t.Errorf("%d files are left", n)
	}
	return true
}

// TestDemoPipeClosed: the same if nobody reads.
func TestDemoPipeClosed(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	d := newDemo(t)
	var said strings.Builder
	d.cmd.Stdout, d.cmd.Stderr = w, &said
	_ = d.cmd.Run()
	if code := d.cmd.ProcessState.ExitCode(); code != exitFailure || !strings.Contains(said.String(), "broken pipe") {
		t.Errorf("exit code %d, said %q", code, said.String())
	}
	if n := d.files("*"); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

// TestDemoKilled: the server does not outlive the command.
func TestDemoKilled(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "--keep")
	addr := d.waitFor(`curl -sS smtp://(\S+) `)[1]
	d.signal(os.Kill)
	d.gone(addr)
}
