package api

import (
	"net/http"
	"net/url"
	"strings"
)

// The page for people is files, which Config.UI serves, and what they show, which
// comes from /ui/data/. The routes there are those of the API with another
// login: a browser must not keep a key where scripts can read it, so that it
// exchanges the key for a session, whose cookie scripts cannot read either.
//
// As for the routes behind it, a key must be one for everything, or one that reads
// a domain, to which there are no others (own.go). One that only sends cannot log
// in.
//
// A change must come from the page itself. Three things see to that, each enough
// in a browser that knows it: SameSite on the cookie, Sec-Fetch-Site or Origin
// (http.CrossOriginProtection), and a header field with the session's token,
// which other sites can neither read nor send.

const (
	uiPath      = "/ui/"
	uiData      = "/ui/data/"
	cookieName  = "ui_session"
	tokenField  = "X-CSRF-Token"
	maxLogin    = 4 << 10 // body of a login
	notLoggedIn = "Log in first"
)

// uiPolicy lets the page load nothing but its own files, and nobody else frame it
// (Content Security Policy, level 3).
const uiPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

// forUI reports whether a path is one of the page.
func forUI(r *http.Request) bool {
	return r.URL.Path == "/ui" || strings.HasPrefix(r.URL.Path, uiPath)
}

// protect sets what every answer to the page has, errors too.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", uiPolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// uiTable lists the routes of the page's data. All that are not for anybody need a
// session.
func (a *API) uiTable() []route {
	return []route{
		{"POST", "/ui/data/login", anybody, a.login},
		{"POST", "/ui/data/logout", readers, a.logout},
		{"GET", "/ui/data/session", readers, a.showSession},
		{"GET", "/ui/data/domains", readers, a.listDomains},
		{"GET", "/ui/data/domains/{domain}", readers, a.getDomain},
		{"PUT", "/ui/data/domains/{domain}", full, a.putDomain},
		{"GET", "/ui/data/events", readers, a.uiEvents},
		{"GET", "/ui/data/events/{page}", readers, a.uiEventsPage},
		{"GET", "/ui/data/messages/{page}", readers, a.uiMessage},
		{"GET", "/ui/data/stats", readers, a.uiStats},
	}
}

// crossOrigin refuses changes that come from other sites. public_url is where browsers are
// when a proxy changes the Host.
func crossOrigin(publicURL string) *http.CrossOriginProtection {
	c := http.NewCrossOriginProtection()
	if u, err := url.Parse(publicURL); err == nil && publicURL != "" {
		_ = c.AddTrustedOrigin(u.Scheme + "://" + u.Host) // a URL that is none helps nobody
	}
	return c
}

// serveUI answers a request for the page or its data.
func (a *API) serveUI(w http.ResponseWriter, r *http.Request) error {
	if !strings.HasPrefix(r.URL.Path, uiData) {
		return a.visit(w, func() error {
			a.UI.ServeHTTP(w, r)
			return nil
		})
	}
	rt, values, e := find(a.uiRoutes, r)
	if e != nil {
		return e
	}
	writes := rt.method != http.MethodGet
	if writes && (a.origin.Check(r) != nil || r.Header.Get(tokenField) == "") {
		return &Error{Status: http.StatusForbidden, Text: "The request does not come from this page"}
	}
	c := call{page: values["page"]}
	if rt.access == anybody {
		return rt.handler(w, r, c)
	}
	var err error
	if c.key, c.session, err = a.visitor(r); err != nil {
		return err
	}
	if writes && !c.session.owns(r.Header.Get(tokenField)) {
		return &Error{Status: http.StatusForbidden, Text: "The request does not come from this page"}
	}
	if !c.key.opens(rt.access) {
		return a.refuse(r, rt, c.key)
	}
	return a.run(w, r, rt, values, c, func(name string) (string, error) { return a.own(c.key, name) })
}

// visitor returns who has logged in. The key is asked for with every request.
func (a *API) visitor(r *http.Request) (Key, session, error) {
	none := &Error{Status: http.StatusUnauthorized, Text: notLoggedIn}
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return Key{}, session{}, none
	}
	s, ok := a.sessions.find(cookie.Value)
	if !ok {
		return Key{}, session{}, none
	}
	key, found, err := a.Keys.Authenticate(r.Context(), s.secret)
	if err != nil {
		return Key{}, session{}, a.keysAway(err)
	}
	if !found || key != s.key || !key.opens(readers) {
		a.sessions.close(cookie.Value)
		return Key{}, session{}, none
	}
	return key, s, nil
}

// sessionAnswer is what the page knows of its session.
type sessionAnswer struct {
	Key    string `json:"key"`              // its ID
	Domain string `json:"domain,omitempty"` // the only one that there is for the key; it changes nothing
	Token  string `json:"token"`            // for changes
	Events bool   `json:"events"`
}

func (a *API) about(s session) sessionAnswer {
	return sessionAnswer{Key: s.key.ID, Domain: s.key.Domain, Token: s.token, Events: a.Events != nil}
}

// login exchanges a key for a session.
func (a *API) login(w http.ResponseWriter, r *http.Request, _ call) error {
	f, err := readForm(w, r, maxLogin)
	if err != nil {
		return err
	}
	if err := f.expect("key"); err != nil {
		return err
	}
	word, _, err := f.one("key")
	if err != nil {
		return err
	}
	key, found, err := a.identify(r, word)
	switch {
	case err != nil:
		return err
	case !found:
		return &Error{Status: http.StatusUnauthorized, Text: "Invalid private key"}
	case !key.opens(readers):
		a.Log("key refused", "key", key.ID, "src_ip", remote(r).String(), "path", uiData+"login")
		return &Error{Status: http.StatusUnauthorized, Text: "Invalid private key: this one can only send mail of its domain"}
	}
	defer greet(r, key)()
	leave, err := a.budgets.of(key.ID).enter()
	if err != nil {
		return err
	}
	defer leave()
	if old, err := r.Cookie(cookieName); err == nil {
		a.sessions.close(old.Value)
	}
	value, s := a.sessions.open(word, key)
	a.setCookie(w, r, value, int(sessionLife.Seconds()))
	a.Log("logged in to the page", "key", key.ID, "src_ip", remote(r).String())
	answer(w, r, http.StatusOK, a.about(s))
	return nil
}

// setCookie sets the cookie of a session; with -1 it removes it. A proxy may have
// put the API below a path.
func (a *API) setCookie(w http.ResponseWriter, r *http.Request, value string, seconds int) {
	path := uiPath
	if u, err := url.Parse(a.PublicURL); err == nil {
		path = strings.TrimSuffix(u.EscapedPath(), "/") + uiPath
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: value, Path: path, MaxAge: seconds,
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || strings.HasPrefix(a.PublicURL, "https:"),
	})
}

func (a *API) logout(w http.ResponseWriter, r *http.Request, c call) error {
	if cookie, err := r.Cookie(cookieName); err == nil {
		a.sessions.close(cookie.Value)
	}
	a.setCookie(w, r, "", -1)
	a.Log("logged out of the page", "key", c.key.ID)
	answer(w, r, http.StatusOK, errorAnswer{"Logged out"})
	return nil
}

func (a *API) showSession(w http.ResponseWriter, r *http.Request, c call) error {
	answer(w, r, http.StatusOK, a.about(c.session))
	return nil
}
