package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A client that has closed its half of the connection may still read: whatever it
// gets, a request that failed is no success.
func TestFailureForHalfClosedConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Mail = panicsAfterwards{c.Mail} })
	c, err := net.Dial("tcp", w.srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(hang))
	body := letter().Encode()
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"Content-Length: %d\r\n\r\n%s", messagesPath, domainKey, len(body), body)
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(c) // or nothing, as the connection is cut
	if strings.Contains(string(answer), " 200 ") {
		t.Errorf("answer: %q", answer)
	}
}

// panicsAfterwards panics when the client is taken for gone.
type panicsAfterwards struct{ Mail }

func (panicsAfterwards) Submit(ctx context.Context, _ *Message) (string, error) {
	select {
	case <-ctx.Done():
	case <-time.After(hang):
	}
	panic("a check")
}
