package tlspolicy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/foxcpp/maddy/framework/config"

	"tlscontrol/internal/policy"
)

// maxFieldName keeps "name: value" within the 78 characters that RFC 5322,
// section 2.1.1, recommends for a line.
const maxFieldName = 64

// fieldNames reads the names of override fields, which replace the defaults.
func fieldNames(node config.Node, names *[]string) error {
	if err := noBlock(node); err != nil {
		return err
	}
	if len(node.Args) == 0 {
		return fmt.Errorf("%s: expected at least one header field name", node.Name)
	}
	for i, name := range node.Args {
		if err := checkFieldName(name); err != nil {
			return fmt.Errorf("%s: %w", node.Name, err)
		}
		if contains(node.Args[:i], name) {
			return fmt.Errorf("%s: %q is named twice", node.Name, name)
		}
	}
	*names = slices.Clone(node.Args)
	return nil
}

// checkFieldName refuses what cannot be a header field, and fields that the
// message needs: override fields are removed before it leaves.
func checkFieldName(name string) error {
	const want = "expected a header field name of letters, digits and hyphens"
	if name == "" || len(name) > maxFieldName {
		return fmt.Errorf("unexpected %s, %s, 1 to %d characters", policy.Quote(name), want, maxFieldName)
	}
	for _, c := range []byte(name) {
		if !isFieldByte(c) {
			return fmt.Errorf("unexpected %q in %s, %s", c, policy.Quote(name), want)
		}
	}
	lower := strings.ToLower(name)
	for _, taken := range takenFields {
		prefix, isPrefix := strings.CutSuffix(taken, "*")
		if lower == taken || isPrefix && strings.HasPrefix(lower, prefix) {
			return fmt.Errorf("unexpected %q, that field has another meaning: expected a name like X-Require-TLS", name)
		}
	}
	return nil
}

// isFieldByte reports whether a byte may be in a field name: ftext of RFC 5322,
// section 3.6.8, without the specials, which no field in use has and for which
// textproto does not ignore letter case.
func isFieldByte(c byte) bool {
	return c > ' ' && c < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, rune(c))
}

// takenFields are the fields that mean something else to somebody else: RFC
// 5322, MIME, authentication, lists, delivery, and our own. A final * stands for
// any ending.
var takenFields = []string{
	"from", "sender", "reply-to", "to", "cc", "bcc", "date", "subject", "comments", "keywords",
	"message-id", "in-reply-to", "references", "resent-*",
	"received", "received-spf", "return-path", "delivered-to", "envelope-to", "x-original-to",
	"mime-version", "content-*",
	"dkim-signature", "domainkey-signature", "authentication-results", "arc-*", "bimi-*", "autocrypt*",
	"list-*", "feedback-id", "precedence", "auto-submitted", "importance", "priority", "sensitivity",
	"original-*", "disposition-notification-*", "require-recipient-valid-since",
	"tls-required", strings.ToLower(policy.StampField), "tls-report-*",
}

// shared returns a name that is in both lists, "" if there is none.
func shared(f policy.Fields) string {
	for _, name := range f.RequireTLS {
		if contains(f.SkipVerification, name) {
			return name
		}
	}
	return ""
}

// contains ignores letter case, as header fields do.
func contains(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}
