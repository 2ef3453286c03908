package real

import (
	"context"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// finger is Postfix's posttls-finger, which examines the TLS of a mail server as
// Postfix's own client would.
//
// It asks whatever /etc/resolv.conf names, on port 53. So it runs in a mount
// namespace of its own, in which that file names the resolver of the test; the
// machine's file is not touched.
type finger struct {
	program    string
	config     string // directory
	resolvConf string
	roots      string // PEM file
}

// newFinger prepares posttls-finger; it trusts the roots of a PEM file. The test is
// skipped where that is not permitted.
func newFinger(t *testing.T, dns *nameserver, roots string) *finger {
	t.Helper()
	need(t, fingerPart)
	if dns.port53 == "" {
		skip(t, "no port 53 here on a loopback address")
	}
	if out, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		skip(t, "no mount namespace here: "+string(out))
	}
	program, err := find("posttls-finger")
	if err != nil {
		t.Fatal(err)
	}
	f := &finger{program: program, config: dns.path("finger"), resolvConf: dns.path("resolv.conf"), roots: roots}
	write(t, f.config+"/main.cf", "compatibility_level = 3.6\nmyhostname = relay.example.com\ninet_protocols = ipv4\n")
	write(t, f.resolvConf, "nameserver "+dns.port53+"\n")
	return f
}

// The verdicts of posttls-finger, and ours in its words. It says Trusted, too,
// which we have no word for: a certificate that holds where no name was checked,
// or where the way to the host is not proven.
const (
	isVerified  = "Verified"
	isTrusted   = "Trusted"
	isUntrusted = "Untrusted"
	notOffered  = "not offered"
	refused     = "refused"
	noHandshake = "handshake failed"
	noLookup    = "lookup failed"
)

// established finds the verdict in what posttls-finger says.
var established = regexp.MustCompile(`(?m)^posttls-finger: (Verified|Trusted|Untrusted|Anonymous) TLS connection established`)

// failures is what it says where there is no verdict.
var failures = map[string]string{
	"TLSA lookup error":  noLookup,
	"STARTTLS rejected":  refused,
	"SSL_connect error ": noHandshake,
}

// examine looks at the MX hosts of a destination, at a security level of Postfix,
// and returns the verdict and everything that was said.
func (f *finger) examine(t *testing.T, level, destination string, options ...string) (verdict, said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	args := []string{"--mount", "sh", "-c", `mount --bind "$1" /etc/resolv.conf && shift && exec "$@"`, "sh", f.resolvConf,
		f.program, "-L", "summary,certmatch", "-l", level, "-F", f.roots}
	cmd := exec.CommandContext(ctx, "unshare", append(append(args, options...), destination)...)
	cmd.Env = append(cmd.Environ(), "MAIL_CONFIG="+f.config)
	out, _ := cmd.CombinedOutput() // Its exit status says no more.
	said = string(out)
	if m := established.FindStringSubmatch(said); m != nil {
		return m[1], said
	}
	for text, verdict := range failures {
		if strings.Contains(said, text) {
			return verdict, said
		}
	}
	if strings.Contains(said, "> EHLO") && !strings.Contains(said, "-STARTTLS") && !strings.Contains(said, " STARTTLS") {
		return notOffered, said
	}
	return "nothing", said
}

// provedBy is the word of our documents for what posttls-finger found a certificate
// good by.
func provedBy(said string) string {
	switch {
	case strings.Contains(said, "Matched DANE EE"):
		return "dane-ee"
	case strings.Contains(said, "Matched DANE TA"):
		return "dane-ta"
	}
	return "pkix"
}
