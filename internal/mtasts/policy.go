package mtasts

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mjl-/mox/mtasts"
)

// Mode says what a policy wants of senders (RFC 8461, section 5).
type Mode string

const (
	Enforce Mode = "enforce" // mail goes to matching hosts over verified TLS only
	Testing Mode = "testing" // mail goes as ever, failures are reported
	None    Mode = "none"    // the domain has no policy, or no longer
)

const (
	// maxAge bounds how long a policy is in force, some leap year (RFC 8461, 3.2).
	maxAge = 31557600 * time.Second
	// minAge is how long it is in force at least. The RFC knows no minimum, but
	// wants five minutes between fetches (3.3). A domain that says less would
	// otherwise have no policy in between, or be asked with each message. One that
	// changes its mind is heard sooner: by the id in its record.
	minAge = 5 * time.Minute
)

// Policy is what a domain demands. It is shared and must not be changed.
type Policy struct {
	ID      string   // of the TXT record for which it was fetched
	Mode    Mode     // None in files only: Lookup takes it for no policy
	MX      []string // A-labels, lower case, with "*." in front for one label more
	MaxAge  time.Duration
	Fetched time.Time // when its host was asked
	Expires time.Time
}

// Matches reports whether a host, given as A-labels, is one that the policy
// allows. A pattern "*.example.net" stands for hosts with exactly one label in
// front of it (RFC 8461, section 4.1).
func (p *Policy) Matches(host string) bool {
	if p == nil {
		return false
	}
	host = strings.TrimSuffix(host, ".")
	first, rest, _ := strings.Cut(host, ".")
	for _, pattern := range p.MX {
		parent, wildcard := strings.CutPrefix(pattern, "*.")
		if wildcard && first != "" && equalFold(rest, parent) || !wildcard && equalFold(host, pattern) {
			return true
		}
	}
	return false
}

// equalFold compares names as DNS does, where only ASCII has two cases: for
// strings.EqualFold the Kelvin sign is a k. Empty names equal nothing.
func equalFold(a, b string) bool {
	if len(a) != len(b) || a == "" {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// freshAt tells whether the policy is in force. One from the future was fetched
// while the clock was wrong, and would be in force for too long.
func (p *Policy) freshAt(now time.Time) bool {
	return p != nil && now.Before(p.Expires) && !now.Before(p.Fetched.Add(-time.Hour))
}

// expiry is when a policy fetched at some time is no longer in force.
func expiry(fetched time.Time, age time.Duration) time.Time {
	return fetched.Add(max(age, minAge))
}

// parsePolicy reads the body of a policy. Empty lines at its end, which the RFC
// does not foresee and people leave, are forgiven.
func parsePolicy(body, id string, fetched time.Time) (policy *Policy, err error) {
	defer func() {
		if failure := recover(); failure != nil {
			policy, err = nil, fmt.Errorf("the policy cannot be read: %v", failure)
		}
	}()
	parsed, err := mtasts.ParsePolicy(strings.TrimRight(body, "\r\n\t "))
	if err != nil {
		return nil, err
	}
	age := min(time.Duration(parsed.MaxAgeSeconds)*time.Second, maxAge)
	policy = &Policy{
		ID: id, Mode: Mode(parsed.Mode), MaxAge: age,
		Fetched: fetched, Expires: expiry(fetched, age),
	}
	for _, mx := range parsed.MX {
		// A copy: the name may be part of a body that shall be forgotten.
		pattern := strings.Clone(mx.Domain.ASCII)
		if mx.Wildcard {
			pattern = "*." + pattern
		}
		policy.MX = append(policy.MX, pattern)
	}
	if err := policy.check(); err != nil {
		return nil, err
	}
	return policy, nil
}

// check finds what a policy must not be, wherever it comes from.
func (p *Policy) check() error {
	switch {
	case !validID(p.ID):
		return errors.New("the id is none")
	case p.Mode != Enforce && p.Mode != Testing && p.Mode != None:
		return errors.New("the mode is none of enforce, testing and none")
	case p.MaxAge < 0 || p.MaxAge > maxAge:
		return errors.New("max_age is out of bounds")
	case len(p.MX) == 0 && p.Mode != None:
		return errors.New("no mx is listed")
	}
	for _, pattern := range p.MX {
		if !validName(strings.TrimPrefix(pattern, "*.")) {
			return errors.New("an mx is no host name")
		}
	}
	return nil
}

// validID tells whether an id is one to 32 letters and digits (RFC 8461, 3.1).
func validID(id string) bool {
	for i := range len(id) {
		if c := lower(id[i]); (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return id != "" && len(id) <= 32
}
