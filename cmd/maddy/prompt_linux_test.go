package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// conversation is a maddy that runs on a pseudo-terminal, with stderr apart from it.
type conversation struct {
	t      *testing.T
	cmd    *exec.Cmd
	typed  *os.File      // what is written to it was typed
	tty    *os.File      // what maddy reads from
	stderr *bufio.Reader // the questions
	shown  *screen
}

// screen collects what the terminal shows.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// TestPasswordIsNotShown types a password twice, each time after the terminal was told not to show it.
func TestPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	c := converse(t, "creds", "create", "alice")
	c.waitFor("New password for alice: ")
	c.waitEcho(false)
	c.typeLine("correct horse")
	c.waitFor("The same again: ")
	c.waitEcho(false)
	c.typeLine("correct horse")
	if rest, err := io.ReadAll(c.stderr); err != nil || string(rest) != "\n" {
		t.Errorf("said %q, %v", rest, err)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Error(err)
	}
	c.waitEcho(true)
	// Proves that all that was typed before has been shown, as far as it was.
	c.typeLine("the end")
	c.poll("the end", func() bool { return strings.Contains(c.shown.String(), "the end") })
	if strings.Contains(c.shown.String(), "horse") {
		t.Errorf("the terminal shows %q", c.shown)
	}
}

// TestInterruptedPassword gives up at the question. The terminal must show again what is typed.
func TestInterruptedPassword(t *testing.T) {
	t.Parallel()
	c := converse(t, "creds", "create", "alice")
	c.waitFor("New password for alice: ")
	c.waitEcho(false)
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c.stderr); err != nil || string(rest) != "\nmaddy: interrupted\n" {
		t.Errorf("said %q, %v", rest, err)
	}
	if err := c.cmd.Wait(); c.cmd.ProcessState.ExitCode() != exitFailure {
		t.Errorf("exited with %v, want code %d", err, exitFailure)
	}
	c.waitEcho(true)
}

// converse starts maddy with args on a terminal of its own, and with a configuration that has credentials.
func converse(t *testing.T, args ...string) *conversation {
	t.Helper()
	dir := t.TempDir()
	conf := fmt.Sprintf(`state_dir %[1]s/state
runtime_dir %[1]s/run
auth.pass_table local_authdb {
    table sql_table {
        driver sqlite3
        dsn credentials.db
        table_name passwords
    }
}
smtp tcp://127.0.0.1:0
`, dir)
	file := filepath.Join(dir, "maddy.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &conversation{t: t, shown: new(screen)}
	c.typed, c.tty = openTerminal(t)
	go io.Copy(c.shown, c.typed) // until the terminal is closed

	ctx, cancel := context.WithTimeout(context.Background(), hang)
	t.Cleanup(cancel)
	c.cmd = exec.CommandContext(ctx, "maddy", append([]string{"--config", file}, args...)...)
	c.cmd.Stdin = c.tty
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stderr = bufio.NewReader(stderr)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// waitFor reads what maddy says until the end of question.
func (c *conversation) waitFor(question string) {
	c.t.Helper()
	var said strings.Builder
	for !strings.HasSuffix(said.String(), question) {
		b, err := c.stderr.ReadByte()
		if err != nil {
			c.t.Fatalf("instead of %q maddy said %q, then: %v", question, said.String(), err)
		}
		said.WriteByte(b)
	}
}

// waitEcho waits until the terminal shows what is typed, or does not.
func (c *conversation) waitEcho(want bool) {
	c.t.Helper()
	c.poll(fmt.Sprintf("echo %v", want), func() bool {
		var state syscall.Termios
		ioctl(c.t, c.tty, syscall.TCGETS, unsafe.Pointer(&state))
		return state.Lflag&syscall.ECHO != 0 == want
	})
}

// poll waits for a condition that nobody announces.
func (c *conversation) poll(what string, done func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(hang); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("still waiting for %s", what)
		}
	}
}

func (c *conversation) typeLine(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.typed, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

// openTerminal returns both ends of a new pseudo-terminal, which is closed when the test ends.
func openTerminal(t *testing.T) (typed, tty *os.File) {
	t.Helper()
	typed, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIPPED: no pseudo-terminals here, so that typing is not tested: %v", err)
	}
	t.Cleanup(func() { typed.Close() })
	var locked, number int32
	ioctl(t, typed, syscall.TIOCSPTLCK, unsafe.Pointer(&locked))
	ioctl(t, typed, syscall.TIOCGPTN, unsafe.Pointer(&number))
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return typed, tty
}

// ioctl does not use Fd, which would make reads of the file block its Close.
func ioctl(t *testing.T, file *os.File, request uintptr, arg unsafe.Pointer) {
	t.Helper()
	conn, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var errno syscall.Errno
	if err := conn.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(arg))
	}); err != nil {
		t.Fatal(err)
	}
	if errno != 0 {
		t.Fatalf("ioctl %#x: %v", request, errno)
	}
}
