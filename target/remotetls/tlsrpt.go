package remotetls

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/foxcpp/maddy/framework/config"

	"tlscontrol/internal/metrics"
	"tlscontrol/internal/postgres"
	"tlscontrol/internal/tlsrpt"
)

// reports is the tlsrpt block. Reading it opens nothing.
type reports struct {
	tlsrpt.Config
	deliverTo *config.Node // nil without mail
	resolvers []string
}

// reportsDir is the directory, below the state directory, that holds one for each
// target with reports.
const reportsDir = "tlsrpt"

var reportsNames = []string{"from", "org", "contact", "deliver_to", "dkim_key", "dir", "driver", "dsn", "mail", "https", "allow_private", "root_ca"}

// reportsDirective reads the block of the target instName.
func reportsDirective(instName string) reader {
	return func(m *config.Map, node config.Node) (interface{}, error) {
		r, children, err := readReports(m, node, instName)
		if err != nil {
			return nil, err
		}
		if child, ok := children["root_ca"]; ok {
			if r.Roots, err = rootCAs(child); err != nil {
				return nil, err
			}
		}
		if child, ok := children["dkim_key"]; ok {
			if r.Key, err = dkimKey(child, r.Sender.Submitter()); err != nil {
				return nil, err
			}
		}
		r.Count = metrics.Default().Reports(instName)
		return r, nil
	}
}

// readReports reads everything but the files that the block names.
func readReports(m *config.Map, node config.Node, instName string) (*reports, map[string]config.Node, error) {
	if len(node.Args) != 0 {
		return nil, nil, unexpected(node, node.Args[0], "a block")
	}
	if node.Children == nil {
		return nil, nil, config.NodeErr(node, "%s: expected a block", node.Name)
	}
	children, err := checkChildren(node, reportsNames)
	if err != nil {
		return nil, nil, err
	}
	r := &reports{}
	for _, read := range []func() error{
		func() error { return r.readSender(node, children) },
		func() error { return r.readSwitches(children) },
		func() error { return r.readMail(node, children) },
		func() error { return r.readDir(m, node, children, instName) },
		func() error { return r.readDatabase(children) },
	} {
		if err := read(); err != nil {
			return nil, nil, err
		}
	}
	return r, children, nil
}

// readSender reads who the reports come from.
func (r *reports) readSender(block config.Node, children map[string]config.Node) error {
	from, ok := children["from"]
	if !ok {
		return config.NodeErr(block, "%s: expected from, the address that reports come from", block.Name)
	}
	var err error
	if r.Sender.From, err = addressArg(from); err != nil {
		return err
	}
	r.Sender.Contact = r.Sender.From
	if child, ok := children["contact"]; ok {
		if r.Sender.Contact, err = addressArg(child); err != nil {
			return err
		}
	}
	r.Sender.Organization = r.Sender.Submitter()
	if child, ok := children["org"]; ok {
		const expected = "the name of an organisation"
		if r.Sender.Organization, err = oneArg(child, expected); err != nil {
			return err
		}
		printable := func(c rune) bool { return unicode.IsPrint(c) && c != unicode.ReplacementChar }
		if name := r.Sender.Organization; strings.TrimSpace(name) == "" || len(name) > 200 || strings.ContainsFunc(name, func(c rune) bool { return !printable(c) }) {
			return unexpected(child, name, expected)
		}
	}
	return nil
}

// addressArg reads a mail address, with or without mailto: in front.
func addressArg(node config.Node) (string, error) {
	const expected = "a mail address"
	arg, err := oneArg(node, expected)
	if err != nil {
		return "", err
	}
	address, ok := tlsrpt.Address(strings.TrimPrefix(arg, "mailto:"))
	if !ok {
		return "", unexpected(node, arg, expected)
	}
	return address, nil
}

func (r *reports) readSwitches(children map[string]config.Node) error {
	r.Mail, r.HTTPS = true, true
	for _, x := range []struct {
		name  string
		store *bool
	}{{"mail", &r.Mail}, {"https", &r.HTTPS}, {"allow_private", &r.AllowPrivate}} {
		child, ok := children[x.name]
		if !ok {
			continue
		}
		value, err := boolDirective(nil, child)
		if err != nil {
			return err
		}
		*x.store = value.(bool)
	}
	if !r.Mail && !r.HTTPS {
		return config.NodeErr(children["https"], "https: unexpected no, because mail is no as well")
	}
	return nil
}

// readMail makes sure that what mail needs is there, and that nothing is there
// for mail that is not sent. Receivers ignore mail that is not signed (RFC 8460,
// section 3), so not signing has to be said.
func (r *reports) readMail(block config.Node, children map[string]config.Node) error {
	for _, x := range []struct{ name, expected string }{
		{"deliver_to", "the target or pipeline that takes reports"},
		{"dkim_key", dkimExpected},
	} {
		child, ok := children[x.name]
		switch {
		case r.Mail && !ok:
			return config.NodeErr(block, "%s: expected %s: %s", block.Name, x.name, x.expected)
		case !r.Mail && ok:
			return config.NodeErr(child, "%s: unexpected, because mail is no", x.name)
		case ok && len(child.Args) == 0:
			return config.NodeErr(child, "%s: expected %s", x.name, x.expected)
		}
	}
	if child, ok := children["deliver_to"]; ok {
		r.deliverTo = &child
	}
	return nil
}

// readDir finds the directory: each target has its own.
func (r *reports) readDir(m *config.Map, block config.Node, children map[string]config.Node, instName string) error {
	if child, ok := children["dir"]; ok {
		const expected = "a directory"
		dir, err := oneArg(child, expected)
		if err != nil {
			return err
		}
		if dir == "" {
			return unexpected(child, dir, expected)
		}
		r.Dir = inStateDir(m, dir)
		return nil
	}
	if strings.Trim(instName, ".") == "" {
		return config.NodeErr(block, "%s: expected dir, because the target has no name", block.Name)
	}
	r.Dir = inStateDir(m, filepath.Join(reportsDir, url.PathEscape(instName)))
	return nil
}

// readDatabase reads where relays bring together what they count, in the words of
// event_store.
func (r *reports) readDatabase(children map[string]config.Node) error {
	driver, shared := children["driver"]
	dsn, given := children["dsn"]
	if shared {
		const expected = "postgres; without it this relay reports for itself"
		arg, err := oneArg(driver, expected)
		if err != nil {
			return err
		}
		if arg != "postgres" {
			return unexpected(driver, arg, expected)
		}
	}
	const expected = "a connection string"
	switch {
	case shared && !given:
		return config.NodeErr(driver, "driver: expected dsn, %s, beside it", expected)
	case given && !shared:
		return config.NodeErr(dsn, "dsn: unexpected without driver postgres")
	case !given:
		return nil
	}
	args, err := words(dsn, expected)
	if err != nil {
		return err
	}
	r.Database = strings.Join(args, " ")
	if r.Database == "" {
		return unexpected(dsn, "", expected)
	}
	if err := postgres.CheckDSN(r.Database); err != nil {
		return config.NodeErr(dsn, "dsn: %v", err)
	}
	return nil
}

const dkimExpected = "a file and a selector, or off if deliver_to signs"

// dkimKey reads FILE SELECTOR [DOMAIN], or off.
func dkimKey(node config.Node, submitter string) (*tlsrpt.Key, error) {
	args, err := words(node, dkimExpected)
	if err != nil {
		return nil, err
	}
	switch {
	case len(args) == 1 && args[0] == "off":
		return nil, nil
	case len(args) == 1 || len(args) > 3:
		return nil, config.NodeErr(node, "%s: unexpected %q, expected %s", node.Name, strings.Join(args, " "), dkimExpected)
	}
	key := &tlsrpt.Key{Selector: args[1], Domain: submitter}
	// A selector is written as a domain is (RFC 6376, section 3.1).
	if _, ok := tlsrpt.Address("x@" + key.Selector); !ok {
		return nil, unexpected(node, key.Selector, "a selector")
	}
	if len(args) == 3 {
		key.Domain = strings.ToLower(args[2])
		if key.Domain != submitter && !strings.HasSuffix(submitter, "."+key.Domain) {
			return nil, unexpected(node, args[2], submitter+", the domain of from, or a parent of it")
		}
	}
	text, err := readFile(node, args[0])
	if err != nil {
		return nil, err
	}
	if key.Signer, err = privateKey(text); err != nil {
		return nil, config.NodeErr(node, "%s: %s: %v", node.Name, args[0], err)
	}
	return key, nil
}

// privateKey reads the forms that modify.dkim reads.
func privateKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not a PEM file")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, errors.New("not a private key")
	}
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, errors.New("not an RSA or Ed25519 key")
}

// Reports finds, in the block of a target, who its TLS reports come from and where
// it keeps what it counts. It opens nothing and starts nothing: it is for commands
// that look beside a running server. ok is false if the target has no reports.
func Reports(block config.Node, instName string) (source tlsrpt.Source, ok bool, err error) {
	for _, child := range block.Children {
		if child.Name != "tlsrpt" {
			continue
		}
		r, _, err := readReports(config.NewMap(nil, block), child, instName)
		if err != nil {
			return tlsrpt.Source{}, false, err
		}
		return tlsrpt.Source{Dir: r.Dir, Database: r.Database, Sender: r.Sender}, true, nil
	}
	return tlsrpt.Source{}, false, nil
}
