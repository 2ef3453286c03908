package status

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// syslogTimeout bounds connecting to and each write to the syslog daemon. A
// daemon that takes longer than this for one line is not coming back by
// itself; the next attempt uses a fresh connection.
const syslogTimeout = 10 * time.Second

// syslogPaths are the usual sockets of the local daemon.
var syslogPaths = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

// Priorities: facility mail with severities error, warning, informational
// (RFC 5424, section 6.2.1).
const (
	facilityMail = 2 << 3
	priError     = facilityMail | 3
	priWarning   = facilityMail | 4
	priInfo      = facilityMail | 6
)

// syslog sends each document as one message of the tag "maddy". The package
// log/syslog would do the same without any deadline: a daemon that stops
// reading would keep a goroutine for ever.
type syslog struct {
	paths []string
	buf   []byte

	mu     sync.Mutex // guards conn and closed, and is not held while writing
	conn   net.Conn
	closed bool
}

var errSyslogClosed = errors.New("syslog output is closed")

// OpenSyslog gives an output that sends to the local syslog daemon. It fails
// if there is none.
func OpenSyslog() (Output, error) { return openSyslog(syslogPaths) }

func openSyslog(paths []string) (Output, error) {
	s := &syslog{paths: paths}
	if err := s.connect(); err != nil {
		return nil, err
	}
	return s, nil
}

// connect replaces the connection.
func (s *syslog) connect() error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return errSyslogClosed
	}
	if s.conn != nil {
		s.conn.Close()
	}
	s.conn = conn
	return nil
}

// dial tries datagrams before streams, as daemons and other clients do. The error is
// that of a socket which is there; of the places where there is none it tells all.
func (s *syslog) dial() (net.Conn, error) {
	failed := fmt.Errorf("no syslog daemon listens at %s", strings.Join(s.paths, ", "))
	for _, network := range []string{"unixgram", "unix"} {
		for _, path := range s.paths {
			conn, err := net.DialTimeout(network, path, syslogTimeout)
			if err == nil {
				return conn, nil
			}
			if info, bad := os.Stat(path); bad == nil && info.Mode().Type() == fs.ModeSocket {
				failed = err
			}
		}
	}
	return nil, failed
}

// Write sends one message a line. A message that cannot be sent is tried once
// more over a fresh connection, because the daemon may have been restarted.
func (s *syslog) Write(lines []byte) (int, error) {
	done := 0
	for done < len(lines) {
		end := len(lines)
		if i := bytes.IndexByte(lines[done:], '\n'); i >= 0 {
			end = done + i + 1
		}
		line := lines[done:end]
		err := s.send(line)
		if err != nil && !errors.Is(err, errSyslogClosed) {
			if err = s.connect(); err == nil {
				err = s.send(line)
			}
		}
		if err != nil {
			return done, err
		}
		done = end
	}
	return done, nil
}

// send writes one message in the form that local daemons expect (RFC 3164
// without the host name).
func (s *syslog) send(line []byte) error {
	s.mu.Lock()
	conn, closed := s.conn, s.closed
	s.mu.Unlock()
	if closed {
		return errSyslogClosed
	}
	b := append(s.buf[:0], '<')
	b = strconv.AppendInt(b, int64(priority(line)), 10)
	b = append(b, '>')
	b = time.Now().AppendFormat(b, time.Stamp)
	b = append(b, " maddy["...)
	b = strconv.AppendInt(b, int64(os.Getpid()), 10)
	b = append(b, "]: "...)
	b = append(b, line...)
	s.buf = b
	if err := conn.SetWriteDeadline(time.Now().Add(syslogTimeout)); err != nil {
		return err
	}
	_, err := conn.Write(b)
	return err
}

// priority reads the log-level of a document. It stands before everything
// that comes from outside, so the first one found is ours.
func priority(line []byte) int {
	const key = `"log-level":"`
	i := bytes.Index(line, []byte(key))
	if i < 0 {
		return priInfo
	}
	switch rest := line[i+len(key):]; {
	case bytes.HasPrefix(rest, []byte(LevelError)):
		return priError
	case bytes.HasPrefix(rest, []byte(LevelWarn)):
		return priWarning
	}
	return priInfo
}

func (s *syslog) Reopen() error { return nil }

func (s *syslog) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.conn.Close()
}

func (s *syslog) String() string { return "syslog" }
