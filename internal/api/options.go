package api

import (
	"strings"

	"tlscontrol/internal/policy"
)

// Bounds of tags, as documented.
const (
	maxTags = 10
	maxTag  = 128
)

// options are what o: parameters say.
type options struct {
	override policy.Override
	testMode bool
	tags     []string
}

// readOptions reads the o: parameters. Those that would be asked for something
// that nobody does here are refused: a client that wants its links tracked, or a
// message sent tomorrow, must hear that it will not happen.
func readOptions(f *form) (options, error) {
	var o options
	for _, name := range f.names {
		if !strings.HasPrefix(name, "o:") {
			continue
		}
		var err error
		switch name {
		case "o:require-tls":
			o.override.RequireTLS, err = f.boolField(name)
		case "o:skip-verification":
			o.override.SkipVerification, err = f.boolField(name)
		case "o:testmode":
			var v policy.Switch
			v, err = f.boolField(name)
			o.testMode = v == policy.Yes
		case "o:tag":
			o.tags, err = readTags(f.values[name])
		case "o:tracking", "o:tracking-clicks", "o:tracking-opens":
			err = f.refuseUnlessNo(name)
		default:
			err = unsupported(name)
		}
		if err != nil {
			return options{}, err
		}
	}
	return o, nil
}

func unsupported(name string) *Error { return bad("%s parameter is not supported", shown(name)) }

// refuseUnlessNo admits that something is not wanted that is not there.
func (f *form) refuseUnlessNo(name string) error {
	value, _, err := f.one(name)
	if err != nil {
		return err
	}
	if v, err := parseBool(name, value); err != nil || v != policy.No {
		return bad("%s parameter: %s is not supported, expected no", name, shown(value))
	}
	return nil
}

func readTags(values []string) ([]string, error) {
	if len(values) > maxTags {
		return nil, bad("o:tag parameter is there %d times, expected at most %d", len(values), maxTags)
	}
	for _, tag := range values {
		if tag == "" || len(tag) > maxTag {
			return nil, bad("o:tag parameter: unexpected %s, expected 1 to %d octets", shown(tag), maxTag)
		}
	}
	return values, nil
}
