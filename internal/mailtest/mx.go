package mailtest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// Bounds on what an MX keeps. What comes beyond is served but not recorded.
const (
	maxSessions     = 10_000
	maxMessages     = 200_000
	maxCommands     = 10_000
	maxClearBytes   = 64 << 10
	maxMessageBytes = 32 << 20
	maxKeptBytes    = 256 << 20
)

// Message is one message that the host took responsibility for: a positive
// reply to its body was sent.
type Message struct {
	From       string   // address of MAIL, without brackets
	MailParams string   // the rest of the MAIL command
	Recipients []string // accepted recipients, in order
	RcptParams []string // the rest of each RCPT command, parallel to Recipients
	Data       []byte   // header and body, dots unstuffed, as it came; shared, not to be written to
	Size       int      // length of the body, also where Data was not kept
	TLS        bool
	TLSState   *tls.ConnectionState // nil in clear
	Chunking   bool                 // sent with BDAT
	Connection int                  // 1 for the first connection to this host
	Helo       string
	RemoteIP   netip.Addr
}

// Session is the record of one connection.
type Session struct {
	// Commands are the command lines, each behind "C: " if it came in clear and
	// "T: " under TLS.
	Commands []string
	// ClearBytes is everything that the client sent in clear, at most 64 KiB: TLS
	// records are left out, what follows a broken handshake is in.
	ClearBytes []byte
	// Handshakes counts the handshakes begun, that is positive answers to STARTTLS.
	Handshakes int
	// HandshakeErr says how the last one failed, nil if it did not.
	HandshakeErr error
	// TLS tells that a handshake was completed.
	TLS bool
	// SNI is the server name the client asked for.
	SNI string
	// Resumed tells that the handshake resumed an earlier TLS session.
	Resumed bool
	// Closed tells that the connection has ended.
	Closed bool
}

// MX is a scripted SMTP server.
type MX struct {
	listener  *net.TCPListener
	done      sync.WaitGroup
	stop      chan struct{} // closed by Close
	ticketKey [32]byte

	mu        sync.Mutex
	behaviour Behaviour
	sessions  []*Session
	messages  []Message
	kept      int // bytes in messages
	delivered int
	conns     map[net.Conn]bool
	count     int
	closed    bool
	changed   chan struct{} // closed and replaced with each message
	panicked  error
}

// NewMX starts a host on an address like "127.0.0.2:0" or "[::1]:0".
func NewMX(listen string, b Behaviour) (*MX, error) {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("mailtest: MX: %w", err)
	}
	m := &MX{
		listener:  listener.(*net.TCPListener),
		behaviour: b.clone(),
		conns:     make(map[net.Conn]bool),
		changed:   make(chan struct{}),
		stop:      make(chan struct{}),
	}
	// One key for all connections, so that TLS sessions can be resumed.
	if _, err := rand.Read(m.ticketKey[:]); err != nil {
		listener.Close()
		return nil, fmt.Errorf("mailtest: MX: %w", err)
	}
	m.done.Go(m.accept)
	return m, nil
}

// Addr returns the address the host listens on.
func (m *MX) Addr() *net.TCPAddr { return m.listener.Addr().(*net.TCPAddr) }

// IP returns the address without the port.
func (m *MX) IP() string { return m.Addr().AddrPort().Addr().Unmap().String() }

// Port returns the port the host listens on.
func (m *MX) Port() int { return m.Addr().Port }

// Set changes the script, for later connections and for the later steps of
// those that are open.
func (m *MX) Set(b Behaviour) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.behaviour = b.clone()
}

// Close ends the listener, every connection and every goroutine. It may be
// called more than once. An error means a fault of this package.
func (m *MX) Close() error {
	m.listener.Close()
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		close(m.stop)
	}
	for conn := range m.conns {
		conn.Close()
	}
	m.mu.Unlock()
	m.done.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.panicked
}

// Messages returns what was accepted, in order.
func (m *MX) Messages() []Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.copyMessages()
}

// WaitMessages waits until n messages were accepted and returns them all. When
// ctx ends first, it returns what there is, and an error.
func (m *MX) WaitMessages(ctx context.Context, n int) ([]Message, error) {
	for {
		m.mu.Lock()
		messages, changed := m.copyMessages(), m.changed
		delivered := m.delivered
		m.mu.Unlock()
		if delivered >= n {
			return messages, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return messages, fmt.Errorf("mailtest: %d of %d messages came: %w", delivered, n, ctx.Err())
		}
	}
}

// Delivered counts the messages accepted, those no longer recorded too.
func (m *MX) Delivered() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.delivered
}

// Sessions returns a record of every connection, in order.
func (m *MX) Sessions() []Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	sessions := make([]Session, len(m.sessions))
	for i, s := range m.sessions {
		sessions[i] = *s
		sessions[i].Commands = slices.Clone(s.Commands)
		sessions[i].ClearBytes = slices.Clone(s.ClearBytes)
	}
	return sessions
}

// Connections counts the connections accepted so far.
func (m *MX) Connections() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// copyMessages needs m.mu.
func (m *MX) copyMessages() []Message {
	messages := slices.Clone(m.messages)
	for i := range messages {
		messages[i].Recipients = slices.Clone(messages[i].Recipients)
		messages[i].RcptParams = slices.Clone(messages[i].RcptParams)
	}
	return messages
}

func (m *MX) accept() {
	for {
		conn, err := m.listener.AcceptTCP()
		if err != nil {
			return
		}
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			conn.Close()
			return
		}
		m.conns[conn] = true
		m.count++
		number := m.count
		session := new(Session)
		if len(m.sessions) < maxSessions {
			m.sessions = append(m.sessions, session)
		}
		m.mu.Unlock()
		m.done.Go(func() { m.serve(conn, session, number) })
	}
}

// serve holds one dialogue to its end.
func (m *MX) serve(conn *net.TCPConn, session *Session, number int) {
	defer func() {
		failure := recover()
		conn.Close()
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.conns, conn)
		session.Closed = true
		if failure != nil && m.panicked == nil {
			m.panicked = fmt.Errorf("mailtest: MX panicked: %v", failure)
		}
	}()
	newDialogue(m, conn, session, number).run()
}

// current returns the script as it stands.
func (m *MX) current() Behaviour {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.behaviour
}

// note changes a session's record.
func (m *MX) note(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// accepted records a message.
func (m *MX) accepted(message Message, discard bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delivered++
	if discard || m.kept+len(message.Data) > maxKeptBytes {
		message.Data = nil
	}
	if len(m.messages) < maxMessages {
		m.kept += len(message.Data)
		m.messages = append(m.messages, message)
	}
	close(m.changed)
	m.changed = make(chan struct{})
}
