package api

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"sync"
	"time"
)

// Bounds of a login to the page.
const (
	sessionIdle = time.Hour
	sessionLife = 12 * time.Hour // a working day
	maxSessions = 1000           // one of the key with most of them makes room
)

// sessions are the logins to the page. They are in memory only: a restart ends
// them.
type sessions struct {
	now func() time.Time

	mu  sync.Mutex
	all map[[sha256.Size]byte]*session // by the hash of the cookie's value
}

// session is a login. It keeps the key, and every request asks for it anew, so
// that one that was revoked, or became another, opens nothing from then on.
type session struct {
	secret     string
	key        Key    // what it was at login
	token      string // that a change has to bring in a header
	born, used time.Time
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, all: make(map[[sha256.Size]byte]*session)}
}

// open begins a session for a key, and returns it with the value of its cookie.
func (s *sessions) open(secret string, key Key) (string, session) {
	cookie, now := rand.Text(), s.now()
	opened := session{secret: secret, key: key, token: rand.Text(), born: now, used: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clean(now)
	s.all[sha256.Sum256([]byte(cookie))] = &opened
	return cookie, opened
}

// clean makes room for one more session. Where there is none, the key that has most
// sessions loses the one that was not used for longest: whoever logs in a thousand
// times must not log others out.
func (s *sessions) clean(now time.Time) {
	maps.DeleteFunc(s.all, func(_ [sha256.Size]byte, one *session) bool { return one.expired(now) })
	if len(s.all) < maxSessions {
		return
	}
	count := make(map[string]int)
	for _, one := range s.all {
		count[one.key.ID]++
	}
	var goes [sha256.Size]byte
	for id, one := range s.all {
		than := s.all[goes]
		if than == nil || cmp.Or(cmp.Compare(count[than.key.ID], count[one.key.ID]), one.used.Compare(than.used)) < 0 {
			goes = id
		}
	}
	delete(s.all, goes)
}

func (s *session) expired(now time.Time) bool {
	return now.Sub(s.used) >= sessionIdle || now.Sub(s.born) >= sessionLife
}

// find returns the session of a cookie, which is in use from now on.
func (s *sessions) find(cookie string) (session, bool) {
	id, now := sha256.Sum256([]byte(cookie)), s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.all[id]
	if !ok || found.expired(now) {
		delete(s.all, id)
		return session{}, false
	}
	found.used = now
	return *found, true
}

// close ends the session of a cookie.
func (s *sessions) close(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(cookie)))
}

// owns reports whether the token is that of the session.
func (s *session) owns(token string) bool {
	return subtle.ConstantTimeCompare([]byte(s.token), []byte(token)) == 1
}
