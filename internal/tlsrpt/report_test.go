package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	mox "github.com/mjl-/mox/tlsrpt"
)

// reader is how somebody else reads a report: written after RFC 8460, section
// 4.4 by hand, with nothing of ours or of the library that writes it.
type reader struct {
	Organization string `json:"organization-name"`
	Dates        struct {
		Start string `json:"start-datetime"`
		End   string `json:"end-datetime"`
	} `json:"date-range"`
	Contact  string         `json:"contact-info"`
	ID       string         `json:"report-id"`
	Policies []readerPolicy `json:"policies"`
}

type readerPolicy struct {
	Policy struct {
		Type    string   `json:"policy-type"`
		Strings []string `json:"policy-string"`
		Domain  string   `json:"policy-domain"`
		MX      []string `json:"mx-host"` // a list by erratum 6241
	} `json:"policy"`
	Summary struct {
		Successful uint64 `json:"total-successful-session-count"`
		Failed     uint64 `json:"total-failure-session-count"`
	} `json:"summary"`
	Failures []struct {
		Result     string `json:"result-type"`
		SendingIP  string `json:"sending-mta-ip"`
		MX         string `json:"receiving-mx-hostname"`
		Helo       string `json:"receiving-mx-helo"`
		IP         string `json:"receiving-ip"`
		Count      uint64 `json:"failed-session-count"`
		Additional string `json:"additional-information"`
		Reason     string `json:"failure-reason-code"`
	} `json:"failure-details"`
}

func read(t *testing.T, text []byte) reader {
	t.Helper()
	var r reader
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return r
}

// The sessions that the example of RFC 8460, appendix B is about make that
// example, but for what is ours to choose: its ID, the URI of one failure, and
// the order of failures.
func TestExampleOfTheRFC(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/rfc8460-appendix-b.json")
	if err != nil {
		t.Fatal(err)
	}
	want := read(t, text)

	policy := Policy{
		Type: mox.STS, Domain: "company-y.example", MX: []string{"*.mail.company-y.example"},
		Strings: []string{"version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"},
	}
	d := newDay("2016-04-01")
	count := func(n int64, from, host, ip, failure, reason string) {
		s := Session{Domain: "company-y.example", MXHost: host, Verdicts: []Verdict{{Policy: policy, Failure: mox.ResultType(failure), Reason: reason}}}
		if from != "" {
			s.LocalIP = netip.MustParseAddr(from)
		}
		if ip != "" {
			s.MXIP = netip.MustParseAddr(ip)
		}
		if err := d.take(s.keys("2016-04-01")[0].appendLine(nil, n)); err != nil {
			t.Fatal(err)
		}
	}
	count(5326, "", "mx1.mail.company-y.example", "", "", "")
	count(100, "2001:db8:abcd:0012::1", "mx1.mail.company-y.example", "", "certificate-expired", "")
	count(200, "2001:db8:abcd:0013::1", "mx2.mail.company-y.example", "203.0.113.56", "starttls-not-supported", "")
	count(3, "198.51.100.62", "mx-backup.mail.company-y.example", "203.0.113.58", "validation-failure", "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED")
	doc, err := Sender{Organization: "Company-X", Contact: "sts-reporting@company-x.example", From: "noreply@company-x.example"}.
		document("salt", "2016-04-01", "company-y.example", d.domains["company-y.example"])
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := doc.Gzip()
	if err != nil {
		t.Fatal(err)
	}
	got := read(t, unzip(t, zipped))

	if !regexp.MustCompile(`^20160401\.[0-9a-f]{24}@company-x\.example$`).MatchString(got.ID) {
		t.Errorf("ID %q", got.ID)
	}
	got.ID = want.ID
	failures := got.Policies[0].Failures
	failures[0], failures[1] = failures[1], failures[0] // ours begin with the most frequent one
	failures[1].Additional = want.Policies[0].Failures[1].Additional
	for i, f := range want.Policies[0].Failures {
		if f.SendingIP != "" { // as the RFC on writing IPv6 addresses (5952) wants it
			want.Policies[0].Failures[i].SendingIP = netip.MustParseAddr(f.SendingIP).String()
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("not the example of the RFC (-want +got):\n%s", diff)
	}
	name := doc.fileName("company-x.example")
	if !regexp.MustCompile(`^company-x\.example!company-y\.example!1459468800!1459555199![0-9a-f]{24}\.json\.gz$`).MatchString(name) {
		t.Errorf("file name %q", name)
	}
}

// Lists are never null, and what is unknown is left out and not empty.
func TestNothingEmpty(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.r.Record(session("example.net", ""))
	w.r.Record(Session{Domain: "example.net", Verdicts: []Verdict{{Policy: Policy{Type: mox.STS, Domain: "example.net"}, Failure: mox.ResultSTSPolicyFetch}}})
	text, err := w.read()[0].JSON()
	if err != nil || strings.Contains(string(text), "null") || strings.Contains(string(text), `""`) {
		t.Errorf("%s, %v", text, err)
	}
}

// IDs are the same after a restart, and differ by domain, day and installation.
func TestReportID(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, salt := range []string{"a", "b"} {
		for _, day := range []string{"2026-11-26", "2026-11-27"} {
			for _, domain := range []string{"x.example", "y.example"} {
				one, err := us.document(salt, day, domain, &tally{})
				if err != nil {
					t.Fatal(err)
				}
				two, err := us.document(salt, day, domain, &tally{})
				if err != nil || one.ReportID != two.ReportID || seen[one.ReportID] {
					t.Errorf("%q and %q, %v", one.ReportID, two.ReportID, err)
				}
				seen[one.ReportID] = true
			}
		}
	}
	w := newWorld(t)
	salt := w.r.id
	w.open()
	if salt == "" || w.r.id != salt {
		t.Errorf("salt %q became %q", salt, w.r.id)
	}
}

func unzip(t *testing.T, zipped []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
