package deliverylog

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/foxcpp/maddy/framework/config"

	"tlscontrol/module/blocks"
)

// The kinds of outputs, as they are written in the configuration.
const (
	kindFile   = "file"
	kindStderr = "stderr"
	kindStdout = "stdout"
	kindSyslog = "syslog"
	kindOff    = "off"
)

const outputChoices = "file PATH, stderr, stdout, syslog or off"

// settings is a block that was read and found good.
type settings struct {
	outputs []outputSetting // empty: off
	headers []string        // lower case
}

// outputSetting is one `output` directive.
type outputSetting struct {
	kind string
	path string // of a file
	node config.Node
}

// String is the directive's arguments as they were written.
func (s outputSetting) String() string {
	if s.kind == kindFile {
		return kindFile + " " + s.path
	}
	return s.kind
}

func defaultSettings() settings {
	return settings{
		outputs: []outputSetting{{kind: kindStderr}},
		headers: []string{"message-id"},
	}
}

// parse reads the directives of a block. Every error carries file and line.
func parse(block config.Node) (settings, error) {
	var s settings
	seen := map[string]bool{}
	for _, node := range block.Children {
		var err error
		switch {
		case node.Children != nil:
			err = fmt.Errorf("%s: a block is not allowed here", node.Name)
		case node.Name == "output":
			err = s.addOutput(node)
		case node.Name == "headers" && seen["headers"]:
			err = errors.New("headers: the directive may stand only once, list all names in it")
		case node.Name == "headers":
			s.headers, err = blocks.HeaderNames(node.Args)
		default:
			err = fmt.Errorf("unexpected directive %q, expected output or headers", node.Name)
		}
		if err != nil {
			return settings{}, config.NodeErr(node, "%v", err)
		}
		seen[node.Name] = true
	}
	def := defaultSettings()
	if !seen["output"] {
		s.outputs = def.outputs
	}
	if !seen["headers"] {
		s.headers = def.headers
	}
	if slices.ContainsFunc(s.outputs, func(o outputSetting) bool { return o.kind == kindOff }) {
		s.outputs = nil
	}
	return s, nil
}

func (s *settings) addOutput(node config.Node) error {
	out, err := parseOutput(node.Args)
	if err != nil {
		return err
	}
	out.node = node
	for _, other := range s.outputs {
		switch {
		case other.kind == out.kind && samePath(other.path, out.path):
			return fmt.Errorf("output %s: stands here twice, first in line %d", out, other.node.Line)
		case other.kind == kindOff || out.kind == kindOff:
			return fmt.Errorf("output %s: %q cannot be combined with other outputs", out, kindOff)
		}
	}
	s.outputs = append(s.outputs, out)
	return nil
}

// samePath reports whether two paths, relative ones being in the state
// directory, are two spellings of one.
func samePath(a, b string) bool {
	return filepath.Clean(inStateDir(config.StateDirectory, a)) == filepath.Clean(inStateDir(config.StateDirectory, b))
}

func parseOutput(args []string) (outputSetting, error) {
	if len(args) == 0 {
		return outputSetting{}, fmt.Errorf("output: expected %s", outputChoices)
	}
	kind, rest := args[0], args[1:]
	switch kind {
	case kindFile:
		if len(rest) == 0 || rest[0] == "" {
			return outputSetting{}, errors.New("output file: expected a path")
		}
		if len(rest) > 1 {
			return outputSetting{}, fmt.Errorf("output file: unexpected %q after the path", rest[1])
		}
		return outputSetting{kind: kind, path: rest[0]}, nil
	case kindStderr, kindStdout, kindSyslog, kindOff:
		if len(rest) > 0 {
			return outputSetting{}, fmt.Errorf("output %s: unexpected %q, expected nothing more", kind, rest[0])
		}
		return outputSetting{kind: kind}, nil
	}
	return outputSetting{}, fmt.Errorf("output: unexpected %q, expected %s", kind, outputChoices)
}
