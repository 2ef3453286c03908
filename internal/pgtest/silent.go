package pgtest

import (
	"fmt"
	"io"
	"net"
	"testing"
)

// Silent is a server that lets in, if welcome is true, and then says nothing more.
// It returns how to connect to it.
func Silent(t testing.TB, welcome bool) (dsn string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			if welcome {
				// AuthenticationOk, ReadyForQuery, and what settles the connection:
				// CommandComplete, ReadyForQuery.
				_, _ = io.WriteString(c, "R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I"+
					"C\x00\x00\x00\x08SET\x00Z\x00\x00\x00\x05I")
			}
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return fmt.Sprintf("host=127.0.0.1 port=%s user=u dbname=d sslmode=disable", port)
}
