package postgres

import (
	"context"
	"database/sql/driver"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/lib/pq"
)

// Times that a server has. A context that ends is heeded before that.
const (
	connectTimeout = 10 * time.Second // for all that it takes until statements can be sent
	// silence is for a network that swallows everything. A statement whose context
	// has a later deadline may take until then: a server that makes an index of many
	// rows says nothing meanwhile.
	silence = time.Minute
	// hurry is how long a server has to answer a statement that is cancelled.
	hurry = 2 * time.Second
	// idle is how long a client may be silent within a transaction. One that lost its
	// power or its network leaves the transaction open, for hours if the server has to
	// find out by itself, and who wants the same rows waits for it.
	idle = 30 * time.Second
)

// connector makes connections that obey contexts, which the driver does only as
// long as the server answers.
type connector struct {
	dsn           string
	silence, idle time.Duration
}

// Connector returns what makes connections to the database that a connection
// string names. Nothing is connected yet; the error is that of CheckDSN.
func Connector(dsn string) (driver.Connector, error) {
	if err := CheckDSN(dsn); err != nil {
		return nil, err
	}
	return connector{dsn, silence, idle}, nil
}

// Driver implements driver.Connector.
func (connector) Driver() driver.Driver { return &pq.Driver{} }

// Connect implements driver.Connector.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := pq.NewConnector(c.dsn)
	if err != nil {
		return nil, err
	}
	d := &dialer{silence: c.silence}
	inner.Dialer(d)
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, d.cut)
	made, err := inner.Connect(ctx)
	if err == nil {
		err = c.settle(ctx, made)
	}
	if !stop() {
		if err == nil {
			// It is cut already: there is nothing to say goodbye to.
			_ = made.Close()
		}
		return nil, fmt.Errorf("connecting to PostgreSQL: %w", ctx.Err())
	}
	if err != nil {
		return nil, err
	}
	return conn{made.(full), d}, nil
}

// settle says how long transactions may be idle. Poolers do not know it as a parameter
// of the connection.
func (c connector) settle(ctx context.Context, made driver.Conn) error {
	set := fmt.Sprintf("SET idle_in_transaction_session_timeout = %d", c.idle.Milliseconds())
	_, err := made.(full).ExecContext(ctx, set, nil)
	if err != nil {
		_ = made.Close() // it is of no use
	}
	return err
}

// full is what the driver's connections can do.
type full interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// conn is a connection of the driver, whose BEGIN knows no context.
type conn struct {
	full
	d *dialer
}

// ExecContext implements driver.ExecerContext.
func (c conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if end, ok := ctx.Deadline(); ok {
		c.d.conn.wait(end)
		defer c.d.conn.wait(time.Time{})
	}
	return c.full.ExecContext(ctx, query, args)
}

// BeginTx implements driver.ConnBeginTx.
func (c conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	stop := context.AfterFunc(ctx, c.d.cut)
	tx, err := c.full.BeginTx(ctx, opts)
	if !stop() {
		return nil, driver.ErrBadConn // database/sql sees that the context has ended
	}
	return tx, err
}

// dialer makes one connection for the driver, and those by which it later asks the
// server to cancel a statement of that one.
type dialer struct {
	silence time.Duration

	mu   sync.Mutex
	conn *impatient
}

// Dial implements pq.Dialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialTimeout(network, address, connectTimeout)
}

// DialTimeout implements pq.Dialer.
func (d *dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// DialContext implements pq.DialerContext.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	cancelling := d.hurry()
	nd := net.Dialer{Timeout: connectTimeout}
	plain, err := nd.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &impatient{Conn: plain, silence: d.silence}
	if cancelling {
		c.hurry()
		return c, nil
	}
	d.mu.Lock()
	d.conn = c
	d.mu.Unlock()
	if ctx.Err() != nil { // cut may have come too early
		d.cut()
	}
	return c, nil
}

// hurry reports whether there is a connection, on which then a statement is
// cancelled. The driver never uses it for another one.
func (d *dialer) hurry() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return false
	}
	d.conn.hurry()
	return true
}

// cut ends the connection, with what waits for it.
func (d *dialer) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		// Nobody uses it any more.
		_ = d.conn.Close()
	}
}

// impatient is a connection with a time limit for each read and write.
type impatient struct {
	net.Conn
	silence time.Duration

	mu      sync.Mutex
	patient time.Time // until when there may be silence, if that is later
	last    time.Time // when all of them end; zero is never
}

// Read implements net.Conn.
func (c *impatient) Read(b []byte) (int, error) {
	if err := c.limit(c.SetReadDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// Write implements net.Conn.
func (c *impatient) Write(b []byte) (int, error) {
	if err := c.limit(c.SetWriteDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// limit sets the limit of one read or write.
func (c *impatient) limit(set func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := time.Now().Add(c.silence)
	if c.patient.After(end) {
		end = c.patient
	}
	if !c.last.IsZero() && c.last.Before(end) {
		end = c.last
	}
	return set(end)
}

// wait allows for silence until then. The context of whoever asks ends the wait before.
func (c *impatient) wait(until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !until.IsZero() {
		until = until.Add(hurry)
	}
	c.patient = until
}

// hurry ends everything soon, also what has begun.
func (c *impatient) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now().Add(hurry)
	// Where that fails, the connection is closed.
	_ = c.SetDeadline(c.last)
}
