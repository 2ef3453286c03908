package api

import (
	"errors"
	"net/mail"
	"strings"
	"time"
)

// maxDate bounds a date, in octets.
const maxDate = 100

// zones are the names of zones that say one thing everywhere (RFC 5322, section
// 4.3), and the two others for the one that they are offsets to.
var zones = map[string]string{
	"UT": "+0000", "GMT": "+0000", "UTC": "+0000", "Z": "+0000",
	"EST": "-0500", "EDT": "-0400",
	"CST": "-0600", "CDT": "-0500",
	"MST": "-0700", "MDT": "-0600",
	"PST": "-0800", "PDT": "-0700",
}

// zoneError reports a date with the name of a zone that nobody can be sure of.
type zoneError struct{ zone string }

func (e *zoneError) Error() string {
	return "unexpected zone " + shown(e.zone) + ", expected an offset as +0100, or one of UTC, GMT, EST, EDT, CST, CDT, MST, MDT, PST or PDT"
}

// parseDate reads a date as in a message (RFC 5322, section 3.3). The error is a
// *zoneError if it is the zone that is wrong. net/mail takes any word for a zone, and
// for UTC, which is hours from what was meant: it never sees one.
func parseDate(value string) (time.Time, error) {
	if len(value) > maxDate {
		return time.Time{}, errors.New("the date is too long")
	}
	if strings.HasSuffix(value, ")") { // +0100 (CET): what the offset is called
		value, _, _ = strings.Cut(value, "(")
	}
	value = strings.TrimRight(value, " \t")
	at := strings.LastIndexAny(value, " \t") + 1
	day, zone := value[:at], value[at:]
	if name := strings.ToUpper(zone); name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		offset, ok := zones[name]
		if !ok {
			if _, err := mail.ParseDate(day + "+0000"); err != nil {
				return time.Time{}, err
			}
			return time.Time{}, &zoneError{zone}
		}
		zone = offset
	}
	if !isOffset(zone) {
		return time.Time{}, errors.New("the date has no zone, expected an offset as +0100 at its end")
	}
	return mail.ParseDate(day + zone)
}

// isOffset reports whether a zone is a sign and four digits. Of two, as in +03, net/mail
// makes a name, too.
func isOffset(zone string) bool {
	return len(zone) == len("+0100") && (zone[0] == '+' || zone[0] == '-') && strings.Trim(zone[1:], "0123456789") == ""
}
