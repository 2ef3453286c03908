package tlspolicy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/foxcpp/maddy/framework/config"
	modconfig "github.com/foxcpp/maddy/framework/config/module"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/policy"
)

// block is what readBlock collects.
type block struct {
	policy *policy.Policy
	fields policy.Fields
	table  module.Table
	// tableFile is the file of the table, if it is one
	tableFile string
	keep      time.Duration          // how long its last answers count while it fails
	seen      map[string]config.Node // directives that may appear once
}

// readBlock reads the directives of a tls_policy block. It walks the nodes
// itself because config.Map does not name the word that was wrong.
func readBlock(cfg *config.Map) (*block, error) {
	b := &block{
		policy: &policy.Policy{Top: policy.Block{Place: place(cfg.Block)}},
		fields: policy.DefaultFields(),
		keep:   defaultKeep,
		seen:   make(map[string]config.Node),
	}
	for _, node := range cfg.Block.Children {
		if err := b.directive(cfg, node); err != nil {
			return nil, placed(node, err)
		}
	}
	if node, ok := b.seen["domains_keep"]; ok && b.table == nil {
		return nil, placed(node, fmt.Errorf("%s: there is no domains directive to go with it", node.Name))
	}
	if name := shared(b.fields); name != "" {
		node, ok := b.seen["skip_verification_header"]
		if !ok {
			node = b.seen["require_tls_header"]
		}
		return nil, placed(node, fmt.Errorf("%s: %q is read for both require_tls and skip_verification", node.Name, name))
	}
	return b, nil
}

// directive reads one directive of the block.
func (b *block) directive(cfg *config.Map, node config.Node) error {
	switch node.Name {
	case "domain":
		return patterns(node, b.policy.AddDomain)
	case "destination":
		return patterns(node, b.policy.AddDestination)
	}
	if err := once(b.seen, node); err != nil {
		return err
	}
	switch node.Name {
	case "require_tls_header":
		return fieldNames(node, &b.fields.RequireTLS)
	case "skip_verification_header":
		return fieldNames(node, &b.fields.SkipVerification)
	case "domains":
		return b.domains(cfg, node)
	case "domains_keep":
		return b.domainsKeep(node)
	}
	if slices.Contains(policy.SettingNames(), node.Name) {
		return setting(&b.policy.Top, node)
	}
	return fmt.Errorf("unexpected directive %q, expected one of %s, require_tls_header, "+
		"skip_verification_header, domain, destination, domains, domains_keep",
		node.Name, strings.Join(policy.SettingNames(), ", "))
}

// patterns reads a domain or destination block and adds it under each of its
// patterns.
func patterns(node config.Node, add func(string, policy.Block) error) error {
	if len(node.Args) == 0 {
		return fmt.Errorf("%s: expected at least one domain name or *.domain", node.Name)
	}
	b, err := settings(node)
	if err != nil {
		return err
	}
	for _, pattern := range node.Args {
		if err := add(pattern, b); err != nil {
			return fmt.Errorf("%s: %w", node.Name, err)
		}
	}
	return nil
}

// settings reads the settings inside a domain or destination block.
func settings(node config.Node) (policy.Block, error) {
	names := policy.SettingNames()
	if len(node.Children) == 0 {
		return policy.Block{}, fmt.Errorf("%s: expected a block with at least one of %s",
			node.Name, strings.Join(names, ", "))
	}
	b := policy.Block{Place: place(node)}
	seen := make(map[string]config.Node)
	for _, child := range node.Children {
		if !slices.Contains(names, child.Name) {
			return policy.Block{}, placed(child, fmt.Errorf("unexpected directive %q in a %s block, expected one of %s",
				child.Name, node.Name, strings.Join(names, ", ")))
		}
		if err := once(seen, child); err != nil {
			return policy.Block{}, placed(child, err)
		}
		if err := setting(&b, child); err != nil {
			return policy.Block{}, placed(child, err)
		}
	}
	return b, nil
}

// setting reads one setting with its value.
func setting(b *policy.Block, node config.Node) error {
	if err := noBlock(node); err != nil {
		return err
	}
	switch len(node.Args) {
	case 0:
		return fmt.Errorf("%s: expected a value", node.Name)
	case 1:
		return b.Set(node.Name, node.Args[0])
	}
	return fmt.Errorf("%s: unexpected %q, expected one value", node.Name, node.Args[1])
}

// domains makes or finds the table.
func (b *block) domains(cfg *config.Map, node config.Node) error {
	if len(node.Args) == 0 {
		return fmt.Errorf("%s: expected a table, as in: domains file /etc/maddy/domains", node.Name)
	}
	if err := fileReadable(filePath(node)); err != nil {
		return fmt.Errorf("%s: %w", node.Name, err)
	}
	table, err := modconfig.TableDirective(cfg, node)
	if err != nil {
		return within(node, err)
	}
	b.table, b.tableFile = table.(module.Table), filePath(node)
	return nil
}

// maxKeep bounds domains_keep: what was right a week ago is a guess.
const maxKeep = 7 * 24 * time.Hour

// domainsKeep reads how long the table's last answers count while it fails.
func (b *block) domainsKeep(node config.Node) error {
	if err := noBlock(node); err != nil {
		return err
	}
	const want = "expected a duration up to 168h, such as 30m, or off"
	if len(node.Args) == 0 {
		return fmt.Errorf("%s: %s", node.Name, want)
	}
	// As maddy does, it takes several words for one duration: 1h 30m.
	text := strings.Join(node.Args, "")
	if text == "off" {
		b.keep = 0
		return nil
	}
	keep, err := time.ParseDuration(text)
	if err != nil || keep <= 0 || keep > maxKeep {
		return fmt.Errorf("%s: unexpected %q, %s", node.Name, strings.Join(node.Args, " "), want)
	}
	b.keep = keep
	return nil
}

// filePath returns the path in `domains file PATH`, "" for any other table.
func filePath(node config.Node) string {
	if len(node.Args) == 2 && node.Args[0] == "file" {
		return node.Args[1]
	}
	return ""
}

// once refuses a directive that was given before.
func once(seen map[string]config.Node, node config.Node) error {
	if earlier, ok := seen[node.Name]; ok {
		return fmt.Errorf("%s is already set at %s", node.Name, place(earlier))
	}
	seen[node.Name] = node
	return nil
}

// noBlock refuses braces where none belong, even with nothing between them.
func noBlock(node config.Node) error {
	if node.Children != nil {
		return fmt.Errorf("%s: unexpected block", node.Name)
	}
	return nil
}

// place tells people where a node stands.
func place(node config.Node) string {
	if node.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", node.File, node.Line)
}
