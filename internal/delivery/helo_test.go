package delivery_test

import (
	"testing"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
)

// Observers of how TLS came out are told how the server called itself before: that
// of its hosts, behind one address, which has the bad certificate.
func TestHeloIsTold(t *testing.T) {
	t.Parallel()
	greeting := func(b *mailtest.Behaviour) { b.Greeting = "220 node7.mx.test ESMTP" }
	for name, tt := range map[string]struct {
		host hostFunc
		want string
	}{
		"good certificate":    {good(greeting), "node7.mx.test"},
		"bad certificate":     {withCert(mailtest.Expired, greeting), "node7.mx.test"},
		"no TLS":              {inClear(greeting), "node7.mx.test"},
		"no name in greeting": {good(func(b *mailtest.Behaviour) { b.Greeting = "220" }, reply("ehlo", "250-node8.mx.test\n250 STARTTLS")), "node8.mx.test"},
		"no name at all":      {good(func(b *mailtest.Behaviour) { b.Greeting = "220" }, reply("ehlo", "250-\n250 STARTTLS")), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, settings(policy.Settings{Fallback: policy.Unverified}), tt.host)
			if f := w.sendOne(); f != nil {
				t.Fatal(f)
			}
			if len(w.rec.secured) != 1 || w.rec.secured[0].Helo != tt.want {
				t.Errorf("told %+v, want %q", w.rec.secured, tt.want)
			}
		})
	}
}
