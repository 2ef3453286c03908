package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	mox "github.com/mjl-/mox/tlsrpt"
)

// Sender is who reports, as every report says.
type Sender struct {
	Organization string
	Contact      string // an address for questions
	From         string // the address that reports come from, ASCII
}

// Submitter is the domain that reports and signs.
func (s Sender) Submitter() string {
	return strings.ToLower(s.From[strings.LastIndexByte(s.From, '@')+1:])
}

// Document is one report.
type Document struct {
	Domain string // that it is about
	mox.ReportJSON
	// Told says of a day that is over what became of the report, by endpoint; Done
	// why nothing more will. Set by Read alone.
	Told map[string]string
	Done string

	unique string // hexadecimal
}

// document makes the report about one domain and day. salt tells installations
// of one submitter apart: two relays must not send different reports under one
// Report-ID.
func (s Sender) document(salt, name, domain string, t *tally) (Document, error) {
	begin, err := time.Parse(dayForm, name)
	if err != nil {
		return Document{}, err
	}
	// The same after a restart, so that a report that was sent twice is known as one.
	unique := digest(salt, s.Submitter(), domain, name)
	return Document{
		Domain: domain,
		unique: unique,
		ReportJSON: mox.ReportJSON{
			OrganizationName: s.Organization,
			ContactInfo:      s.Contact,
			ReportID:         begin.Format("20060102") + "." + unique + "@" + s.Submitter(),
			DateRange: mox.TLSRPTDateRangeJSON{
				Start: begin,
				End:   begin.Add(24*time.Hour - time.Second), // as the example of RFC 8460 has it
			},
			Policies: t.results(),
		},
	}, nil
}

// digest is 24 hexadecimal digits that stand for the parts.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:12])
}

// The library writes what is unknown as an empty string. That is no IP address
// and no URI, and a strict reader may throw the whole report away over it; so
// these types, which differ in tags alone, leave it out.
type (
	sentReport struct {
		mox.ReportJSON
		Policies []sentResult `json:"policies"` // in place of the embedded one
	}
	sentResult struct {
		Policy         mox.ResultPolicyJSON `json:"policy"`
		Summary        mox.SummaryJSON      `json:"summary"`
		FailureDetails []sentFailure        `json:"failure-details"`
	}
	sentFailure struct {
		ResultType            mox.ResultType `json:"result-type"`
		SendingMTAIP          string         `json:"sending-mta-ip,omitempty"`
		ReceivingMXHostname   string         `json:"receiving-mx-hostname,omitempty"`
		ReceivingMXHelo       string         `json:"receiving-mx-helo,omitempty"`
		ReceivingIP           string         `json:"receiving-ip,omitempty"`
		FailedSessionCount    int64          `json:"failed-session-count"`
		AdditionalInformation string         `json:"additional-information,omitempty"`
		FailureReasonCode     string         `json:"failure-reason-code,omitempty"`
	}
)

// JSON is the document as it is sent.
func (d Document) JSON() ([]byte, error) {
	sent := sentReport{ReportJSON: d.ReportJSON, Policies: []sentResult{}}
	for _, p := range d.Policies {
		r := sentResult{Policy: p.Policy, Summary: p.Summary, FailureDetails: []sentFailure{}}
		for _, f := range p.FailureDetails {
			r.FailureDetails = append(r.FailureDetails, sentFailure(f))
		}
		sent.Policies = append(sent.Policies, r)
	}
	return json.Marshal(sent)
}

// Gzip is the document as it travels (RFC 8460, section 5.2).
func (d Document) Gzip() ([]byte, error) {
	text, err := d.JSON()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// fileName is RFC 8460, section 5.1.
func (d Document) fileName(submitter string) string {
	return fmt.Sprintf("%s!%s!%d!%d!%s.json.gz", submitter, d.Domain,
		d.DateRange.Start.Unix(), d.DateRange.End.Unix(), d.unique)
}

// Sessions adds up the counts of all policies. A session that several policies
// spoke about counts for each.
func (d Document) Sessions() (succeeded, failed int64) {
	for _, p := range d.Policies {
		succeeded = plus(succeeded, p.Summary.TotalSuccessfulSessionCount)
		failed = plus(failed, p.Summary.TotalFailureSessionCount)
	}
	return succeeded, failed
}
