package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hang is how long something may take that never should; reaching it fails the test.
const hang = time.Minute

// TestRun starts the server as a process and asks it over a Unix socket whether it is there.
func TestRun(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "maddy") // t.TempDir's names are too long for a socket's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "metrics")
	conf := fmt.Sprintf("state_dir %[1]s/state\nruntime_dir %[1]s/run\nopenmetrics unix://%[1]s/metrics\n", dir)
	if err := os.WriteFile(filepath.Join(dir, "maddy.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	cmd := exec.CommandContext(ctx, "maddy", "--config", "maddy.conf", "run", "--log", "server.log")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()

	metrics := getMetrics(ctx, socket, exited)
	if !strings.Contains(metrics, "go_goroutines") {
		t.Errorf("no metrics, but:\n%s", metrics)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	<-exited // in whichever way: the signal may come before maddy waits for it
	if log, err := os.ReadFile(filepath.Join(dir, "server.log")); err != nil || !strings.Contains(string(log), "listening on") {
		t.Errorf("log file: %q, %v", log, err)
	}
}

// getMetrics asks until there is an answer, the server exits or ctx ends; its text says which.
func getMetrics(ctx context.Context, socket string, exited chan error) string {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	for {
		if text, err := get(ctx, client); err == nil {
			return text
		}
		select {
		case <-ctx.Done():
			return "the server does not answer"
		case err := <-exited:
			exited <- err
			return fmt.Sprintf("the server exited: %v", err)
		case <-time.After(10 * time.Millisecond): // the next try
		}
	}
}

func get(ctx context.Context, client *http.Client) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://maddy/metrics", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
