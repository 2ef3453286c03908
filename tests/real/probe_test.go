package real

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"testing"
)

// probed is what "maddy tls probe --json" prints about a domain with one MX host.
type probed struct{ document }

// probe examines a domain.
func probe(t *testing.T, domain, resolver string, port int, roots string) probed {
	t.Helper()
	maddy, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	out, err := exec.CommandContext(ctx, maddy, "tls", "probe", "--json", "--hostname", "relay.example.com",
		"--resolver", resolver, "--port", strconv.Itoa(port), "--ca", roots, domain).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatalf("%v\n%s\n%v", err, out, exit)
	}
	return probed{d}
}

// host is what is said of the MX host.
func (p probed) host() document {
	hosts, _ := p.document["hosts"].([]any)
	if len(hosts) != 1 {
		return nil
	}
	return hosts[0].(map[string]any)
}

// address is what is said of the address of the host, nil if it was not dialled.
func (p probed) address() document {
	addresses, _ := p.host()["addresses"].([]any)
	if len(addresses) != 1 {
		return nil
	}
	return addresses[0].(map[string]any)
}

// verdictOf says in the words of posttls-finger what "tls probe" says.
func verdictOf(p probed) string {
	switch p.address()["verdict"] {
	case "verified":
		return isVerified
	case "unverified":
		return isUntrusted
	}
	reason := p.address().get("problem.reason")
	if reason == nil {
		reason = p.host().get("failure.reason")
	}
	switch reason {
	case "tls-not-offered":
		return notOffered
	case "tls-rejected":
		return refused
	case "tls-handshake":
		return noHandshake
	case "dane-lookup":
		return noLookup
	}
	return fmt.Sprint(reason)
}
