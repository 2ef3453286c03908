package sink

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
)

// bufferSize holds one TLS record.
const bufferSize = 16 << 10

// session is one connection. Replies are written when nothing more has come in,
// so that one flight is answered by one flight.
type session struct {
	s         *server
	chunking  bool
	conn      net.Conn
	r         *bufio.Reader
	w         *bufio.Writer
	encrypted bool
	// owing tells that the reply to a whole message has not been written.
	owing bool
}

// Replies, as they cross the wire.
var (
	replyGreeting  = []byte("220 sink.bench.test ESMTP\r\n")
	replyOK        = []byte("250 2.0.0 OK\r\n")
	replyReady     = []byte("220 2.0.0 Go ahead\r\n")
	replyData      = []byte("354 Go ahead\r\n")
	replyBye       = []byte("221 2.0.0 Bye\r\n")
	replyTLSFirst  = []byte("530 5.7.0 STARTTLS first\r\n")
	replyUnknown   = []byte("502 5.5.1 Unknown command\r\n")
	replyExtension = []byte("250-sink.bench.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n")
)

var (
	errQuit   = errors.New("the client said QUIT")
	errSyntax = errors.New("the client makes no sense")
)

func newSession(s *server, conn net.Conn, chunking bool) *session {
	return &session{
		s: s, chunking: chunking, conn: conn,
		r: bufio.NewReaderSize(conn, bufferSize),
		w: bufio.NewWriterSize(conn, bufferSize),
	}
}

// run holds the dialogue until the client goes.
func (x *session) run() {
	x.w.Write(replyGreeting)
	for {
		if err := x.command(); err != nil {
			x.w.Flush()
			return
		}
	}
}

func (x *session) command() error {
	if x.r.Buffered() == 0 {
		if err := x.flush(); err != nil {
			return err
		}
	}
	line, err := x.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	verb, rest, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(" "))
	switch string(verb) {
	case "EHLO":
		x.extensions()
	case "STARTTLS":
		return x.startTLS()
	case "MAIL", "RCPT":
		if !x.encrypted {
			x.w.Write(replyTLSFirst)
			return nil
		}
		x.w.Write(replyOK)
	case "RSET", "NOOP":
		x.w.Write(replyOK)
	case "BDAT":
		return x.chunk(rest)
	case "DATA":
		return x.data()
	case "QUIT":
		x.w.Write(replyBye)
		return errQuit
	default:
		x.w.Write(replyUnknown)
	}
	return nil
}

func (x *session) flush() error {
	x.owing = false
	return x.w.Flush()
}

func (x *session) extensions() {
	x.w.Write(replyExtension)
	if x.chunking {
		x.w.WriteString("250-CHUNKING\r\n")
	}
	if !x.encrypted {
		x.w.WriteString("250-STARTTLS\r\n")
	}
	x.w.WriteString("250 SIZE 104857600\r\n")
}

func (x *session) startTLS() error {
	x.w.Write(replyReady)
	if err := x.flush(); err != nil {
		return err
	}
	conn := tls.Server(x.conn, x.s.tls)
	if err := conn.Handshake(); err != nil {
		return err
	}
	x.s.handshakes.Add(1)
	if conn.ConnectionState().DidResume {
		x.s.resumed.Add(1)
	}
	x.encrypted = true
	x.r.Reset(conn)
	x.w.Reset(conn)
	return nil
}

// chunk takes one BDAT chunk.
func (x *session) chunk(args []byte) error {
	number, last, _ := bytes.Cut(args, []byte(" "))
	size, err := strconv.Atoi(string(number))
	if err != nil || !x.encrypted || !x.chunking {
		return errSyntax
	}
	// Whoever waits for the message before gets his answer now, not when this
	// one has come.
	if x.owing && x.r.Buffered() < size {
		if err := x.flush(); err != nil {
			return err
		}
	}
	if _, err := x.r.Discard(size); err != nil {
		return err
	}
	if len(last) > 0 {
		x.taken()
		return nil
	}
	x.w.Write(replyOK)
	return nil
}

// data takes a message up to the line with the dot.
func (x *session) data() error {
	if !x.encrypted {
		return errSyntax
	}
	x.w.Write(replyData)
	if err := x.flush(); err != nil {
		return err
	}
	for {
		line, err := x.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 3 && line[0] == '.' && line[1] == '\r' {
			x.taken()
			return nil
		}
	}
}

func (x *session) taken() {
	x.s.messages.Add(1)
	x.owing = true
	x.w.Write(replyOK)
}
