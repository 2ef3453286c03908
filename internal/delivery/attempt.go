package delivery

import (
	"net/netip"
	"time"

	"github.com/emersion/go-message/textproto"

	"tlscontrol/internal/health"
	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// Result is how an attempt ended for one recipient.
type Result string

// The three results; the words of the `result` label.
const (
	Delivered Result = "delivered"
	Temporary Result = "temporary"
	Permanent Result = "permanent"
)

// Attempt is the whole story of one attempt to deliver one message to one
// recipient. Observers get it once, when everything in it is known; they must
// not change it.
type Attempt struct {
	// ID names the attempt in everything that is written about it: 128 random
	// bits. Zero if nobody gave it one.
	ID        [16]byte
	Module    string // instance name of the target
	Hostname  string // our own name, as MX hosts hear it
	MessageID string // as handed in, the queue's attempt suffix included
	QueueID   string // without that suffix
	Sender    string // MAIL FROM, "" for the null sender
	Recipient string // exactly as handed in
	Domain    string // the recipient's domain, normalised (U-labels)
	Number    int    // counts attempts of this message to this recipient
	Size      int64  // octets of header and body as handed in
	Header    textproto.Header
	Concluded time.Time

	Settings *policy.Settings // nil if they could not be resolved
	Plan     *tlsplan.Plan    // nil if it was not settled

	Result   Result
	Reason   tlsplan.Reason // empty when delivered
	Code     int            // basic status code: the remote side's, else ours
	Enhanced [3]int         // zero if unknown
	Message  string         // the remote side's text as it came, else ours
	// Description says in our words what happened, empty when all went well.
	Description string

	// Connection is the one on which the result fell, nil if none was made.
	Connection *Connection
	// Hosts lists the hosts and addresses given up on the way, in order.
	Hosts []HostFailure
	// ContentSent is the weakest protection under which octets of the message's
	// text left in this attempt, to whatever host and whatever came of it; "" if
	// none left.
	ContentSent tlsplan.Protection
	// Lifted is true if the message said TLS-Required: No, and what the recipient
	// publishes did not count (RFC 8689).
	Lifted bool
	// STSErr is why the MTA-STS policy of the domain could not be found out, and
	// mail went on as if it had none; nil if that is not so.
	STSErr *mtasts.Error
	// Fallback says why a delivery got less than the sender wanted.
	Fallback tlsplan.Reason
	// Downgrade is the host that gave less than it had proved before, nil if none
	// did: the one of Connection, or one that was given up.
	Downgrade *Downgrade
	// UTF8 is true when the message travelled as SMTPUTF8.
	UTF8 bool
}

// Connection describes the connection on which a result fell.
type Connection struct {
	Host    string // MX host name, A-labels
	IP      netip.Addr
	Port    int
	LocalIP netip.Addr
	Outcome tlsplan.Outcome
	Reused  bool
	// Seconds is the time from taking or dialling the connection to the result.
	Seconds float64
}

// HostFailure is one host or address that was given up.
type HostFailure struct {
	Host   string
	IP     netip.Addr // invalid if no address was known yet
	Reason tlsplan.Reason
	Text   string
	// Sent is how octets of the message's text left for it, "" if none did.
	Sent tlsplan.Protection
	// Unwanted is true of an address that the operator does not let be dialled.
	Unwanted bool
}

// Connected is told when a connection is ready to carry a message.
type Connected struct {
	Outcome tlsplan.Outcome
	Reused  bool
}

// Trouble is told once for each thing that went wrong with a host, a domain
// or a recipient. Enforced means that it kept the message from going that way;
// otherwise the delivery went on in spite of it.
type Trouble struct {
	Reason   tlsplan.Reason
	Enforced bool
}

// Observer is told what happened, afterwards, and can change nothing. Methods
// are called from many goroutines and must not block for long. An observer
// that panics is an error in the log, never in the delivery.
type Observer interface {
	Connected(Connected)
	Troubled(Trouble)
	// Concluded gets every recipient's attempt once, before the status goes
	// back to whoever handed the message in. seconds is the time since then.
	Concluded(a *Attempt, seconds float64)
	// Secured tells how TLS to a host came out. It is called before Concluded for
	// the recipients concerned.
	Secured(*Secured)
	// PoolChanged tells by how much the number of idle and of busy
	// connections changed.
	PoolChanged(idle, busy int)
}

// HealthObserver is an Observer that is also told what keeps deliveries back:
// addresses that are left alone, hosts whose places are all taken. Each of these
// calls holds up other deliveries; they must not block at all.
type HealthObserver interface {
	Observer
	BreakerChanged(health.BreakerChange)
	PlaceChanged(health.PlaceChange)
}
