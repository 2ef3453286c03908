package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCause(t *testing.T) {
	t.Parallel()
	dial := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25}, Err: err}
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), "connection refused"},
		{fmt.Errorf("mx: %w", dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH))), "no route to host"},
		{dial(os.ErrDeadlineExceeded), "timed out"},
		{dial(os.NewSyscallError("connect", syscall.ETIMEDOUT)), "timed out"},
		{context.DeadlineExceeded, "timed out"},
		{dial(errors.New("no suitable address")), "no suitable address"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: io.EOF}, "EOF"},
		{fmt.Errorf("greeting: %w", io.EOF), "greeting: EOF"},
		{errors.New(strings.Repeat("é", 150)), strings.Repeat("é", 100) + "..."},
		{errors.New("x" + strings.Repeat("é", 150)), "x" + strings.Repeat("é", 99) + "..."},
	} {
		if got := causeOf(c.err); got != c.want {
			t.Errorf("causeOf(%v)\n got %q\nwant %q", c.err, got, c.want)
		}
	}
}

func TestCauseOfARealRefusal(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	if _, err = net.Dial("tcp", address); err == nil {
		t.Skipf("SKIPPED: somebody listens on %s by now", address)
	}
	if got := causeOf(err); got != "connection refused" {
		t.Errorf("causeOf(%v) = %q", err, got)
	}
}

func TestErrorTexts(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 5, 23, 59, 50, 0, time.UTC)
	for _, c := range []struct {
		err  error
		want string
	}{
		{&OpenError{Since: at, Until: at.Add(5 * time.Second), Cause: "timed out"},
			"not dialled again until 23:59:55: no answer since 23:59:50 (timed out)"},
		{&OpenError{Since: at, Until: at.Add(time.Minute)},
			"not dialled again until 2026-03-06 00:00:50: no answer since 2026-03-05 23:59:50"},
		{&BusyError{Host: "mx.example.org", Limit: 20, Waiting: 1000},
			"all 20 sessions allowed with mx.example.org are busy, and 1000 deliveries wait for one"},
		{&BusyError{Host: "mx.example.org", Limit: 3, Waited: 30 * time.Second},
			"none of the 3 sessions allowed with mx.example.org became free within 30s"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%#v\n got %s\nwant %s", c.err, got, c.want)
		}
	}
}
