package api

import (
	"crypto/sha256"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"tlscontrol/internal/policy"
)

// maxSecret bounds what may be a key. Those of apikey have 73 octets.
const maxSecret = 256

// denied is how Mailgun refuses a key: with JSON, and for messages with a word.
func denied(rt *route) *Error {
	if strings.Contains(rt.path, "/messages") {
		return &Error{Status: http.StatusUnauthorized, Text: "Forbidden", bare: true}
	}
	return &Error{Status: http.StatusUnauthorized, Text: "Invalid private key"}
}

// secret returns the key that a request brings: the password of the user "api"
// (Basic, RFC 7617), or the token (Bearer, RFC 6750); "" if it brings none.
func secret(r *http.Request) string {
	if user, password, ok := r.BasicAuth(); ok && user == "api" {
		return password
	}
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		return token
	}
	return ""
}

// authenticate returns who is calling. A key that is not for the route is
// refused like one that does not exist.
func (a *API) authenticate(r *http.Request, rt *route) (Key, error) {
	key, found, err := a.identify(r, secret(r))
	switch {
	case err != nil:
		return Key{}, err
	case !found:
		return Key{}, denied(rt)
	case !key.opens(rt.access): // no guess
		return Key{}, a.refuse(r, rt, key)
	}
	return key, nil
}

// refuse is the answer to a key that is not for the route.
func (a *API) refuse(r *http.Request, rt *route, key Key) *Error {
	a.Log("key refused", "key", key.ID, "src_ip", remote(r).String(), "path", Plain(r.URL.Path))
	return denied(rt)
}

// identify returns the key that a secret belongs to, and whether there is one;
// "" is none. Who sends many wrong ones has to wait.
func (a *API) identify(r *http.Request, word string) (Key, bool, error) {
	from := remote(r)
	if wait := a.guesses.wait(from); wait > 0 && !a.guesses.wasGood(word) {
		return Key{}, false, tooMany("Too many requests with wrong keys", wait)
	}
	if word != "" && len(word) <= maxSecret {
		key, found, err := a.Keys.Authenticate(r.Context(), word)
		if err != nil {
			return Key{}, false, a.keysAway(err)
		}
		if found {
			a.guesses.good.Add(sha256.Sum256([]byte(word)), struct{}{})
			return key, true, nil
		}
		a.guesses.good.Remove(sha256.Sum256([]byte(word)))
	}
	a.guesses.wrong(from)
	a.Log("authentication failed", "src_ip", from.String())
	return Key{}, false, nil
}

// keysAway is for when nobody knows whose a key is.
func (a *API) keysAway(err error) error {
	a.Log("keys cannot be looked up", "reason", err.Error())
	return unavailable("Keys cannot be looked up now, try again later")
}

// admit returns the normalised domain of the path. A key of one domain does not
// learn which others there are.
func (a *API) admit(key Key, rt *route, name string) (string, error) {
	domain, err := policy.ParseDomain(name)
	if key.Domain != "" && (err != nil || key.Domain != domain) {
		return "", denied(rt)
	}
	if err != nil || !a.knows(domain) {
		return "", domainNotFound(name)
	}
	return domain, nil
}

// knows reports whether the API is for a normalised domain.
func (a *API) knows(domain string) bool { return len(a.sending) == 0 || covers(a.sending, domain) }

// Covers reports whether names for Config.SendingDomains, as they are written, have a
// normalised domain among them.
func Covers(names []string, domain string) bool {
	var patterns []string
	for _, name := range names {
		if pattern, err := parsePattern(name); err == nil {
			patterns = append(patterns, pattern)
		}
	}
	return covers(patterns, domain)
}

func covers(patterns []string, domain string) bool {
	for _, known := range patterns {
		if below, ok := strings.CutPrefix(known, "*"); ok && strings.HasSuffix(domain, below) || known == domain {
			return true
		}
	}
	return false
}

// CheckDomain returns what is wrong with a name for Config.SendingDomains.
func CheckDomain(name string) error {
	_, err := parsePattern(name)
	return err
}

// parsePattern returns a domain or *.domain in its normal form.
func parsePattern(s string) (string, error) {
	name, wildcard := strings.CutPrefix(s, "*.")
	normal, err := policy.ParseDomain(name)
	if err != nil {
		return "", err
	}
	if wildcard {
		return "*." + normal, nil
	}
	return normal, nil
}

// Who tries keys may try so many at once, and then one in so long.
const (
	guessBurst = 20
	guessEvery = 3 * time.Second
	maxGuesses = 4096 // addresses that are remembered, and keys
)

// guesses holds back addresses that send wrong keys. Not that one could be
// guessed: a question to the table has its price. Many may have one address, that of
// a balancer or of their network: those who come with a key that was good the last
// time do not wait for what others have tried.
type guesses struct {
	from *lru.Cache[netip.Prefix, *rate.Limiter]
	good *lru.Cache[[sha256.Size]byte, struct{}] // hashes of keys
}

func newGuesses() *guesses {
	from, err := lru.New[netip.Prefix, *rate.Limiter](maxGuesses)
	good, too := lru.New[[sha256.Size]byte, struct{}](maxGuesses)
	if err != nil || too != nil {
		panic(err) // the size is a constant
	}
	return &guesses{from, good}
}

// wasGood reports whether a key was good when it came last.
func (g *guesses) wasGood(word string) bool {
	return len(word) <= maxSecret && g.good.Contains(sha256.Sum256([]byte(word)))
}

// wait is how long the address has to wait before it may be asked for its key.
func (g *guesses) wait(from netip.Addr) time.Duration {
	l, ok := g.from.Get(network(from))
	if !ok || l.Tokens() >= 1 {
		return 0
	}
	return time.Duration((1 - l.Tokens()) * float64(guessEvery))
}

// wrong remembers that the address sent a wrong key. Those of this machine are
// proxies, before which everybody stands: they are not held back.
func (g *guesses) wrong(from netip.Addr) {
	if from.IsLoopback() || !from.IsValid() {
		return
	}
	fresh := rate.NewLimiter(rate.Every(guessEvery), guessBurst)
	l, ok, _ := g.from.PeekOrAdd(network(from), fresh)
	if !ok {
		l = fresh
	}
	l.Allow()
}

// network is whom an address is counted for: IPv6 hands out /64 and more.
func network(from netip.Addr) netip.Prefix {
	bits := from.BitLen()
	if from.Is6() {
		bits = 64
	}
	p, _ := from.Prefix(bits) // the zero prefix for none
	return p
}

// remote is the address of the client; the zero address on a Unix socket.
func remote(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr, _ := netip.ParseAddr(host)
	return addr.Unmap().WithZone("")
}
