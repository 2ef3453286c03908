package remotetls

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/foxcpp/maddy/framework/config"

	"tlscontrol/internal/route"
)

// reader makes a value of a directive. Its errors name file, line and word.
type reader func(*config.Map, config.Node) (interface{}, error)

// directive is one that a block may hold, once.
type directive struct {
	name   string
	read   reader
	store  interface{}
	absent func() (interface{}, error) // the default; nil if the directive must be there
	global bool                        // a global directive of this name may stand for it
}

// checkNames refuses directives that do not exist, and those that are there
// twice. It returns all of them by name.
func checkNames(block config.Node, all []directive) (map[string]config.Node, error) {
	names := make([]string, len(all))
	for i, d := range all {
		names[i] = d.name
	}
	return checkChildren(block, names)
}

func checkChildren(block config.Node, names []string) (map[string]config.Node, error) {
	seen := make(map[string]config.Node)
	for _, child := range block.Children {
		if !slices.Contains(names, child.Name) {
			return nil, config.NodeErr(child, "unexpected directive %q in %s, expected one of %s",
				child.Name, block.Name, strings.Join(names, ", "))
		}
		if earlier, ok := seen[child.Name]; ok {
			return nil, config.NodeErr(child, "%s is already set at %s:%d", child.Name, earlier.File, earlier.Line)
		}
		seen[child.Name] = child
	}
	return seen, nil
}

func constant[T any](v T) func() (interface{}, error) {
	return func() (interface{}, error) { return v, nil }
}

// placed gives an error file and line if it lacks them, as those of maddy's own
// helpers do.
func placed(node config.Node, err error) error {
	if node.File == "" || strings.HasPrefix(err.Error(), node.File+":") {
		return err
	}
	return config.NodeErr(node, "%s: %v", node.Name, err)
}

// words returns the arguments of a directive without a block.
func words(node config.Node, expected string) ([]string, error) {
	if node.Children != nil {
		return nil, config.NodeErr(node, "%s: unexpected block, expected %s", node.Name, expected)
	}
	if len(node.Args) == 0 {
		return nil, config.NodeErr(node, "%s: expected %s", node.Name, expected)
	}
	return node.Args, nil
}

// oneArg returns the only argument of a directive without a block.
func oneArg(node config.Node, expected string) (string, error) {
	args, err := words(node, expected)
	if err != nil {
		return "", err
	}
	if len(args) != 1 {
		return "", config.NodeErr(node, "%s: unexpected %q after %q, expected %s", node.Name, args[1], args[0], expected)
	}
	return args[0], nil
}

// oneOf returns the argument of a directive if it is one of the choices.
func oneOf(node config.Node, choices ...string) (string, error) {
	expected := strings.Join(choices[:len(choices)-1], ", ") + " or " + choices[len(choices)-1]
	arg, err := oneArg(node, expected)
	if err != nil {
		return "", err
	}
	if !slices.Contains(choices, arg) {
		return "", unexpected(node, arg, expected)
	}
	return arg, nil
}

func unexpected(node config.Node, arg, expected string) error {
	return config.NodeErr(node, "%s: unexpected %q, expected %s", node.Name, arg, expected)
}

// boolDirective reads yes or no; without an argument it is yes, as everywhere in
// maddy.
func boolDirective(_ *config.Map, node config.Node) (interface{}, error) {
	if len(node.Args) == 0 && node.Children == nil {
		return true, nil
	}
	const expected = "yes or no"
	arg, err := oneArg(node, expected)
	if err != nil {
		return nil, err
	}
	b, err := config.ParseBool(arg)
	if err != nil {
		return nil, unexpected(node, arg, expected)
	}
	return b, nil
}

// wordDirective reads one word.
func wordDirective(expected string) reader {
	return func(_ *config.Map, node config.Node) (interface{}, error) {
		return oneArg(node, expected)
	}
}

// ipDirective reads an address; target.remote wants brackets around IPv6 ones.
func ipDirective(_ *config.Map, node config.Node) (interface{}, error) {
	const expected = "an IP address"
	arg, err := oneArg(node, expected)
	if err != nil {
		return nil, err
	}
	bare := arg
	if inner, ok := strings.CutPrefix(bare, "["); ok {
		bare, _ = strings.CutSuffix(inner, "]")
	}
	ip, err := netip.ParseAddr(bare)
	if err != nil || bare != arg && (!ip.Is6() || arg != "["+bare+"]") {
		return nil, unexpected(node, arg, expected)
	}
	return ip.Unmap(), nil
}

func systemResolvers() (interface{}, error) {
	return route.SystemServers()
}

func resolverDirective(_ *config.Map, node config.Node) (interface{}, error) {
	args, err := words(node, "an IP address with an optional port, as 127.0.0.1")
	if err != nil {
		return nil, err
	}
	servers, err := route.ParseServers(args)
	if err != nil {
		return nil, config.NodeErr(node, "%v", err)
	}
	return servers, nil
}

// intDirective reads a number between lowest and highest.
func intDirective(lowest, highest int) reader {
	expected := fmt.Sprintf("a number from %d to %d", lowest, highest)
	return func(_ *config.Map, node config.Node) (interface{}, error) {
		arg, err := oneArg(node, expected)
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(arg)
		if err != nil || n < lowest || n > highest {
			return nil, unexpected(node, arg, expected)
		}
		return n, nil
	}
}

// maxDuration bounds every duration: who writes more has mistaken the unit.
const maxDuration = 24 * time.Hour

// timeoutDirective reads a duration longer than nothing. As maddy does, it takes
// several words for one duration: 1m 30s.
func timeoutDirective(_ *config.Map, node config.Node) (interface{}, error) {
	const expected = "a duration up to 24h, such as 30s or 5m"
	args, err := words(node, expected)
	if err != nil {
		return nil, err
	}
	dur, err := time.ParseDuration(strings.Join(args, ""))
	if err != nil || dur <= 0 || dur > maxDuration {
		return nil, unexpected(node, strings.Join(args, " "), expected)
	}
	return dur, nil
}

// secondsDirective reads what target.remote reads, a number of seconds, and
// durations as well.
func secondsDirective(_ *config.Map, node config.Node) (interface{}, error) {
	const expected = "a number of seconds up to 86400, or a duration such as 150s"
	arg, err := oneArg(node, expected)
	if err != nil {
		return nil, err
	}
	text := arg
	if _, err := strconv.ParseUint(arg, 10, 64); err == nil {
		text += "s"
	}
	dur, err := time.ParseDuration(text)
	if err != nil || dur < 0 || dur > maxDuration {
		return nil, unexpected(node, arg, expected)
	}
	return dur, nil
}
