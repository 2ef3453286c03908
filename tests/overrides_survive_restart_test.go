package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message/textproto"

	"tlscontrol/internal/mailtest"
)

// traveller is a message that has to wait in the queue. Its host does not take it
// at first; afterwards the override decides what may come of it.
type traveller struct {
	label  string
	from   string
	header string
	cert   mailtest.Kind // of the host afterwards; "" is one without STARTTLS
	want   string        // status and settings in the end
	tls    bool          // arrived so; nothing arrives where want is a failure
}

var travellers = []traveller{
	{"unverified", "a@strict.example", "X-Skip-Verification: yes\r\n", mailtest.SelfSigned, "delivered 250, yes domain, yes message", true},
	{"in clear", "a@strict.example", "X-Require-TLS: no\r\n", "", "delivered 250, no message, no default", false},
	{"required", "a@lax.example", "X-Require-TLS: yes\r\n", "", "failed temporary 451 tls-not-offered, yes message, yes domain", false},
	{"verified", "a@lax.example", "X-Require-TLS: yes\r\nX-Skip-Verification: no\r\n", mailtest.Expired, "failed temporary 451 certificate-expired, yes message, no message", false},
	{"without override", "a@strict.example", "", mailtest.SelfSigned, "failed temporary 451 certificate-untrusted, yes domain, no default", false},
}

const travelPolicy = "domain strict.example { require_tls yes\n}\ndomain lax.example { skip_verification yes\n}"

// TestOverridesSurviveRestart: what a message asked for at submission still
// counts when the process that took it is gone, however it ended.
func TestOverridesSurviveRestart(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		away mailtest.Behaviour // what the hosts do before the restart
		end  func(*server)
	}{
		"stopped after a first attempt": {
			away: mailtest.Behaviour{Greeting: "421 4.3.2 closed for today"},
			end:  func(s *server) { s.documents(len(travellers)); s.stop() },
		},
		"killed in an attempt": {
			away: mailtest.Behaviour{Greeting: "stall"},
			end: func(s *server) {
				for i, m := range s.mx {
					s.eventually(host(i)+" is asked", func() bool { return m.Connections() > 0 })
				}
				s.kill()
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTravel(t, tt.away)
			for i, tr := range travellers {
				s.mustSubmit(mail{from: tr.from, to: []string{"b@" + matrixDomain(i)}, header: "X-Label: " + tr.label + "\r\n" + tr.header})
			}
			tt.end(s)
			known := len(s.readLog())
			for label, h := range s.queued() {
				if want := label != "without override"; h.Has("TLS-Override") != want {
					t.Errorf("%s: stamp in the queue %v, want %v", label, !want, want)
				}
			}
			s.age()
			s.arrive(func(i int) mailtest.Kind { return travellers[i].cert })
			s.start()
			s.checkTravel(s.documents(known + len(travellers))[known:])
		})
	}
}

// newTravel has a host and a domain for each traveller.
func newTravel(t *testing.T, away mailtest.Behaviour) *server {
	t.Helper()
	hosts := make([]mailtest.Behaviour, len(travellers))
	for i := range hosts {
		hosts[i] = away
	}
	s := newServer(t, hosts...)
	for i := range hosts {
		s.dns.MX(matrixDomain(i), 10, host(i))
	}
	s.config(blocks{policy: travelPolicy})
	s.start()
	return s
}

// arrive lets each host take mail, with a certificate of the given kind.
func (s *server) arrive(kind func(i int) mailtest.Kind) {
	s.Helper()
	for i, m := range s.mx {
		b := mailtest.Behaviour{}
		if k := kind(i); k != "" {
			b = certificate(s.T, s.ca, k, host(i))
		}
		m.Set(b)
	}
}

func (s *server) checkTravel(docs []document) {
	s.Helper()
	for i, tr := range travellers {
		if d := s.about("b@"+matrixDomain(i), docs); d.status()+", "+d.settings() != tr.want {
			s.Errorf("%s: %s, %s, want %s", tr.label, d.status(), d.settings(), tr.want)
		}
		messages := s.mx[i].Messages()
		if delivered := strings.HasPrefix(tr.want, "delivered"); delivered != (len(messages) == 1) || len(messages) > 1 {
			s.Errorf("%s: arrived %+v", tr.label, messages)
			continue
		} else if delivered {
			if messages[0].TLS != tr.tls {
				s.Errorf("%s: TLS %v", tr.label, messages[0].TLS)
			}
			stripped(s.T, messages[0])
		}
		if clear := inClear(s.mx[i]); clear != (tr.label == "in clear") {
			s.Errorf("%s: in clear %v", tr.label, clear)
		}
	}
}

// queued reads the headers of the messages on disk, by the field X-Label.
func (s *server) queued() map[string]textproto.Header {
	s.Helper()
	found := make(map[string]textproto.Header)
	for label, path := range s.queueFiles() {
		found[label] = readHeader(s.T, path)
	}
	return found
}

// queueFiles finds the header files of the queue, by the field X-Label.
func (s *server) queueFiles() map[string]string {
	s.Helper()
	paths, err := filepath.Glob(s.path("state/remote_queue/*.header"))
	if err != nil {
		s.Fatal(err)
	}
	found := make(map[string]string)
	for _, path := range paths {
		h := readHeader(s.T, path)
		found[h.Get("X-Label")] = path
	}
	return found
}

func readHeader(t *testing.T, path string) textproto.Header {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return headerOf(t, mailtest.Message{Data: data})
}

// age makes the queue believe that its last attempts are a day old: maddy waits
// a quarter of an hour after the first failure.
func (s *server) age() {
	s.Helper()
	paths, err := filepath.Glob(s.path("state/remote_queue/*.meta"))
	if err != nil || len(paths) == 0 {
		s.Fatalf("no messages in the queue: %v", err)
	}
	yesterday, err := json.Marshal(time.Now().Add(-24 * time.Hour))
	if err != nil {
		s.Fatal(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			s.Fatal(err)
		}
		var meta map[string]json.RawMessage
		if err := json.Unmarshal(data, &meta); err != nil {
			s.Fatal(err)
		}
		meta["LastAttempt"] = yesterday
		if data, err = json.Marshal(meta); err != nil {
			s.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			s.Fatal(err)
		}
	}
}

// TestStampBelongsToItsMessage: whoever can write to the queue's files but does
// not have the key cannot give a message an override.
func TestStampBelongsToItsMessage(t *testing.T) {
	t.Parallel()
	// The sender requires verified TLS, all hosts have a bad certificate: what is
	// delivered was delivered for a stamp's sake.
	stamp := func(h textproto.Header) string { return h.Get("TLS-Override") }
	flip := func(v string) string { // the last digit of the MAC
		last := v[len(v)-1]
		return v[:len(v)-1] + string(map[bool]byte{true: '1', false: '0'}[last == '0'])
	}
	cases := []struct {
		label  string
		header string                                        // at submission
		change func(h *textproto.Header, genuine, id string) // genuine is the stamp of the first message, id that of this one
		want   string                                        // the word in the log; "" if the message is delivered
	}{
		{"genuine", "X-Skip-Verification: yes\r\n", nil, ""},
		{"copied", "", func(h *textproto.Header, genuine, _ string) { h.Add("TLS-Override", genuine) }, "foreign"},
		{"copied and renamed", "", func(h *textproto.Header, genuine, id string) {
			words := strings.Split(genuine, "; ")
			for i := range words {
				if strings.HasPrefix(words[i], "id=") {
					words[i] = "id=" + id
				}
			}
			h.Add("TLS-Override", strings.Join(words, "; "))
		}, "forged"},
		{"MAC changed", "X-Skip-Verification: yes\r\n", func(h *textproto.Header, _, _ string) {
			h.Set("TLS-Override", flip(stamp(*h)))
		}, "forged"},
		{"text changed", "X-Skip-Verification: no\r\n", func(h *textproto.Header, _, _ string) {
			h.Set("TLS-Override", strings.Replace(stamp(*h), "skip-verification=no", "skip-verification=yes", 1))
			h.Del("X-Skip-Verification")
		}, "forged"},
		{"copied beside its own", "X-Skip-Verification: yes\r\n", func(h *textproto.Header, genuine, _ string) {
			h.Add("TLS-Override", genuine)
		}, ""},
	}
	s := newServer(t, make([]mailtest.Behaviour, len(cases))...)
	for i := range cases {
		s.dns.MX(matrixDomain(i), 10, host(i))
		s.mx[i].Set(mailtest.Behaviour{Greeting: "421 4.3.2 closed for today"})
	}
	s.config(blocks{policy: "require_tls yes"})
	s.start()
	for i, c := range cases {
		s.mustSubmit(mail{to: []string{"b@" + matrixDomain(i)}, header: "X-Label: " + c.label + "\r\n" + c.header})
	}
	known := len(s.documents(len(cases)))
	s.stop()
	if info, err := os.Stat(s.path("state/tls_override.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v %v", info, err)
	}
	files := s.queueFiles()
	genuine := stamp(readHeader(t, files["genuine"]))
	ids := make(map[string]string)
	for _, c := range cases {
		h := readHeader(t, files[c.label])
		ids[c.label] = strings.TrimSuffix(filepath.Base(files[c.label]), ".header")
		if c.change != nil {
			c.change(&h, genuine, ids[c.label])
			writeHeader(t, files[c.label], h)
		}
	}
	s.age()
	s.arrive(func(int) mailtest.Kind { return mailtest.SelfSigned })
	s.start()
	docs := s.documents(known + len(cases))[known:]
	for i, c := range cases {
		want := "delivered 250, yes default, yes message"
		if c.want != "" {
			want = "failed temporary 451 certificate-untrusted, yes default, no default"
		}
		if d := s.about("b@"+matrixDomain(i), docs); d.status()+", "+d.settings() != want {
			t.Errorf("%s: %s, %s, want %s", c.label, d.status(), d.settings(), want)
		}
		if c.want != "" {
			s.eventually(fmt.Sprintf("%s: in the log, that the stamp of %s is %s", c.label, ids[c.label], c.want), func() bool {
				return stampLogged(s.stderr.String(), ids[c.label], c.want)
			})
		}
		for _, m := range s.mx[i].Messages() {
			stripped(t, m)
		}
	}
	s.neverInClear()
}

func writeHeader(t *testing.T, path string, h textproto.Header) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := textproto.WriteHeader(f, h); err != nil {
		t.Fatal(err)
	}
}

// stampLogged reports whether a line says of a message what its stamp is.
func stampLogged(log, id, what string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "stamp does not check out") && strings.Contains(line, id) && strings.Contains(line, what) {
			return true
		}
	}
	return false
}
