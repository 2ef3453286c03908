package tlsrpt

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"

	mox "github.com/mjl-/mox/tlsrpt"
)

// What is recorded is read back, by domain, policy and failure, whoever wrote in
// between, and by another reader while the reporter runs.
func TestCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 100 {
				w.r.Record(session("example.net", ""))
				if i%10 == 0 {
					w.r.Record(session("Example.NET", mox.ResultCertificateExpired))
					w.r.flush()
				}
			}
		})
	}
	all.Wait()
	w.r.Record(session("b.example", ""))
	w.r.Record(session("not a domain", ""))
	w.r.Record(session("", ""))
	want := map[string][2]int64{"example.net": {800, 80}, "b.example": {1, 0}}
	docs := w.read()
	if got := counted(docs); !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	details := docs[1].Policies[0].FailureDetails
	if len(details) != 1 || details[0] != (mox.FailureDetailsJSON{
		ResultType: "certificate-expired", SendingMTAIP: "198.51.100.7", ReceivingMXHostname: "mx1.Example.NET",
		ReceivingMXHelo: "mx1", ReceivingIP: "203.0.113.5", FailedSessionCount: 80,
	}) {
		t.Errorf("details %+v", details)
	}

	// A restart goes on where it was.
	w.open()
	w.r.Record(session("b.example", ""))
	w.close()
	want["b.example"] = [2]int64{2, 0}
	if got := counted(w.read()); !maps.Equal(got, want) {
		t.Errorf("after a restart %v, want %v", got, want)
	}
	w.r.Record(session("b.example", "")) // after Close: nothing happens
	if got := counted(w.read()); !maps.Equal(got, want) {
		t.Errorf("after Close %v, want %v", got, want)
	}
}

// Several policies each have their verdict.
func TestPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := session("example.net", "")
	s.Verdicts = []Verdict{
		{Policy: Policy{Type: mox.STS, Domain: "example.net", Strings: []string{"version: STSv1", "mode: enforce"}, MX: []string{"*.example.net"}}},
		{Policy: Policy{Type: mox.TLSA, Domain: "mx1.example.net", Strings: []string{"3 1 1 ab"}}, Failure: mox.ResultTLSAInvalid, Reason: "dane-mismatch"},
	}
	w.r.Record(s)
	policies := w.read()[0].Policies
	if len(policies) != 2 || policies[0].Policy.Type != mox.STS || policies[0].Summary.TotalSuccessfulSessionCount != 1 ||
		policies[1].Policy.Domain != "mx1.example.net" || policies[1].Summary.TotalFailureSessionCount != 1 ||
		policies[1].FailureDetails[0].FailureReasonCode != "dane-mismatch" {
		t.Errorf("policies %+v", policies)
	}
}

// What strangers say is bounded and printable, and the lines stay lines.
func TestHostileText(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := session("example.net", mox.ResultValidationFailure)
	s.Helo = "mx\"\r\n{}\x00\xff" + strings.Repeat("x", 1000)
	s.MXHost = strings.Repeat("m", 1000)
	s.Verdicts[0].Policy = Policy{Type: mox.STS, Domain: "example.net"}
	for range 5000 {
		s.Verdicts[0].Policy.Strings = append(s.Verdicts[0].Policy.Strings, strings.Repeat("<", 2000))
		s.Verdicts[0].Policy.MX = append(s.Verdicts[0].Policy.MX, "*.example.net\n")
	}
	w.r.Record(s)
	d := w.read()[0]
	p := d.Policies[0]
	if len(p.Policy.String) != maxPolicySize/maxPolicyLine || len(p.FailureDetails) != 1 || len(p.FailureDetails[0].ReceivingMXHostname) != maxText {
		t.Errorf("policy of %d lines, details %+v", len(p.Policy.String), p.FailureDetails)
	}
	if helo := p.FailureDetails[0].ReceivingMXHelo; !strings.HasPrefix(helo, `mx"??{}??xxx`) {
		t.Errorf("helo %q", helo)
	}
	file, err := os.ReadFile(countsPath(w.cfg.Dir, theDay))
	if err != nil || strings.Count(string(file), "\n") != 2 {
		t.Errorf("%v, %q", err, file)
	}
}

// However many different things are seen, a report stays one that receivers
// take; of the policies that are in it nothing is left out of the sums.
func TestBoundedDocument(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const seen = 2 * maxDetails
	for i := range seen {
		s := session("example.net", mox.ResultValidationFailure)
		s.Helo = fmt.Sprintf("%d%s", i, strings.Repeat("\"", maxText))
		s.MXHost = strings.Repeat("\\", maxText)
		s.Verdicts[0].Reason = strings.Repeat("<", maxText) // six octets each, in JSON
		w.r.Record(s)
	}
	for i := range 2 * maxPolicies {
		s := session("example.net", "")
		s.Verdicts[0].Policy = Policy{Type: mox.TLSA, Domain: fmt.Sprintf("mx%d.example.net", i), Strings: make([]string, 2*maxPolicyLines)}
		for j := range s.Verdicts[0].Policy.Strings {
			s.Verdicts[0].Policy.Strings[j] = strings.Repeat("<", 80)
		}
		w.r.Record(s)
	}
	d := w.read()[0]
	if ok, failed := d.Sessions(); failed != 0 && failed != seen || ok == 0 {
		t.Errorf("%d and %d sessions", ok, failed)
	}
	text, err := d.JSON()
	if err != nil || len(text) > 10_000_000 {
		t.Errorf("%d octets, %v", len(text), err)
	}
	details := 0
	for _, p := range d.Policies {
		details += len(p.FailureDetails)
	}
	if len(d.Policies) != maxPolicies || details > maxDetails {
		t.Errorf("%d policies, %d details", len(d.Policies), details)
	}
	if w.step(allDue); !w.log.has("TLS reports leave sessions out") {
		t.Error("not a word about the policies that found no room")
	}
}

// A file that grows too long is written anew with the same sums, until that does
// not help; then the day is full, and the next one is not.
func TestCompact(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.r.maxDayBytes = 8 << 10
	for range 100 {
		w.r.Record(session("example.net", mox.ResultCertificateExpired))
		w.r.Record(session("example.net", ""))
		w.r.flush()
	}
	if got := counted(w.read())["example.net"]; got != [2]int64{100, 100} {
		t.Errorf("after compaction %v", got)
	}
	if info, err := os.Stat(countsPath(w.cfg.Dir, theDay)); err != nil || info.Size() > w.r.maxDayBytes {
		t.Errorf("size %v, %v", info.Size(), err)
	}
	for i := range 100 {
		w.r.Record(session(fmt.Sprintf("d%d.example", i), ""))
		w.r.flush()
	}
	if info, err := os.Stat(countsPath(w.cfg.Dir, theDay)); err != nil || info.Size() > w.r.maxDayBytes {
		t.Errorf("size %v, %v", info.Size(), err)
	}
	if got := counted(w.read())["example.net"]; got != [2]int64{100, 100} || !w.log.has(errDayFull.Error()) {
		t.Errorf("when full %v", got)
	}
	w.clock.set(midnight.Add(1))
	w.r.Record(session("example.net", ""))
	w.r.flush()
	if docs, err := documents(w.cfg, midnight); err != nil || len(docs) != 1 {
		t.Errorf("the next day: %v, %v", docs, err)
	}
}

// Failures that found no room for details survive compaction as a number.
func TestCompactKeepsSums(t *testing.T) {
	t.Parallel()
	d := newDay(theDay)
	for i := range maxDetails + 10 {
		d.add(countsLine{Domain: "example.net", Failure: &mox.FailureDetailsJSON{ResultType: "x", ReceivingIP: fmt.Sprint(i)}, Count: 2})
	}
	again := newDay(theDay)
	for line := range strings.Lines(string(d.lines())) {
		if err := again.take([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	results := again.domains["example.net"].results()
	if results[0].Summary.TotalFailureSessionCount != 2*(maxDetails+10) || len(results[0].FailureDetails) != maxDetails {
		t.Errorf("%+v, %d details", results[0].Summary, len(results[0].FailureDetails))
	}
}

// More at once than memory is meant for is lost and said, and what follows is
// counted again.
func TestPendingIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.r.flushing.stop() // so that nothing makes room meanwhile
	for i := range maxPending + 5 {
		w.r.Record(session(fmt.Sprintf("d%d.example", i), ""))
	}
	w.r.Record(session("d1.example", ""))
	docs := w.read()
	if len(docs) != maxPending || counted(docs)["d1.example"] != [2]int64{2, 0} || !w.log.has("5 sessions were not counted") {
		t.Errorf("%d domains", len(docs))
	}
}
