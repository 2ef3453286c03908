package status

import (
	"net/netip"

	"tlscontrol/internal/downgrade"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// The words of `event`, `severity` and `log-level`.
const (
	EventDelivered = "delivered"
	EventFailed    = "failed"

	SeverityTemporary = "temporary"
	SeverityPermanent = "permanent"

	LevelInfo  = "info"
	LevelWarn  = "warn"
	LevelError = "error"
)

// Document is one delivery-status document. The fields stand in the order in
// which they are written. A pointer, or a field with omitempty or omitzero, that
// is not set was not known; no value stands in for "unknown".
//
// encoding/json reads it by the tags. It is written by encode_document.go, where
// each field has its line in the same place.
type Document struct {
	Event           string         `json:"event"`
	ID              ID             `json:"id"`
	Timestamp       Timestamp      `json:"timestamp"`
	LogLevel        string         `json:"log-level"`
	Severity        string         `json:"severity,omitempty"` // failed only
	Reason          tlsplan.Reason `json:"reason,omitempty"`   // failed only
	Hostname        string         `json:"hostname,omitempty"` // ours
	QueueID         string         `json:"queue-id,omitempty"`
	Recipient       string         `json:"recipient"`
	RecipientDomain string         `json:"recipient-domain,omitempty"`
	Envelope        Envelope       `json:"envelope"`
	Message         Message        `json:"message"`
	DeliveryStatus  DeliveryStatus `json:"delivery-status"`
	TLSPolicy       *TLSPolicy     `json:"tls-policy,omitempty"`
}

// Envelope is what was said in MAIL and RCPT. An empty Sender is the null
// sender, not an unknown one.
type Envelope struct {
	Sender    string     `json:"sender"`
	Targets   string     `json:"targets"`
	Transport string     `json:"transport"`
	SendingIP netip.Addr `json:"sending-ip,omitzero"`
}

// Message is what the document tells of the message: the configured header
// fields under lower-case names, and the octets of header and body.
type Message struct {
	Headers Headers `json:"headers,omitempty"`
	Size    int64   `json:"size,omitempty"`
}

// DeliveryStatus is how it went. TLS and the fields that belong to the
// connection are absent when no connection was made.
type DeliveryStatus struct {
	TLS                 *bool                `json:"tls,omitempty"`
	CertificateVerified *bool                `json:"certificate-verified,omitempty"`
	MXHost              string               `json:"mx-host,omitempty"`
	MXIP                netip.Addr           `json:"mx-ip,omitzero"`
	MXPort              int                  `json:"mx-port,omitempty"`
	AttemptNo           int                  `json:"attempt-no,omitempty"`
	Code                int                  `json:"code,omitempty"`
	EnhancedCode        EnhancedCode         `json:"enhanced-code,omitzero"`
	Message             string               `json:"message"`
	Description         string               `json:"description"`
	SessionSeconds      *Seconds             `json:"session-seconds,omitempty"`
	UTF8                bool                 `json:"utf8"`
	TLSVersion          string               `json:"tls-version,omitempty"`
	TLSCipher           string               `json:"tls-cipher,omitempty"`
	TLSKeyExchange      string               `json:"tls-key-exchange,omitempty"`
	Verification        tlsplan.Verification `json:"verification,omitempty"`
	VerificationError   string               `json:"verification-error,omitempty"`
	TLSFallback         tlsplan.Reason       `json:"tls-fallback,omitempty"`
	ContentSent         tlsplan.Protection   `json:"content-sent,omitempty"`
	TLSDowngrade        *TLSDowngrade        `json:"tls-downgrade,omitempty"`
	ConnectionReused    *bool                `json:"connection-reused,omitempty"`
	Certificate         *Certificate         `json:"certificate,omitempty"`
	Hosts               []Host               `json:"hosts,omitempty"`
}

// TLSDowngrade tells of an MX host that gave less TLS than it had proved before.
type TLSDowngrade struct {
	MXHost       string               `json:"mx-host"`
	Expected     downgrade.Level      `json:"expected"`
	Verification tlsplan.Verification `json:"verification,omitempty"` // where verified is expected
	LastSeen     Moment               `json:"last-seen"`
	Action       downgrade.Action     `json:"action"`
}

// Certificate is the certificate that the host showed, good or bad.
type Certificate struct {
	Subject  string `json:"subject"`
	Issuer   string `json:"issuer"`
	NotAfter Moment `json:"not-after"`
	SHA256   Digest `json:"sha256"` // of the DER encoding
}

// Host is one host or address that was given up on the way.
type Host struct {
	MXHost  string         `json:"mx-host,omitempty"`
	MXIP    netip.Addr     `json:"mx-ip,omitzero"`
	Reason  tlsplan.Reason `json:"reason"`
	Message string         `json:"message"`
	// ContentSent is how octets of the message's text left for it, if any did.
	ContentSent tlsplan.Protection `json:"content-sent,omitempty"`
}

// TLSPolicy tells who decided what: the settings as resolved, before floors,
// and what was demanded in the end.
type TLSPolicy struct {
	RequireTLS             *bool           `json:"require-tls,omitempty"`
	SkipVerification       *bool           `json:"skip-verification,omitempty"`
	RequireTLSSource       policy.Source   `json:"require-tls-source,omitempty"`
	SkipVerificationSource policy.Source   `json:"skip-verification-source,omitempty"`
	RequireTLSPlace        string          `json:"require-tls-place,omitempty"`
	SkipVerificationPlace  string          `json:"skip-verification-place,omitempty"`
	TLSRequired            string          `json:"tls-required,omitempty"` // "no" where it was heeded
	MTASTSError            string          `json:"mta-sts-error,omitempty"`
	Floors                 []tlsplan.Floor `json:"floors,omitempty"`
	Demanded               tlsplan.Demand  `json:"demanded,omitempty"`
}
