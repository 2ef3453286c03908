package tlsrpt

import (
	"encoding/json"
	"errors"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"time"

	mox "github.com/mjl-/mox/tlsrpt"
)

// Bounds on one day.
const (
	maxDayBytes = 16 << 20 // the file
	maxDomains  = 50_000
	maxPolicies = 64   // of one domain: one for each MX host that has TLSA records, mostly
	maxDetails  = 1000 // of one domain; further failures are counted without details
	maxCount    = 1 << 50
)

const dayForm = time.DateOnly

// countsLine is one line of a day's file: how often this was seen since the
// line before.
type countsLine struct {
	Domain  string                  `json:"domain"`
	Policy  mox.ResultPolicyJSON    `json:"policy"`
	Failure *mox.FailureDetailsJSON `json:"failure,omitempty"` // nil for success
	Count   int64                   `json:"count"`
}

// day is the counts of one UTC day, added up.
type day struct {
	name    string // 2026-11-26
	domains map[string]*tally
	bad     int   // lines that could not be read
	lost    int64 // sessions of domains and policies that found no room
}

// tally is the counts of one domain.
type tally struct {
	policies map[string]*policyTally // by the policy's JSON
	details  int                     // failures told apart, of all policies
}

type policyTally struct {
	policy    mox.ResultPolicyJSON
	succeeded int64
	failed    int64
	details   map[mox.FailureDetailsJSON]int64
}

const countsSuffix = ".jsonl"

func countsPath(dir, name string) string { return filepath.Join(dir, name+countsSuffix) }

func countsHeader(name string) header {
	return header{Kind: kindCounts, Version: version, Day: name}
}

// loadDay adds up the file of a day. One that does not exist is a day without
// sessions; one that is no journal gives errForeign.
func loadDay(dir, name string) (*day, error) { return loadCounts(countsPath(dir, name), name) }

// loadCounts is loadDay for a file of any name.
func loadCounts(path, name string) (*day, error) {
	d := newDay(name)
	var err error
	d.bad, err = readJournal(path, countsHeader(name), 2*maxDayBytes, d.take)
	return d, err
}

func newDay(name string) *day {
	return &day{name: name, domains: make(map[string]*tally)}
}

var errLine = errors.New("not a line of counts")

// take reads one line. The file is ours, but a disk may lie: nothing is
// believed of it.
func (d *day) take(text []byte) error {
	var l countsLine
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	return d.takeLine(l)
}

func (d *day) takeLine(l countsLine) error {
	if !isDomain(l.Domain) || l.Count <= 0 || l.Count > maxCount {
		return errLine
	}
	d.add(l)
	return nil
}

func (d *day) add(l countsLine) {
	t := d.domains[l.Domain]
	if t == nil {
		if len(d.domains) == maxDomains {
			d.lost = plus(d.lost, l.Count)
			return
		}
		t = &tally{policies: make(map[string]*policyTally)}
		d.domains[l.Domain] = t
	}
	policy := Policy{Type: l.Policy.Type, Domain: l.Policy.Domain, Strings: l.Policy.String, MX: l.Policy.MXHost}.document()
	id := encode(policy)
	p := t.policies[id]
	if p == nil {
		if len(t.policies) == maxPolicies {
			d.lost = plus(d.lost, l.Count)
			return
		}
		p = &policyTally{policy: policy, details: make(map[mox.FailureDetailsJSON]int64)}
		t.policies[id] = p
	}
	if l.Failure == nil {
		p.succeeded = plus(p.succeeded, l.Count)
		return
	}
	p.failed = plus(p.failed, l.Count)
	f := bounded(*l.Failure)
	if f.ResultType == "" {
		return // of lines: a failure whose details found no room
	}
	if _, known := p.details[f]; !known {
		if t.details == maxDetails {
			return
		}
		t.details++
	}
	p.details[f] = plus(p.details[f], l.Count)
}

// bounded is what may be in a report, without a count: what is told apart.
func bounded(f mox.FailureDetailsJSON) mox.FailureDetailsJSON {
	return mox.FailureDetailsJSON{
		ResultType:          mox.ResultType(clean(string(f.ResultType), maxText)),
		SendingMTAIP:        clean(f.SendingMTAIP, maxText),
		ReceivingMXHostname: clean(f.ReceivingMXHostname, maxText),
		ReceivingMXHelo:     clean(f.ReceivingMXHelo, maxText),
		ReceivingIP:         clean(f.ReceivingIP, maxText),
		FailureReasonCode:   clean(f.FailureReasonCode, maxText),
	}
}

// plus adds counts without ever overflowing.
func plus(a, b int64) int64 { return min(a+b, maxCount) }

// results lists the policies of a domain as reports do, in an order that stays
// the same.
func (t *tally) results() []mox.ResultJSON {
	var results []mox.ResultJSON
	for _, p := range t.policies {
		r := mox.ResultJSON{
			Policy: p.policy,
			Summary: mox.SummaryJSON{
				TotalSuccessfulSessionCount: p.succeeded,
				TotalFailureSessionCount:    p.failed,
			},
			FailureDetails: []mox.FailureDetailsJSON{}, // receivers expect a list
		}
		for f, n := range p.details {
			f.FailedSessionCount = n
			r.FailureDetails = append(r.FailureDetails, f)
		}
		slices.SortFunc(r.FailureDetails, func(a, b mox.FailureDetailsJSON) int {
			if a.FailedSessionCount != b.FailedSessionCount {
				return int(min(max(b.FailedSessionCount-a.FailedSessionCount, -1), 1))
			}
			return strings.Compare(encode(a), encode(b))
		})
		results = append(results, r)
	}
	slices.SortFunc(results, func(a, b mox.ResultJSON) int { return strings.Compare(encode(a.Policy), encode(b.Policy)) })
	return results
}

// lines writes the day in as few lines as it takes, for a file that has grown
// too long.
func (d *day) lines() []byte {
	var b []byte
	for l := range d.all() {
		b = append(append(b, encode(l)...), '\n')
	}
	return b
}

// sessions adds up all counts.
func (d *day) sessions() (n int64) {
	for l := range d.all() {
		n = plus(n, l.Count)
	}
	return n
}

// all are the counts of the day, each once. Failures whose details found no room
// are one without any.
func (d *day) all() iter.Seq[countsLine] {
	return func(yield func(countsLine) bool) {
		for domain, t := range d.domains {
			for _, p := range t.policies {
				if !p.all(domain, yield) {
					return
				}
			}
		}
	}
}

// all yields the counts of a policy, and returns false if no more are wanted.
func (p *policyTally) all(domain string, yield func(countsLine) bool) bool {
	put := func(failure *mox.FailureDetailsJSON, count int64) bool {
		return count <= 0 || yield(countsLine{Domain: domain, Policy: p.policy, Failure: failure, Count: count})
	}
	if !put(nil, p.succeeded) {
		return false
	}
	rest := p.failed
	for f, n := range p.details {
		if !put(&f, n) {
			return false
		}
		rest -= n
	}
	return put(&mox.FailureDetailsJSON{}, rest)
}
