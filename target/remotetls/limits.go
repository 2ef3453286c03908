package remotetls

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/foxcpp/maddy/framework/config"
	modconfig "github.com/foxcpp/maddy/framework/config/module"

	"tlscontrol/internal/delivery"
)

// maxBurst bounds the number of a rate: maddy fills a bucket with as many tokens
// before it starts.
const maxBurst = 1_000_000

// limits is a `limits` block. maddy 0.8 makes the limits for destinations out of
// those for sources, so each kind has a group of its own.
type limits struct {
	messages     delivery.Limits
	destinations delivery.Limits
}

func limitsDirective(m *config.Map, node config.Node) (interface{}, error) {
	if len(node.Args) != 0 {
		// &name: the group was made elsewhere and is taken as it is.
		return limitsGroup(m, node)
	}
	if node.Children == nil {
		return nil, config.NodeErr(node, "%s: expected a block or &name", node.Name)
	}
	messages, destinations := node, node
	messages.Children, destinations.Children = nil, nil
	scopes := make(map[string]bool)
	for _, child := range node.Children {
		if err := checkLimit(child); err != nil {
			return nil, err
		}
		scopes[child.Name] = true
		if child.Name == "destination" {
			asSource := child
			asSource.Name = "source"
			destinations.Children = append(destinations.Children, asSource, child)
			continue
		}
		messages.Children = append(messages.Children, child)
	}
	if scopes["source"] && !scopes["ip"] {
		// maddy gives back a place of the client's address without looking
		// whether there is such a limit. 0 is none.
		messages.Children = append(messages.Children, config.Node{
			Name: "ip", Args: []string{"concurrency", "0"}, File: node.File, Line: node.Line,
		})
	}
	var (
		l   limits
		err error
	)
	if l.messages, err = limitsGroup(m, messages); err != nil {
		return nil, err
	}
	if l.destinations, err = limitsGroup(m, destinations); err != nil {
		return nil, err
	}
	return l, nil
}

func limitsGroup(m *config.Map, node config.Node) (delivery.Limits, error) {
	var l delivery.Limits
	if err := modconfig.GroupFromNode("limits", node.Args, node, m.Globals, &l); err != nil {
		return nil, placed(node, err)
	}
	return l, nil
}

// checkLimit refuses what maddy takes without a word or ends with a panic.
func checkLimit(node config.Node) error {
	switch node.Name {
	case "all", "ip", "source", "destination":
	default:
		return config.NodeErr(node, "limits: unexpected %q, expected all, ip, source or destination", node.Name)
	}
	const expected = "rate NUMBER [DURATION] or concurrency NUMBER"
	args, err := words(node, expected)
	if err != nil {
		return err
	}
	most := 2
	switch args[0] {
	case "rate":
		most = 3
	case "concurrency":
	default:
		return unexpected(node, args[0], expected)
	}
	if len(args) < 2 {
		return config.NodeErr(node, "%s %s: expected a number", node.Name, args[0])
	}
	if n, err := strconv.Atoi(args[1]); err != nil || n < 0 || n > maxBurst {
		return config.NodeErr(node, "%s %s: unexpected %q, expected a number from 0 (no limit) to %d", node.Name, args[0], args[1], maxBurst)
	}
	if len(args) > most {
		return config.NodeErr(node, "%s %s: unexpected %q, expected nothing more", node.Name, args[0], args[most])
	}
	if len(args) == 3 {
		if d, err := time.ParseDuration(args[2]); err != nil || d <= 0 {
			return config.NodeErr(node, "%s %s: unexpected %q, expected a duration such as 1s or 5m", node.Name, args[0], args[2])
		}
	}
	return nil
}

// TakeMsg implements delivery.Limits.
func (l limits) TakeMsg(ctx context.Context, addr net.IP, sourceDomain string) error {
	return l.messages.TakeMsg(ctx, addr, sourceDomain)
}

// TakeDest implements delivery.Limits.
func (l limits) TakeDest(ctx context.Context, domain string) error {
	return l.destinations.TakeDest(ctx, domain)
}

// ReleaseMsg implements delivery.Limits.
func (l limits) ReleaseMsg(addr net.IP, sourceDomain string) {
	l.messages.ReleaseMsg(addr, sourceDomain)
}

// ReleaseDest implements delivery.Limits.
func (l limits) ReleaseDest(domain string) {
	l.destinations.ReleaseDest(domain)
}
