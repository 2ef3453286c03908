package main

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/foxcpp/maddy/framework/address"
	"github.com/urfave/cli/v2"

	"tlscontrol/internal/route"
)

// checkAddress refuses the value of a flag that is no mail address. A message of such a sender, or to such a recipient,
// would be refused long before a target hears of it, so that nothing true can be said of it.
func checkAddress(c *cli.Context, flag, value string) error {
	if goodAddress(value) {
		return nil
	}
	return usageError(c, "--%s: unexpected %q, expected an address such as user@example.org", flag, value)
}

// goodAddress admits what an SMTP server admits (RFC 5321 and 6531), "postmaster" alone and address literals too.
func goodAddress(s string) bool {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) || !address.Valid(s) {
		return false
	}
	mailbox, domain, err := address.Split(s)
	return err == nil && closed(mailbox) && (domain == "" || goodDomain(domain) || goodLiteral(domain))
}

// goodLiteral admits address literals (RFC 5321, section 4.1.3), those of IPv6 also
// without the word that should be in them.
func goodLiteral(s string) bool {
	inner, opened := strings.CutPrefix(s, "[")
	inner, ended := strings.CutSuffix(inner, "]")
	if tag := "IPv6:"; len(inner) > len(tag) && strings.EqualFold(inner[:len(tag)], tag) {
		inner = inner[len(tag):]
	}
	ip, err := netip.ParseAddr(inner)
	return opened && ended && err == nil && ip.Zone() == ""
}

// closed reports whether a local part that begins with a quote ends with the one that belongs to it.
func closed(mailbox string) bool {
	if !strings.HasPrefix(mailbox, `"`) {
		return true
	}
	for i := 1; i < len(mailbox); i++ {
		switch mailbox[i] {
		case '\\':
			i++
		case '"':
			return i == len(mailbox)-1
		}
	}
	return false
}

// goodDomain admits what can be looked up.
func goodDomain(s string) bool {
	_, err := route.ASCII(s)
	return err == nil
}
