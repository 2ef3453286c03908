package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// portTries is how many ports are tried: somebody may take the one that was free a moment ago.
	portTries = 3
	// farewell is how long the server may take to end.
	farewell = time.Second
)

// server is the maddy process.
type server struct {
	process *os.Process
	output  string        // file with what it says
	exited  chan struct{} // closed when it has ended
}

// startServer runs maddy and waits until it accepts mail.
func startServer(ctx context.Context, w *world, o Options) (*server, error) {
	for try := 1; ; try++ {
		if err := w.configure(); err != nil {
			return nil, err
		}
		s, err := launch(w, o)
		if err != nil {
			return nil, err
		}
		if err = s.ready(ctx, w.submission); err == nil {
			return s, nil
		}
		s.stop()
		if try == portTries || !strings.Contains(s.said(), "address already in use") {
			return nil, s.explain(err)
		}
	}
}

// launch runs maddy without waiting for it.
func launch(w *world, o Options) (*server, error) {
	out, err := os.Create(w.output())
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(o.Executable, "--config", w.config(), "run")
	cmd.Args[0] = o.Name
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = tied()

	s := &server{output: w.output(), exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// On Linux, the death of the thread that started a process counts as the death of its parent.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		s.process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait() // in whichever way
			close(s.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start maddy: %w", err)
	}
	return s, nil
}

// ready waits until the server listens and accepts connections. Its own word is asked for first: on a port that
// somebody else took, somebody else answers.
func (s *server) ready(ctx context.Context, addr string) error {
	for {
		if strings.Contains(s.said(), "listening on tcp://"+addr) {
			if conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr); err == nil {
				return conn.Close()
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("maddy does not accept connections: %w", ctx.Err())
		case <-s.exited:
			return errors.New("maddy did not start")
		case <-time.After(poll):
		}
	}
}

// wait returns when ctx ends, or, with an error, when the server does.
func (s *server) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.exited:
		return s.explain(errors.New("maddy has ended"))
	}
}

// stop ends the server and waits until it has.
func (s *server) stop() {
	// Errors mean that it has ended already.
	_ = s.process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(farewell):
		_ = s.process.Kill()
		<-s.exited
	}
}

// said is what the server has written so far.
func (s *server) said() string {
	text, err := os.ReadFile(s.output)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// explain adds the last words of the server to err.
func (s *server) explain(err error) error {
	words := strings.TrimSpace(s.said())
	if words == "" {
		return err
	}
	return fmt.Errorf("%w; maddy's last words: %s", err, words[strings.LastIndexByte(words, '\n')+1:])
}
