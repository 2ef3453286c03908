package status

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/emersion/go-message/textproto"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/downgrade"
	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// goldenCase is an attempt and the file that holds its document.
type goldenCase struct {
	name    string
	attempt *delivery.Attempt
}

// goldenCases are the stories that the operator's page tells.
func goldenCases() []goldenCase {
	return []goldenCase{
		{"delivered-verified", deliveredVerified()},
		{"delivered-plaintext-fallback", deliveredPlaintext()},
		{"delivered-unverified", deliveredUnverified()},
		{"failed-temporary-no-connection", failedNoConnection()},
		{"failed-permanent-hostile", failedHostile()},
		{"failed-policy-unknown", failedPolicy()},
		{"null-sender", nullSender()},
		{"several-hosts", severalHosts()},
		{"idn", idn()},
		{"delivered-downgraded", deliveredDowngraded()},
		{"failed-downgraded", failedDowngraded()},
	}
}

func testHeader(fields ...string) textproto.Header {
	var h textproto.Header
	for i := len(fields) - 2; i >= 0; i -= 2 {
		h.Add(fields[i], fields[i+1]) // a header is built from the bottom up
	}
	return h
}

// deliveredVerified is the example of the contract.
func deliveredVerified() *delivery.Attempt {
	return &delivery.Attempt{
		Module:    "outbound",
		MessageID: "7f3a9c1e-18f3",
		Hostname:  "relay.example.com",
		QueueID:   "7f3a9c1e",
		Sender:    "a@example.com",
		Recipient: "b@example.net",
		Domain:    "example.net",
		Number:    1,
		Size:      4211,
		Header:    testHeader("Message-ID", "<x@example.com>", "Message-ID", "<second@example.com>", "Subject", "secret"),
		Concluded: time.Unix(1766430000, 123456789),
		Settings: &policy.Settings{
			RequireTLS: true, RequireTLSSource: policy.FromMessage,
			SkipVerificationSource: policy.FromDefault,
		},
		Plan:     &tlsplan.Plan{Demand: tlsplan.DemandVerified, Floors: []tlsplan.Floor{tlsplan.FloorMTASTS}},
		Result:   delivery.Delivered,
		Code:     250,
		Enhanced: [3]int{2, 0, 0},
		Message:  "OK queued as 4F2",
		Connection: &delivery.Connection{
			Host:    "mx1.example.net",
			IP:      netip.MustParseAddr("198.51.100.3"),
			Port:    25,
			LocalIP: netip.MustParseAddr("192.0.2.7"),
			Seconds: 0.1479,
			Outcome: tlsplan.Outcome{
				TLS:          true,
				Version:      tls.VersionTLS13,
				CipherSuite:  tls.TLS_AES_128_GCM_SHA256,
				KeyExchange:  tls.X25519MLKEM768,
				HandshakeIn:  20 * time.Millisecond,
				Verification: tlsplan.VerifiedPKIX,
				Certificate:  testCertificate(),
			},
		},
		Hosts: []delivery.HostFailure{{
			Host: "mx0.example.net", IP: netip.MustParseAddr("198.51.100.2"),
			Reason: tlsplan.Connect, Text: "connection refused",
		}},
		ContentSent: tlsplan.ProtectionVerified,
	}
}

func testCertificate() *tlsplan.Certificate {
	c := &tlsplan.Certificate{
		Subject:  "CN=mx1.example.net",
		Issuer:   "CN=R11",
		NotAfter: time.Date(2027, 1, 2, 4, 4, 5, 0, time.FixedZone("CET", 3600)),
	}
	c.SHA256[0], c.SHA256[31] = 0xab, 0x01
	return c
}

func deliveredPlaintext() *delivery.Attempt {
	a := deliveredVerified()
	a.Settings = &policy.Settings{
		RequireTLSSource: policy.FromDefault, SkipVerificationSource: policy.FromDomain, SkipVerificationPlace: "/etc/maddy/maddy.conf:12",
	}
	a.STSErr = &mtasts.Error{Kind: mtasts.FetchError, Domain: "example.net", Err: errors.New("connection refused")}
	a.ContentSent = tlsplan.ProtectionClear
	a.Plan = &tlsplan.Plan{Demand: tlsplan.Opportunistic}
	a.Hosts = nil
	a.Description = "delivered in clear: the certificate has expired"
	a.Fallback = tlsplan.CertificateExpired
	a.Connection.Outcome = tlsplan.Plaintext(
		&tlsplan.Problem{Reason: tlsplan.CertificateExpired, Text: "x509: certificate has expired"}, testCertificate())
	return a
}

func deliveredUnverified() *delivery.Attempt {
	a := deliveredVerified()
	a.Settings = &policy.Settings{
		RequireTLS: true, RequireTLSSource: policy.FromTable,
		SkipVerification: true, SkipVerificationSource: policy.FromDestination,
	}
	a.Plan = &tlsplan.Plan{Demand: tlsplan.DemandTLS, Skip: true, KeepUnverified: true}
	a.Lifted = true
	a.ContentSent = tlsplan.ProtectionUnverified
	a.Hosts = nil
	a.Connection.Reused = true
	o := &a.Connection.Outcome
	o.Version, o.CipherSuite, o.KeyExchange = tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.CurveP256
	o.Verification = tlsplan.VerifiedNone
	o.Problem = &tlsplan.Problem{
		Reason: tlsplan.CertificateNameMismatch,
		Text:   "x509: certificate is valid for other.example, not mx1.example.net",
	}
	return a
}

func failedNoConnection() *delivery.Attempt {
	a := deliveredVerified()
	a.Number = 3
	a.Result, a.Reason = delivery.Temporary, tlsplan.Connect
	a.Code, a.Enhanced, a.Message = 451, [3]int{4, 4, 1}, "No MX host could be reached"
	a.Description = "none of 1 hosts accepted a connection"
	a.Connection, a.ContentSent = nil, ""
	return a
}

// hostileText is what a malicious server may send to spoil the log.
func hostileText() string {
	return "550 no\r\n{\"event\":\"delivered\",\"id\":\"forged\"}\n\"}\\u0000\x00\x1b[2J\x7f" +
		"\u0085\u009b31m\u2028\u2029\u202e\ufeff\xff\xfe<>&\U000e0041" + strings.Repeat("\u00e9\xc3", 5<<10)
}

func failedHostile() *delivery.Attempt {
	a := deliveredVerified()
	a.Result, a.Reason = delivery.Permanent, tlsplan.RcptRejected
	a.Code, a.Enhanced, a.Message = 550, [3]int{5, 1, 1}, hostileText()
	a.Description = "the host refused the recipient"
	a.Header = testHeader("Message-ID", "<\"},\"event\":\"\x01\">")
	a.Hosts = nil
	return a
}

// failedPolicy has neither settings nor a plan, because the table failed.
func failedPolicy() *delivery.Attempt {
	a := failedNoConnection()
	a.Settings, a.Plan, a.Hosts = nil, nil, nil
	a.Reason = tlsplan.Policy
	a.Enhanced, a.Message = [3]int{4, 3, 5}, "TLS policy is not available"
	a.Description = ""
	a.Number, a.Size, a.Header = 0, 0, textproto.Header{}
	return a
}

func nullSender() *delivery.Attempt {
	a := deliveredVerified()
	a.Sender = ""
	a.Hosts = nil
	return a
}

func severalHosts() *delivery.Attempt {
	a := deliveredVerified()
	a.Result, a.Reason = delivery.Temporary, tlsplan.CertificateUntrusted
	a.Code, a.Enhanced, a.Message = 451, [3]int{4, 7, 5}, "TLS could not be verified"
	a.Description = "the certificate is signed by an unknown authority"
	a.Connection.Host = "mx2.example.net"
	a.Connection.IP = netip.MustParseAddr("2001:db8::25")
	a.Connection.LocalIP = netip.MustParseAddr("::ffff:192.0.2.7")
	a.Connection.Outcome.Verification = tlsplan.VerifiedNone
	a.Connection.Outcome.Problem = &tlsplan.Problem{Reason: tlsplan.CertificateUntrusted, Text: "unknown authority"}
	a.ContentSent = tlsplan.ProtectionClear
	a.Hosts = []delivery.HostFailure{
		{Host: "mx0.example.net", Reason: tlsplan.MXLookup, Text: "no such host"},
		{Host: "mx00.example.net", Reason: tlsplan.ConnectionLost, Text: "EOF", Sent: tlsplan.ProtectionClear},
		{Host: "mx1.example.net", IP: netip.MustParseAddr("fe80::1%eth0"), Reason: tlsplan.Timeout, Text: "i/o timeout"},
		{Host: "mx2.example.net", IP: netip.MustParseAddr("2001:db8::25"), Reason: tlsplan.CertificateUntrusted, Text: "unknown authority"},
	}
	return a
}

func idn() *delivery.Attempt {
	a := deliveredVerified()
	a.Recipient, a.Domain = "jürgen@xn--bcher-kva.example", "bücher.example"
	a.Connection.Host = "mx.xn--bcher-kva.example"
	a.Connection.Outcome.Verification = tlsplan.VerifiedDANEEE
	a.ContentSent = "odd"
	a.Plan = &tlsplan.Plan{Demand: tlsplan.DemandDANE, Floors: []tlsplan.Floor{tlsplan.FloorDANE, tlsplan.FloorREQUIRETLS}}
	a.UTF8 = true
	a.Hosts = nil
	return a
}

// deliveredDowngraded: downgrade_action log.
func deliveredDowngraded() *delivery.Attempt {
	a := deliveredPlaintext()
	a.Downgrade = &delivery.Downgrade{
		Host: "mx1.example.net",
		Expected: downgrade.Expectation{
			Level: downgrade.Verified, By: tlsplan.VerifiedDANEEE,
			LastSeen: time.Date(2025, 11, 20, 11, 0, 0, 0, time.FixedZone("CET", 3600)),
		},
		Action: downgrade.Log,
	}
	return a
}

// failedDowngraded: downgrade_action defer, for a sender who skips verification.
func failedDowngraded() *delivery.Attempt {
	a := deliveredPlaintext()
	a.Result, a.Reason, a.Fallback = delivery.Temporary, tlsplan.TLSNotOffered, ""
	a.Code, a.Enhanced = 451, [3]int{4, 7, 4}
	a.Message = "mx1.example.net gave TLS on 2025-11-20 and cannot give it now: tls-not-offered: the host does not offer STARTTLS"
	a.Description = a.Message
	a.STSErr, a.ContentSent = nil, ""
	a.Connection.Outcome = tlsplan.Plaintext(
		&tlsplan.Problem{Reason: tlsplan.TLSNotOffered, Text: "the host does not offer STARTTLS"}, nil)
	a.Downgrade = &delivery.Downgrade{
		Host:     "mx1.example.net",
		Expected: downgrade.Expectation{Level: downgrade.TLS, LastSeen: time.Date(2025, 11, 20, 10, 0, 0, 0, time.UTC)},
		Action:   downgrade.Defer,
	}
	return a
}
