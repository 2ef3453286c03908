package bench

import (
	"bufio"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/emersion/go-message/textproto"
	"github.com/foxcpp/maddy/framework/buffer"

	"tlscontrol/tests/bench/sink"
)

const sender = "a@example.com"

// message is what is sent again and again.
type message struct {
	header textproto.Header
	body   buffer.MemoryBuffer
	bytes  []byte // both, as they cross the wire
}

// fields are the header, read as maddy reads one: fields that came from outside
// are kept as they were written.
const fields = "From: <" + sender + ">\r\n" +
	"To: <b@one.bench.test>\r\n" +
	"Subject: A message of a certain size\r\n" +
	"Date: Mon, 02 Nov 2026 10:00:00 +0000\r\n" +
	"Message-Id: <benchmark@example.com>\r\n" +
	"\r\n"

// newMessage makes a message of about size bytes.
func newMessage(size int) (*message, error) {
	header, err := textproto.ReadHeader(bufio.NewReader(strings.NewReader(fields)))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	line := strings.Repeat("all work and no play ", 4)[:76] + "\r\n"
	body := strings.Repeat(line, max(1, (size-len(fields))/len(line)))
	return &message{header: header, body: buffer.MemoryBuffer{Slice: []byte(body)}, bytes: []byte(fields + body)}, nil
}

// work is where the messages go.
type work struct {
	name   string // in tables
	key    string // for -bench
	domain func(i int) string
	// apart tells that every domain has another host; no connection can be used
	// twice.
	apart bool
	// spread is how many domains there are, 1 if their number does not matter
	// for what is there before the clock starts.
	spread int
}

var (
	oneDomain    = work{name: "one domain", key: "one-domain", domain: func(int) string { return sink.One() }, spread: 1}
	manyDomains  = work{name: "100 domains, one MX", key: "100-domains", domain: sink.Many, spread: 100}
	freshDomains = work{name: "new domain, one MX", key: "new-domain", domain: sink.Fresh, spread: 1}
	freshHosts   = work{name: "new MX", key: "new-MX", domain: sink.Apart, spread: 1, apart: true}
)

// destinations counts what has been visited: what is new must be new to the
// whole process.
var destinations atomic.Int64

// destination is the mailbox that one message goes to.
type destination struct {
	domain  string
	address string
}

// destinations makes n of them.
func (w work) destinations(n int) []destination {
	all := make([]destination, n)
	first := int(destinations.Add(int64(n))) - n
	for i := range all {
		domain := w.domain(first + i)
		all[i] = destination{domain: domain, address: "b@" + domain}
	}
	return all
}
