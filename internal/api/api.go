package api

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/emersion/go-message/textproto"

	"tlscontrol/internal/events"
	"tlscontrol/internal/policy"
)

// Key is who is calling.
type Key struct {
	ID string
	// Domain is the only domain that the key is for, normalised; "" if it opens
	// everything.
	Domain string
	// Reads is whether a key of one domain sees what becomes of its mail, besides
	// sending it.
	Reads bool
}

// Keys knows the keys.
type Keys interface {
	// Authenticate returns the key that the secret belongs to, and whether there
	// is one. An error means that nobody knows.
	Authenticate(ctx context.Context, secret string) (Key, bool, error)
}

// Message is a message on its way into the queue.
type Message struct {
	Header     textproto.Header
	Body       []byte
	Sender     string   // MAIL FROM, and address in From
	Recipients []string // no two alike, domains normalised
	UTF8       bool     // an address needs SMTPUTF8
	Override   policy.Override
	Client     Client
}

// Client is where a message came from.
type Client struct {
	KeyID         string
	Remote, Local net.Addr
	TLS           *tls.ConnectionState // nil in clear
}

// Mail takes messages.
type Mail interface {
	// Submit puts the message into the queue for all of its recipients, or
	// refuses it whole with a *Refusal. It returns when the message is on disk,
	// with the name that the queue gave it.
	Submit(ctx context.Context, m *Message) (queueID string, err error)
	// OverrideFields are the header fields with which a message asks for its own
	// TLS.
	OverrideFields() policy.Fields
}

// Refusal is why a message was not taken, in words that may be shown to whoever
// sent it.
type Refusal struct {
	Temporary bool
	Text      string
}

func (r *Refusal) Error() string { return r.Text }

// Domain is what is known of a sending domain.
type Domain struct {
	Name                         string
	RequireTLS, SkipVerification bool
	// The words of the delivery log for where the values come from.
	RequireTLSSource, SkipVerificationSource string
	// ReadOnly is true if the configuration decides, and Set would refuse.
	ReadOnly bool
	// Of what Set changed, what counted before; Unset if nobody knows.
	Before Change
}

// Change is what becomes of the settings; what is Unset stays.
type Change struct{ RequireTLS, SkipVerification policy.Switch }

// Domains knows the settings of sending domains. Its errors are *Error where
// they may be shown.
type Domains interface {
	// Names returns the domains that have settings of their own, sorted.
	Names(ctx context.Context) ([]string, error)
	Get(ctx context.Context, domain string) (Domain, error)
	Set(ctx context.Context, domain string, change Change) (Domain, error)
}

// Accepted is what the API knows about a message that it took, for one
// recipient.
type Accepted struct {
	Time      time.Time
	QueueID   string
	Sender    string
	Recipient string
	Headers   map[string]string // message-id without brackets, from, to, subject
	Size      int64
	Tags      []string
	// Variables are what v: parameters said, a JSON object; nil if there are none.
	Variables   json.RawMessage
	Attachments []events.Attachment
	KeyID       string // of the key that sent it
}

// Events keeps what happened to messages.
type Events interface {
	// Accepted adds the event of a message that was taken. It may wait for room,
	// until the context ends.
	Accepted(context.Context, Accepted)
	// Query returns a page. A question that the store does not understand is an
	// *Error.
	Query(ctx context.Context, q Query) (Page, error)
	// Message returns all events of a message, by queue ID or message ID, oldest
	// first. Domains are as in Query.
	Message(ctx context.Context, id string, domains []string) ([]json.RawMessage, error)
	// Stats counts what happened, in parts of the time. Domains are as in Query.
	Stats(ctx context.Context, begin, end time.Time, part time.Duration, domains []string) (events.Stats, error)
}

// Query is a question for a page of events.
type Query struct {
	// Domains are the sending domains of which events may be seen, with *.name for
	// all below one, and * for all there are.
	Domains    []string
	Filter     Filter    // nil for all
	Begin, End time.Time // the first inclusive, the second exclusive; zero is no bound
	Ascending  bool
	Limit      int
	// After is where the page begins, in its order, Before where it ends. One of
	// them at most is set.
	After, Before *Cursor
}

// Cursor is a place between events.
type Cursor struct {
	Micros int64
	ID     string
}

// Page is a part of the answer. First and Last are the places of its first and
// last event, nil if it has none.
type Page struct {
	Items       []json.RawMessage
	First, Last *Cursor
	More        bool // it is full: there may be more in its direction
}

// Defaults of Config.
const (
	DefaultMaxMessage  = 25 << 20 // what Mailgun takes
	DefaultMaxRequests = 256
	DefaultRate        = 100 // requests of a key in a second
)

// Config is what an API is made of. Zero values are the defaults.
type Config struct {
	Keys    Keys
	Mail    Mail
	Domains Domains
	Events  Events // nil if nothing keeps them
	// SendingDomains are those that the API knows, with *.name for all below;
	// empty if it takes any.
	SendingDomains []string
	// PublicURL is the base of page URLs; "" if it is that of the request.
	PublicURL string
	// MaxMessage bounds a message, header and body, in octets.
	MaxMessage int64
	// MaxRequests is how many are served at a time.
	MaxRequests int
	// Rate is how many requests a key may make in a second, with as many at once.
	Rate float64
	// Ready are the parts that must work for the API to, by name.
	Ready map[string]func(context.Context) error
	// UI are the files of the page for people, served under /ui/; nil if there is
	// none. What the page shows is served beside it (ui.go).
	UI http.Handler
	// Count is told of every answer: the route, as Routes has it, "ui" or "other",
	// and the status. May be nil.
	Count func(route string, status int)
	// Log is told what an operator should know, with names and values in turn.
	Log func(msg string, fields ...any)
}

// API is the handler of all routes. It is safe for concurrent use.
type API struct {
	Config
	routes   []route
	uiRoutes []route
	sessions *sessions
	places   chan struct{} // one for each request that is served
	visitors chan struct{} // one for each of them that is for a file
	memory   memory
	guesses  *guesses
	budgets  *budgets
	origin   *http.CrossOriginProtection
	health   lastReady
	sending  []string // SendingDomains, normalised
}

// New makes an API. It fails if a name in SendingDomains is not one.
func New(cfg Config) (*API, error) {
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = DefaultMaxMessage
	}
	if cfg.MaxRequests == 0 {
		cfg.MaxRequests = DefaultMaxRequests
	}
	if cfg.Rate == 0 {
		cfg.Rate = DefaultRate
	}
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	if cfg.Count == nil {
		cfg.Count = func(string, int) {}
	}
	if cfg.Keys == nil || cfg.Mail == nil || cfg.Domains == nil {
		return nil, errors.New("an API without keys, mail or domains")
	}
	a := &API{
		Config:   cfg,
		places:   make(chan struct{}, cfg.MaxRequests),
		visitors: make(chan struct{}, max(1, cfg.MaxRequests/4)),
		memory:   newMemory(1, cfg.MaxMessage),
		guesses:  newGuesses(),
		sessions: newSessions(time.Now),
		budgets:  newBudgets(cfg.Rate, int64(max(1, cfg.MaxRequests/2)), cfg.MaxMessage),
		origin:   crossOrigin(cfg.PublicURL),
	}
	for _, name := range cfg.SendingDomains {
		normal, err := parsePattern(name)
		if err != nil {
			return nil, err
		}
		a.sending = append(a.sending, normal)
	}
	a.routes, a.uiRoutes = a.table(), a.uiTable()
	return a, nil
}
