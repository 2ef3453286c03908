package real

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// hang ends a test that would hang; nothing asserts how long things take.
const hang = 60 * time.Second

// daemon is a process that runs until the test ends.
type daemon struct {
	*testing.T
	name   string
	log    string // file with what it said
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // why it exited
}

// start runs a process in a group of its own. What it says goes to a file, and
// into the test's log if the test fails.
func start(t *testing.T, name string, cmd *exec.Cmd) *daemon {
	t.Helper()
	d := &daemon{T: t, name: name, cmd: cmd, exited: make(chan struct{})}
	out, err := os.CreateTemp(t.TempDir(), name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	d.log, cmd.Stdout, cmd.Stderr = out.Name(), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running.Store(cmd.Process.Pid, true)
	go func() {
		d.err = cmd.Wait()
		close(d.exited)
	}()
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, d.said())
		}
	})
	return d
}

// said is what the process wrote so far.
func (d *daemon) said() string {
	d.Helper()
	text, err := os.ReadFile(d.log)
	if err != nil {
		d.Error(err)
	}
	return string(text)
}

// stop ends the process as an operator does, and its whole group if that is not
// enough.
func (d *daemon) stop() {
	d.Helper()
	d.signal(d.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-d.exited:
	case <-time.After(hang):
		d.Errorf("%s did not stop", d.name)
	}
	d.signal(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.exited
	running.Delete(d.cmd.Process.Pid)
}

// running has the process groups that run now, by number.
var running sync.Map

// interrupted ends them when the tests are told to end: they are not in our own
// group, and would stay.
func interrupted() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt, syscall.SIGTERM)
	<-told
	for pid := range running.Range {
		syscall.Kill(-pid.(int), syscall.SIGKILL)
	}
	os.RemoveAll(workspace)
	os.Exit(1)
}

func (d *daemon) signal(pid int, sig syscall.Signal) {
	d.Helper()
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		d.Error(err)
	}
}

// accepts waits until the process accepts connections at all addresses.
func (d *daemon) accepts(addresses ...string) {
	d.Helper()
	for _, address := range addresses {
		d.eventually("listens on "+address, func() bool {
			c, err := net.Dial("tcp", address)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
}

// eventually waits until a condition holds, and no longer than the process lives.
func (d *daemon) eventually(what string, holds func() bool) {
	d.Helper()
	deadline := time.Now().Add(hang)
	for !holds() {
		select {
		case <-d.exited:
			d.Fatalf("%s ended: %v", d.name, d.err)
		default:
		}
		if time.Now().After(deadline) {
			d.Fatalf("%s: never came true: %s", d.name, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// publicDir is a directory for a test that other users may enter.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(workspace, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(workspace, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// write makes a file that everybody may read, and its directories.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// makeDirs makes directories that belong to a user.
func makeDirs(t *testing.T, owner string, dirs ...string) {
	t.Helper()
	account, err := user.Lookup(owner)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	for _, dir := range dirs {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(dir, uid, gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// networks counts from a number drawn at random, so that no two tests get the same
// network, and other processes that draw hardly ever.
var networks atomic.Uint32

func init() { networks.Store(rand.Uint32N(254 << 8)) }

// network returns n addresses of a loopback network that nobody else has.
func network(n int) []string {
	drawn := networks.Add(1) % (254 << 8)
	prefix := fmt.Sprintf("127.%d.%d.", drawn>>8+1, drawn&0xff)
	ips := make([]string, n)
	for i := range ips {
		ips[i] = prefix + strconv.Itoa(i+2)
	}
	return ips
}

// addresses draws n loopback addresses for a test, with a port that is free on all
// of them. It is below those that systems give to whoever asks for any (from 32768 on
// Linux), which somebody could get on all addresses before a server starts here.
func addresses(t *testing.T, n int) (ips []string, port int) {
	t.Helper()
	var failure error
	for range 50 {
		ips, port = network(n), 10_000+rand.IntN(20_000)
		if failure = free(port, ips...); failure == nil {
			return ips, port
		}
	}
	t.Fatal(failure)
	return nil, 0
}

// free reports whether nobody listens on a port.
func free(port int, ips ...string) error {
	for _, ip := range ips {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", ip, port))
		if err != nil {
			return err
		}
		l.Close()
	}
	return nil
}

// fill replaces the values in braces: "{dir}" by the value that follows "dir".
func fill(text string, values ...string) string {
	for i := 0; i < len(values); i += 2 {
		text = strings.ReplaceAll(text, "{"+values[i]+"}", values[i+1])
	}
	return text
}
