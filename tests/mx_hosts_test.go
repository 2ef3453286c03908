package tests

import (
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
)

// TestMailThatComesBack: a domain whose MX record leads to this very server, under a
// name that is not its own, gets its mail back at once, and the server does not send
// it to itself. maddy is its own witness: it greets with its name.
func TestMailThatComesBack(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.port = 2525 // the MX hosts are where this server listens
	s.dns.A("mail.loop.example", s.ip)
	s.dns.MX("loop.example", 10, "mail.loop.example")
	s.dns.A("implicit.example", s.ip)
	s.config(blocks{target: "loop_check yes", endpoints: twoDoors})
	s.start()
	for i, to := range []string{"b@loop.example", "b@implicit.example"} {
		err := s.submit(mail{to: []string{to}, anonymous: true, port: atTarget})
		if smtpCode(t, err) != 554 || !strings.Contains(err.Error(), "loops back to this host") {
			t.Errorf("%s: %v", to, err)
		}
		d := s.lastDocument(i + 1)
		if d.status() != "failed permanent 554 mx-lookup" || d.get("delivery-status.enhanced-code") != "5.4.6" ||
			!strings.Contains(d.get("delivery-status.description").(string), "greets as relay.example.com, which is this server") {
			t.Errorf("%s: document %v", to, d)
		}
	}
	// Nothing came in a second time.
	s.mustSubmit(mail{to: []string{"b@loop.example"}, anonymous: true, port: atQueue})
	s.documents(3)
	s.stop()
	if n := len(s.readLog()); n != 3 {
		t.Errorf("%d documents, want one for each message", n)
	}
}

// TestGreetsByOurName: the same greeting on another port is that of a filter which
// works for this server, and gets its mail.
func TestGreetsByOurName(t *testing.T) {
	t.Parallel()
	s := newServer(t, answering("greeting", "220 relay.example.com filter"))
	s.config(blocks{endpoints: twoDoors})
	s.start()
	s.mustSubmit(mail{anonymous: true, port: atTarget})
	if d := s.lastDocument(1); d.status() != "delivered 250" {
		t.Errorf("document %v", d)
	}
}

// TestPrivateAddresses: with allow_private no, or other networks, nobody is dialled
// at a loopback address whatever leads there, and the document says why.
func TestPrivateAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ line, want string }{
		{"allow_private no", "failed temporary 451 mx-lookup"},
		{"allow_private 10.0.0.0/8 ::1", "failed temporary 451 mx-lookup"},
		{"allow_private 10.0.0.0/8 127.0.0.0/8", "delivered 250"},
		{"allow_private", "delivered 250"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, mailtest.Behaviour{})
			s.dns.CNAME("inside.example", "mx1.test")
			s.dns.MX("alias.example", 10, "inside.example")
			s.dns.A("implicit.example", s.mx[0].IP())
			s.config(blocks{target: tt.line, endpoints: twoDoors})
			s.start()
			domains := []string{"example.net", "alias.example", "implicit.example"}
			for i, domain := range domains {
				err := s.submit(mail{to: []string{"b@" + domain}, anonymous: true, port: atTarget})
				if (err == nil) != strings.HasPrefix(tt.want, "delivered") {
					t.Errorf("%s: %v", domain, err)
				}
				d := s.lastDocument(i + 1)
				if d.status() != tt.want {
					t.Errorf("%s: document %v, want %s", domain, d, tt.want)
				}
				if tt.want == "delivered 250" {
					continue
				}
				refused := d.get("delivery-status.hosts").([]any)[0].(map[string]any)
				if refused["mx-ip"] != s.mx[0].IP() || !strings.Contains(refused["message"].(string), "allow_private") || d.get("delivery-status.mx-ip") != nil {
					t.Errorf("%s: document %v", domain, d)
				}
			}
			if n := len(s.mx[0].Sessions()); (n > 0) != (tt.want == "delivered 250") {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestForeignLocalAddress: an address of another machine to send from is told of at
// start, and does not keep maddy from starting.
func TestForeignLocalAddress(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{})
	s.config(blocks{target: "local_ip 192.0.2.1", endpoints: twoDoors})
	s.start()
	s.logs(`local_ip cannot be used at present; until it can, deliveries fail	{"local_ip":"192.0.2.1"`)
	err := s.submit(mail{anonymous: true, port: atTarget})
	if d := s.lastDocument(1); smtpCode(t, err) != 451 || d.status() != "failed temporary 451 connect" ||
		!strings.Contains(d.get("delivery-status.description").(string), "cannot assign requested address") {
		t.Errorf("%v, document %v", err, d)
	}
}
