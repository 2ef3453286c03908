package tests

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// document is a line of the delivery log.
type document map[string]any

// get returns a value by its path, as in "delivery-status.tls"; nil if absent.
func (d document) get(path string) any {
	var v any = map[string]any(d)
	for _, name := range strings.Split(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// status is a short form: "delivered 250" or "failed temporary 451 reason".
func (d document) status() string {
	code := d.get("delivery-status.code")
	if d["event"] == "delivered" {
		return fmt.Sprint("delivered ", code)
	}
	return fmt.Sprint("failed ", d["severity"], " ", code, " ", d["reason"])
}

// documents waits until the log has n lines and returns all of them.
func (s *server) documents(n int) []document {
	s.Helper()
	deadline := time.Now().Add(hang)
	for {
		docs := s.readLog()
		if len(docs) >= n {
			return docs
		}
		if time.Now().After(deadline) {
			s.Fatalf("%d documents, waited for %d\n%v\n%s", len(docs), n, docs, s.stderr)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// lastDocument waits for n documents and returns the last one.
func (s *server) lastDocument(n int) document {
	s.Helper()
	docs := s.documents(n)
	return docs[len(docs)-1]
}

// readLog returns the documents that are there by now. A line without its end is
// still being written.
func (s *server) readLog() []document {
	s.Helper()
	data, err := os.ReadFile(s.path("deliveries.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		s.Fatal(err)
	}
	return documentsIn(s.T, data, checkDocument)
}

// served is what the openmetrics endpoint answers.
func (s *server) served() string {
	s.Helper()
	res, err := http.Get("http://" + s.ip + ":2749/metrics")
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

// metric returns the value of a series as it is written in the exposition, 0 if
// it is not there.
func (s *server) metric(series string) float64 {
	s.Helper()
	for _, line := range strings.Split(s.served(), "\n") {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(rest, 64)
			if err != nil {
				s.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// becomes waits until a series has a value: a counter follows the document of the
// same attempt.
func (s *server) becomes(series string, want float64) {
	s.Helper()
	s.eventually(fmt.Sprintf("%s is %v", series, want), func() bool { return s.metric(series) == want })
}

// eventually waits until a condition holds.
func (s *server) eventually(what string, holds func() bool) {
	s.Helper()
	deadline := time.Now().Add(hang)
	for !holds() {
		if time.Now().After(deadline) {
			s.Fatalf("never came true: %s\n%s", what, s.stderr)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// logs waits until the process has said a text: what it says comes through a pipe.
func (s *server) logs(text string) {
	s.Helper()
	s.eventually("in the log: "+text, func() bool { return strings.Contains(s.stderr.String(), text) })
}

// neverInClear fails the test if any part of a message crossed a socket to an
// MX host in clear.
func (s *server) neverInClear() {
	s.Helper()
	for i, m := range s.mx {
		for _, session := range m.Sessions() {
			for _, secret := range []string{"a secret", "MAIL FROM", "RCPT TO"} {
				if bytes.Contains(session.ClearBytes, []byte(secret)) {
					s.Errorf("%q crossed a socket to %s in clear", secret, host(i))
				}
			}
		}
	}
}
