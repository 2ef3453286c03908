package mailtest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

const (
	// maxLine bounds a command line; RFC 5321 (4.5.3.1.4) asks for 512 octets,
	// extensions add some hundreds.
	maxLine = 8 << 10
	// patience is how long the host waits for the client where the script sets no
	// limit: RFC 5321 (4.5.3.2.7) asks for five minutes.
	patience = 5 * time.Minute
	// farewell is how long a closed connection is still read, so that the closing
	// is seen as EOF and not as a reset.
	farewell = 2 * time.Second
)

// errEnd ends a dialogue as the script or the protocol wants.
var errEnd = errors.New("end of dialogue")

// dialogue is one connection being served.
type dialogue struct {
	mx      *MX
	raw     *clearRecorder
	conn    net.Conn // raw or the TLS connection above it
	r       *bufio.Reader
	w       *bufio.Writer
	session *Session
	number  int

	tlsState *tls.ConnectionState // nil in clear
	helo     string
	extended bool // greeted with EHLO
	messages int  // accepted on this connection
	mail     *transaction
}

// transaction is a message between MAIL and the end of its body.
type transaction struct {
	message  Message
	utf8     bool
	chunks   bool // BDAT has begun
	overflow bool // more than maxMessageBytes
}

func newDialogue(m *MX, conn *net.TCPConn, session *Session, number int) *dialogue {
	raw := &clearRecorder{Conn: conn, tcp: conn}
	raw.keep = func(p []byte) {
		m.note(func() {
			room := maxClearBytes - len(session.ClearBytes)
			session.ClearBytes = append(session.ClearBytes, p[:min(room, len(p))]...)
		})
	}
	return &dialogue{
		mx: m, raw: raw, conn: raw, session: session, number: number,
		r: bufio.NewReader(raw), w: bufio.NewWriter(raw),
	}
}

// run greets and answers commands until the end.
func (d *dialogue) run() {
	b := d.mx.current()
	if b.StallInBody > 0 {
		// Otherwise the kernel takes in megabytes that nobody reads.
		_ = d.raw.tcp.SetReadBuffer(4 << 10)
	}
	greeting := b.Greeting
	if greeting == "" {
		greeting = b.scripted("greeting", false)
	}
	if _, err := d.play(greeting, "220 mx.mailtest.invalid ESMTP"); err != nil {
		return
	}
	for {
		line, err := d.readCommand()
		if err != nil {
			return
		}
		if err := d.command(line); err != nil {
			return
		}
	}
}

// readCommand returns the next line without its end. Replies that wait are sent
// first, unless more commands are at hand already: those that came in one flight
// are answered in one.
func (d *dialogue) readCommand() (string, error) {
	b := d.mx.current()
	if buffered, _ := d.r.Peek(d.r.Buffered()); bytes.IndexByte(buffered, '\n') < 0 {
		if err := d.flush(); err != nil {
			return "", err
		}
	}
	wait := patience
	if b.IdleClose > 0 && d.messages > 0 && d.mail == nil {
		wait = b.IdleClose
	}
	_ = d.conn.SetReadDeadline(time.Now().Add(wait))
	line, tooLong, err := readLine(d.r, maxLine)
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() && b.IdleReply != "" {
			_ = d.send(b.IdleReply)
		}
		d.close()
		return "", err
	}
	if tooLong {
		line = "(too long)"
	}
	mark := "C: "
	if d.tlsState != nil {
		mark = "T: "
	}
	d.mx.note(func() {
		if len(d.session.Commands) < maxCommands {
			d.session.Commands = append(d.session.Commands, mark+line)
		}
	})
	return line, nil
}

// readLine reads up to LF and returns at most limit bytes without the line end.
func readLine(r *bufio.Reader, limit int) (line string, tooLong bool, err error) {
	var kept []byte
	for {
		part, err := r.ReadSlice('\n')
		if room := limit - len(kept); len(part) > room {
			part, tooLong = part[:room], true
		}
		kept = append(kept, part...)
		if err == nil {
			return strings.TrimRight(string(kept), "\r\n"), tooLong, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", tooLong, err
		}
	}
}

// step answers with what the script has for a step, else with def. It reports
// the first digit of the reply, 0 for what is none.
func (d *dialogue) step(name, def string) (class byte, err error) {
	return d.play(d.mx.current().scripted(name, d.tlsState != nil), def)
}

// hold says nothing more and drops what comes, until the client has enough.
func (d *dialogue) hold() error {
	if err := d.flush(); err != nil {
		return err
	}
	_ = d.conn.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.Copy(io.Discard, d.r)
	return errEnd
}

// close ends the connection as a good host does: TLS is closed too.
func (d *dialogue) close() {
	_ = d.flush()
	if secured, ok := d.conn.(*tls.Conn); ok {
		_ = secured.CloseWrite()
	}
	d.hangUp()
}

// hangUp ends the connection below TLS. It is read for a while longer: closing a
// socket with unread bytes makes an RST, which would overtake the last reply.
func (d *dialogue) hangUp() {
	_ = d.raw.tcp.CloseWrite()
	_ = d.raw.SetReadDeadline(time.Now().Add(farewell))
	_, _ = io.Copy(io.Discard, d.raw)
	d.raw.Close()
}

// reset ends the connection with an RST.
func (d *dialogue) reset() {
	_ = d.raw.tcp.SetLinger(0)
	d.raw.Close()
}

func (d *dialogue) remoteIP() netip.Addr {
	return d.raw.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}
