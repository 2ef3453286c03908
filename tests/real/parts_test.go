package real

import (
	"os"
	"os/exec"
	"os/user"
	"strings"
	"testing"
)

// part is something of Debian's that tests need.
type part struct {
	name     string
	binaries []string // by name in the usual places, or absolute
	users    []string // the accounts it drops its privileges to
}

// Exim and Postfix exclude each other as packages, so that the installer unpacks
// Exim beside the system.
var (
	postfixPart = part{"postfix", []string{"postfix", "postconf"}, []string{"postfix"}}
	eximPart    = part{"exim", []string{"/opt/exim4/usr/sbin/exim4"}, []string{"Debian-exim"}}
	fingerPart  = part{"posttls-finger", []string{"posttls-finger", "unshare"}, nil}
	nsdPart     = part{"nsd", []string{"nsd"}, []string{"nsd"}}
	unboundPart = part{"unbound", []string{"unbound"}, []string{"unbound"}}
	ldnsPart    = part{"ldnsutils", []string{"ldns-keygen", "ldns-signzone"}, nil}

	allParts = []part{postfixPart, eximPart, fingerPart, nsdPart, unboundPart, ldnsPart}
)

// missing says what of a part is not there, "" if it can be used.
func (p part) missing() string {
	if os.Getuid() != 0 {
		return p.name + " (needs root)"
	}
	for _, name := range p.binaries {
		if _, err := find(name); err != nil {
			return p.name + " (no " + name + ")"
		}
	}
	for _, name := range p.users {
		if _, err := user.Lookup(name); err != nil {
			return p.name + " (no user " + name + ")"
		}
	}
	return ""
}

// find is exec.LookPath that knows where Debian puts daemons.
func find(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin/", "/usr/lib/postfix/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(name)
}

// missingParts lists all parts that cannot be used, "" if none.
func missingParts() string {
	var missing []string
	for _, p := range allParts {
		if m := p.missing(); m != "" {
			missing = append(missing, m)
		}
	}
	return strings.Join(missing, ", ")
}

// need skips the test unless the parts are there. Where they must be, it fails.
func need(t *testing.T, parts ...part) {
	t.Helper()
	for _, p := range parts {
		missing := p.missing()
		switch {
		case missing == "":
		case os.Getenv("TLSCONTROL_REAL") == "required":
			t.Fatalf("TLSCONTROL_REAL=required, but there is no %s", missing)
		default:
			skip(t, "no "+missing+" here")
		}
	}
}

// skip ends a test that cannot be run here.
func skip(t *testing.T, why string) {
	t.Helper()
	t.Skipf("SKIPPED: %s, so that nothing is known of working with it", why)
}
