package api

import (
	"errors"
	"strings"
	"time"

	"github.com/emersion/go-message/textproto"

	"tlscontrol/internal/policy"
)

// Bounds of tags, as documented.
const (
	maxTags = 10
	maxTag  = 128
)

// soon is how far ahead the time of delivery may be: clocks differ, and a client
// that says now means it.
const soon = time.Minute

// options are what o: parameters say.
type options struct {
	override policy.Override
	test     policy.Switch // the message is looked at, and not sent
	tags     []string
}

// readOptions reads the o: parameters.
func readOptions(f *form, now time.Time) (options, error) {
	var o options
	for _, name := range f.names {
		if !strings.HasPrefix(name, "o:") {
			continue
		}
		if err := o.read(name, f.values[name], now); err != nil {
			return options{}, err
		}
	}
	return o, nil
}

// read reads one option. One that would be asked for something that nobody does
// here is refused: a client that wants its links tracked, or a message sent
// tomorrow, must hear that it will not happen. What counts is what the value asks
// for: that nothing is tracked is so in any case, and clients say it by default.
func (o *options) read(name string, values []string, now time.Time) error {
	if name == "o:tag" {
		return o.addTags(values)
	}
	if len(values) != 1 {
		return bad("%s parameter is there more than once", shown(name))
	}
	value := values[0]
	switch name {
	case "o:require-tls":
		return set(&o.override.RequireTLS, name, value)
	case "o:skip-verification":
		return set(&o.override.SkipVerification, name, value)
	case "o:testmode":
		return set(&o.test, name, value)
	case "o:tracking", "o:tracking-clicks", "o:tracking-opens", "o:tracking-pixel-location-top", "o:native-send":
		if v, err := parseBool(name, value); err != nil || v != policy.No {
			return bad("%s parameter: %s is not supported, expected no", name, shown(value))
		}
		return nil
	case "o:deliverytime":
		at, err := parseDate(value)
		if unclear := (*zoneError)(nil); errors.As(err, &unclear) {
			return bad("%s parameter: %s", name, unclear)
		}
		if err != nil || at.After(now.Add(soon)) {
			return bad("%s parameter is not supported: messages are sent at once", name)
		}
		return nil
	case "o:dkim":
		return bad("%s parameter is not supported: the server's configuration says which messages are signed", name)
	}
	return unsupported(name)
}

// set takes the yes or no of an option, which may not contradict what was said
// before.
func set(taken *policy.Switch, name, value string) error {
	said, err := parseBool(name, value)
	if err != nil {
		return err
	}
	return settle(taken, name, said)
}

func settle(taken *policy.Switch, name string, said policy.Switch) error {
	if *taken != policy.Unset && *taken != said {
		return bad("%s parameter contradicts the header of the message", name)
	}
	*taken = said
	return nil
}

func unsupported(name string) *Error { return bad("%s parameter is not supported", shown(name)) }

func (o *options) addTags(values []string) error {
	if n := len(o.tags) + len(values); n > maxTags {
		return bad("o:tag parameter is there %d times, expected at most %d", n, maxTags)
	}
	for _, tag := range values {
		if tag == "" || len(tag) > maxTag {
			return bad("o:tag parameter: unexpected %s, expected 1 to %d octets", shown(tag), maxTag)
		}
	}
	o.tags = append(o.tags, values...)
	return nil
}

// optionFields are the header fields by which a message that comes ready made says
// what options do, as documented, in lower case.
var optionFields = map[string]string{
	"x-mailgun-tag":                           "o:tag",
	"x-mailgun-dkim":                          "o:dkim",
	"x-mailgun-secondary-dkim":                "o:secondary-dkim",
	"x-mailgun-secondary-dkim-public":         "o:secondary-dkim-public",
	"x-mailgun-drop-message":                  "o:testmode",
	"x-mailgun-track":                         "o:tracking",
	"x-mailgun-track-clicks":                  "o:tracking-clicks",
	"x-mailgun-track-opens":                   "o:tracking-opens",
	"x-mailgun-track-pixel-location-top":      "o:tracking-pixel-location-top",
	"x-mailgun-native-send":                   "o:native-send",
	"x-mailgun-sending-ip":                    "o:sending-ip",
	"x-mailgun-sending-ip-pool":               "o:sending-ip-pool",
	"x-mailgun-require-tls":                   "o:require-tls",
	"x-mailgun-skip-verification":             "o:skip-verification",
	"x-mailgun-deliver-by":                    "o:deliverytime",
	"x-mailgun-deliver-within":                "o:deliver-within",
	"x-mailgun-delivery-time-optimize-period": "o:deliverytime-optimize-period",
	"x-mailgun-time-zone-localize":            "o:time-zone-localize",
	"x-mailgun-recipient-variables":           "recipient-variables",
	"x-mailgun-template-name":                 "template",
	"x-mailgun-template-version":              "t:version",
	"x-mailgun-template-variables":            "t:variables",
}

// readHeader reads the options that a header has, and takes them out of it: they are
// for the server, and not for those who get the message.
func (o *options) readHeader(h *textproto.Header, now time.Time) error {
	for fields := h.Fields(); fields.Next(); {
		name, ok := optionFields[strings.ToLower(fields.Key())]
		if !ok {
			continue
		}
		if err := o.read(name, []string{plainText(fields.Value())}, now); err != nil {
			return bad("message parameter: %s: %s", fields.Key(), err.Error())
		}
		fields.Del()
	}
	return nil
}
