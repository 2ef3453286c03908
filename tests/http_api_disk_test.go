package tests

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

// inQueue are the files in the queue.
func (s *server) inQueue() []string {
	s.Helper()
	files, err := filepath.Glob(s.path("state/remote_queue/*"))
	if err != nil {
		s.Fatal(err)
	}
	return files
}

// TestAPINothingIsLeftOfAPart: of a message whose form does not come whole nothing
// gets to disk: when the client leaves, and when the process is killed meanwhile.
func TestAPINothingIsLeftOfAPart(t *testing.T) {
	t.Parallel()
	s := newAPI(t, "", mailtest.Behaviour{})
	key := s.key("example.com")
	begin := func() net.Conn {
		c, err := net.Dial("tcp", net.JoinHostPort(s.ip, apiPort))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(hang))
		fmt.Fprint(c, post(key, inParts, "Content-Length: 20000000\r\nExpect: 100-continue\r\n"))
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
			t.Fatalf("%q, %v", line, err)
		}
		// More than the buffers of the sockets hold: by its end most of it was read.
		fmt.Fprint(c, "--x\r\nContent-Disposition: form-data; name=attachment; filename=a\r\n\r\n"+strings.Repeat("x", 15<<20))
		return c
	}
	before := s.filesBelow("state")
	begin().Close()
	s.eventually("the client's leaving is answered", func() bool {
		return s.metric(`maddy_remote_tls_api_requests_total{route="POST /v3/{domain}/messages",status="4xx"}`) == 1
	})
	if now := s.filesBelow("state"); now != before {
		t.Errorf("files were\n%s\nand are\n%s", before, now)
	}
	c := begin()
	s.kill()
	c.Close()
	s.start()
	if files := s.inQueue(); len(files) != 0 {
		t.Errorf("in the queue: %v", files)
	}
	if status, body := s.call("POST", "/v3/example.com/messages", key, apiLetter()); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	s.documents(1)
	if n := len(s.mx[0].Messages()); n != 1 {
		t.Errorf("%d messages arrived", n)
	}
}

// filesBelow lists the files below a directory of the server, but for those of
// databases, which come and go.
func (s *server) filesBelow(name string) string {
	s.Helper()
	var names []string
	err := filepath.WalkDir(s.path(name), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.Contains(path, ".db") && !strings.Contains(path, ".journal") {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	return strings.Join(names, "\n")
}
