package api

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestZonesOfDates(t *testing.T) {
	t.Parallel()
	for zone, want := range map[string]string{
		"+0000": "13:00", "-0000": "13:00", "+0530": "07:30", "-0800": "21:00",
		"UT": "13:00", "GMT": "13:00", "UTC": "13:00", "Z": "13:00", "gmt": "13:00",
		"EST": "18:00", "EDT": "17:00", "CST": "19:00", "CDT": "18:00",
		"MST": "20:00", "MDT": "19:00", "PST": "21:00", "PDT": "20:00", "pst": "21:00",
		"-0800 (PST)": "21:00", "PST (Pacific, -0800)": "21:00", "+0100\t(CET)": "12:00",
	} {
		for _, begin := range []string{"Thu, 26 Nov 2026 13:00:00 ", "26 Nov 2026 13:00 "} {
			got, err := parseDate(begin + zone)
			if err != nil || got.UTC().Format("2006-01-02 15:04") != "2026-11-26 "+want {
				t.Errorf("%s: got %v, %v, expected %s", begin+zone, got, err, want)
			}
		}
	}
	for _, zone := range []string{"CET", "ABC", "A", "BST", "IST", "tomorrow", "utcx"} {
		_, err := parseDate("Thu, 26 Nov 2026 13:00:00 " + zone)
		if wrong := (*zoneError)(nil); !errors.As(err, &wrong) || wrong.zone != zone {
			t.Errorf("%s: got %v", zone, err)
		}
	}
	for _, value := range []string{
		"", " ", ")", "(", "+", "Thu, 26 Nov 2026 13:00:00", "Thu, 26 Nov 2026 13:00:00 GMT-0500", "Thu, 26 Nov 2026 13:00:00 WITA+8",
		"Thu, 26 Nov 2026 13:00:00 EST -0500", "Thu, 26 Nov 2026 13:00:00 +03", "Thu, 26 Nov 2026 13:00:00 -00()", "Thu, 26 Nov 2026 13:00:00 CET (-0500)", "Thu, 26 Nov 2026 25:00:00 GMT",
		"Thu, 26 Nov 2026 13:00:00 " + strings.Repeat(" ", maxDate) + "GMT",
	} {
		if got, err := parseDate(value); err == nil {
			t.Errorf("%q was taken, for %v", value, got)
		}
	}
}

// Whatever is taken for a date has a zone that it names, and is the same written out.
func FuzzParseDate(f *testing.F) {
	for _, zone := range []string{"+0000", "PST", "CET", "-0800 (PST)", "GMT-0500", "Z", "A", "", "+99999", "+1 0100", "EST EST", "+03", "-00()"} {
		f.Add("Thu, 26 Nov 2026 13:00:00 " + zone)
	}
	f.Add("Thu, 13 (PST) Oct 2011 18:02:00 CET (CET)")
	f.Fuzz(func(t *testing.T, value string) {
		got, err := parseDate(value)
		if err != nil {
			return
		}
		if name, _ := got.Zone(); strings.Trim(name, "UTC") != "" && zones[name] == "" {
			t.Errorf("%q: zone %q was made up", value, name)
		}
		if again, err := parseDate(got.Format(time.RFC1123Z)); err != nil || !again.Equal(got) && got.Year() > 99 {
			t.Errorf("%q: got %v, then %v, %v", value, got, again, err)
		}
	})
}
