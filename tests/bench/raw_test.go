package bench

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"tlscontrol/tests/bench/sink"
)

// raw is the least that hands a message over: it knows where the host is and
// what it offers, allocates little, and expects every answer to be good.
type raw struct {
	service sink.Service
	message *message
	apart   bool
	tls     *tls.Config
}

func newRaw(service sink.Service, m *message, apart bool) *raw {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(theWorld.Root)
	return &raw{service: service, message: m, apart: apart, tls: &tls.Config{RootCAs: roots, DynamicRecordSizingDisabled: true}}
}

// worker implements client: each has a connection of its own.
func (r *raw) worker() (worker, error) {
	if r.apart {
		return &rawApart{r}, nil
	}
	return r.dial(sink.One())
}

// close implements client.
func (r *raw) close() error { return theWorld.HangUp() }

// rawConn is one session under TLS.
type rawConn struct {
	*raw
	conn net.Conn
	r    *bufio.Reader
	out  []byte
}

// dial goes as far as the answer to the second EHLO.
func (r *raw) dial(domain string) (*rawConn, error) {
	host, _ := sink.MX(domain)
	ip, _ := sink.Address(host)
	nc, err := net.Dial("tcp", net.JoinHostPort(ip.String(), strconv.Itoa(r.service.Port)))
	if err != nil {
		return nil, err
	}
	c := &rawConn{raw: r, conn: nc, r: bufio.NewReader(nc)}
	cfg := r.tls.Clone()
	cfg.ServerName = host
	if err := errors.Join(
		c.answer(), c.ask("EHLO relay.example.com\r\n"), c.ask("STARTTLS\r\n"), c.secure(cfg), c.ask("EHLO relay.example.com\r\n"),
	); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// secure replaces the connection by one under TLS.
func (c *rawConn) secure(cfg *tls.Config) error {
	conn := tls.Client(c.conn, cfg)
	c.conn = conn
	c.r.Reset(conn)
	return conn.Handshake()
}

func (c *rawConn) ask(command string) error {
	if _, err := c.conn.Write([]byte(command)); err != nil {
		return err
	}
	return c.answer()
}

// answer reads one reply, of which there must be nothing but 2xx and 354.
func (c *rawConn) answer() error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) < 4 || line[0] != '2' && line[0] != '3' {
			return fmt.Errorf("unexpected reply %q", line)
		}
		if line[3] != '-' {
			return nil
		}
	}
}

func (c *rawConn) answers(n int) error {
	for range n {
		if err := c.answer(); err != nil {
			return err
		}
	}
	return nil
}

// deliver implements worker: one flight with BDAT, two with DATA.
func (c *rawConn) deliver(to destination) error {
	if err := c.send(to); err != nil {
		return err
	}
	if c.service.Chunking {
		return c.answers(3)
	}
	if err := c.answers(3); err != nil {
		return err
	}
	c.out = append(append(c.out[:0], c.message.bytes...), ".\r\n"...)
	if _, err := c.conn.Write(c.out); err != nil {
		return err
	}
	return c.answer()
}

// send writes the envelope, and with BDAT the message, in one piece.
func (c *rawConn) send(to destination) error {
	b := append(c.out[:0], "MAIL FROM:<"+sender+">\r\nRCPT TO:<"...)
	b = append(append(b, to.address...), ">\r\n"...)
	if c.service.Chunking {
		b = append(b, "BDAT "...)
		b = strconv.AppendInt(b, int64(len(c.message.bytes)), 10)
		b = append(append(b, " LAST\r\n"...), c.message.bytes...)
	} else {
		b = append(b, "DATA\r\n"...)
	}
	c.out = b
	_, err := c.conn.Write(b)
	return err
}

// hangUp implements worker.
func (c *rawConn) hangUp() { c.conn.Close() }

// rawApart has a connection for every message.
type rawApart struct{ *raw }

func (r *rawApart) deliver(to destination) error {
	c, err := r.dial(to.domain)
	if err != nil {
		return err
	}
	defer c.hangUp()
	if err := c.deliver(to); err != nil {
		return err
	}
	_, err = c.conn.Write([]byte("QUIT\r\n"))
	return err
}

func (r *rawApart) hangUp() {}

// inFlight is how many messages are under way on one connection of rawBusy.
const inFlight = 8

// rawBusy sends the next message before the answer to the last one has come.
type rawBusy struct {
	*raw
	mu   sync.Mutex
	last *rawBusyConn
}

// worker implements client: inFlight workers share a connection.
func (r *rawBusy) worker() (worker, error) {
	r.mu.Lock()
	if r.last == nil || r.last.workers == inFlight {
		r.last = &rawBusyConn{waiting: make(chan chan error, inFlight)}
	}
	c := r.last
	c.workers++
	r.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rawConn == nil {
		var err error
		if c.rawConn, err = r.dial(sink.One()); err != nil {
			return nil, err
		}
		go c.read(c.waiting)
	}
	return &rawBusyWorker{rawBusyConn: c, result: make(chan error, 1)}, nil
}

// rawBusyConn is a connection, and those who wait for its answers.
type rawBusyConn struct {
	workers int // needs the lock of rawBusy

	mu sync.Mutex
	*rawConn
	waiting chan chan error
}

// read gives the answers to those who wait, in order.
func (c *rawBusyConn) read(waiting <-chan chan error) {
	for result := range waiting {
		result <- c.answers(3)
	}
}

// rawBusyWorker is one of those.
type rawBusyWorker struct {
	*rawBusyConn
	result chan error
}

func (w *rawBusyWorker) deliver(to destination) error {
	w.mu.Lock()
	w.waiting <- w.result
	err := w.send(to)
	w.mu.Unlock()
	if err != nil {
		w.conn.Close() // the reader fails, too, and says so
	}
	return errors.Join(err, <-w.result)
}

// hangUp implements worker. It is called by all workers, when none delivers.
func (w *rawBusyWorker) hangUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn.Close()
	if w.waiting != nil {
		close(w.waiting)
		w.waiting = nil
	}
}
