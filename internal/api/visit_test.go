package api

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// Strangers who do not take the files that they ask for leave places to those who
// send mail.
func TestSlowVisitors(t *testing.T) {
	t.Parallel()
	inside, leave := make(chan bool), make(chan bool)
	w := newWorld(t, func(c *Config) {
		c.MaxRequests = 8
		c.UI = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside <- true; <-leave })
	})
	done := make(chan bool)
	for range 2 {
		go func() {
			w.do(request{method: "GET", path: "/ui/"})
			done <- true
		}()
		<-inside
	}
	w.want(w.do(request{method: "GET", path: "/ui/"}), 503, "Too many requests at a time, try again later")
	w.want(w.do(request{method: "GET", path: "/openapi.json"}), 503, "Too many requests at a time, try again later")
	w.want(w.do(request{method: "GET", path: "/healthz"}), 200, "ok")
	w.want(w.do(request{method: "POST", path: messagesPath, key: domainKey, form: letter()}), 200, "Queued")
	for range 2 {
		leave <- true
		<-done
	}
}

// A login that comes slowly has no place until it is there.
func TestSlowLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) {
		c.MaxRequests = 1
		c.UI = http.NotFoundHandler()
	})
	var slow []net.Conn
	body := "key=" + fullKey
	for range 5 {
		c, err := net.Dial("tcp", w.srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(hang))
		fmt.Fprintf(c, "POST /ui/data/login HTTP/1.1\r\nHost: x\r\n%s: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
			"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", tokenField, len(body))
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%q, %v", line, err) // by now it is being read
		}
		slow = append(slow, c)
	}
	w.want(w.do(request{method: "POST", path: messagesPath, key: domainKey, form: letter()}), 200, "Queued")
	fmt.Fprint(slow[0], body)
	r := bufio.NewReader(slow[0])
	for line := ""; line == "" || line == "\r\n"; { // the rest of the first answer
		var err error
		if line, err = r.ReadString('\n'); err != nil || line != "\r\n" && line != "HTTP/1.1 200 OK\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
}
