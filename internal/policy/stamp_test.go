package policy

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-message/textproto"
)

func TestStampText(t *testing.T) {
	t.Parallel()
	var k Key
	// The MAC was computed with another implementation:
	// printf 'v=1; require-tls=yes; skip-verification=no; id=7f3a9c1e' |
	//   openssl dgst -sha256 -mac HMAC -macopt hexkey:00…00
	want := "v=1; require-tls=yes; skip-verification=no; id=7f3a9c1e; mac=12265d2bf6e66d0832f1990e76dff56fbebb6a13318b1940d5d0bb4bae82e0d3"
	if got := k.Stamp("7f3a9c1e", Override{Yes, No}); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestStampRoundTrip(t *testing.T) {
	t.Parallel()
	k := Key{1, 2, 3}
	for _, id := range []string{"7f3a9c1e", "a;b=c d\r\n%é", "with-hyphen", strings.Repeat("x", 500)} {
		for _, require := range []Switch{Unset, No, Yes} {
			for _, skip := range []Switch{Unset, No, Yes} {
				o := Override{require, skip}
				stamp := k.Stamp(id, o)
				checkHarmless(t, stamp)
				for _, messageID := range []string{id, id + "-66f0a1b2", id + "-66f0a1b2-66f0a1c3", id + "-1"} {
					got, err := k.Open(stamp, messageID)
					if err != nil || got != o {
						t.Errorf("Open(%s, %s) = %v, %v", stamp, messageID, got, err)
					}
				}
			}
		}
	}
}

// The queue writes the header to disk and reads it back, which folds the field.
func TestStampThroughAHeaderOnDisk(t *testing.T) {
	t.Parallel()
	k := Key{7}
	var h textproto.Header
	h.Add("Subject", "hello")
	h.Add(StampField, k.Stamp("7f3a9c1e", Override{Yes, Yes}))
	var disk strings.Builder
	if err := textproto.WriteHeader(&disk, h); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(disk.String(), "\r\n ") {
		t.Fatalf("the stamp was not folded, nothing is tested:\n%s", disk.String())
	}
	read, err := textproto.ReadHeader(bufio.NewReader(strings.NewReader(disk.String())))
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.Open(read.Get(StampField), "7f3a9c1e-66f0a1b2")
	if err != nil || got != (Override{Yes, Yes}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestStampRefused(t *testing.T) {
	t.Parallel()
	k := Key{7}
	const id = "7f3a9c1e"
	good := k.Stamp(id, Override{Yes, No})
	mac := func(text string) string { return text + "; mac=" + fmt.Sprintf("%x", k.mac(text)) }
	tests := []struct {
		name      string
		value     string
		messageID string
		want      StampProblem
	}{
		{"empty", "", id, StampMalformed},
		{"garbage", "yes", id, StampMalformed},
		{"no MAC", "v=1; require-tls=yes; id=" + id, id, StampMalformed},
		{"MAC not last", good + "; skip-verification=yes", id, StampMalformed},
		{"MAC not hexadecimal", "v=1; id=" + id + "; mac=zz", id, StampMalformed},
		{"too long", good + strings.Repeat(" ", 1024), id, StampMalformed},
		{"empty MAC", "v=1; id=" + id + "; mac=", id, StampForged},
		{"other version", "v=2; id=" + id + "; mac=00", id, StampVersion},
		{"other key", Key{8}.Stamp(id, Override{Yes, No}), id, StampForged},
		{"setting turned", strings.Replace(good, "verification=no", "verification=yes", 1), id, StampForged},
		{"setting removed", strings.Replace(good, "; require-tls=yes", "", 1), id, StampForged},
		{"ID exchanged", strings.Replace(good, id, "00000000", 1), "00000000", StampForged},
		{"cut MAC", good[:len(good)-2], id, StampForged},
		{"other message", good, "00000000", StampForeign},
		{"longer ID", good, id + "0", StampForeign},
		{"suffix not hexadecimal", good, id + "-xyz", StampForeign},
		{"suffix in capitals", good, id + "-66F0A1B2", StampForeign},
		{"suffix empty", good, id + "-", StampForeign},
		{"suffix too long", good, id + "-12345678123456781", StampForeign},
		{"no message ID", good, "", StampForeign},
		{"stamped without an ID", mac("v=1; require-tls=yes; id="), "", StampForeign},
		{"stamped without an ID, attempt", mac("v=1; require-tls=yes; id="), "-66f0a1b2", StampForeign},
		{"unknown word under a good MAC", mac("v=1; from=tomorrow; id=" + id), id, StampMalformed},
		{"unknown value under a good MAC", mac("v=1; require-tls=maybe; id=" + id), id, StampMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o, err := k.Open(test.value, test.messageID)
			var se *StampError
			if !errors.As(err, &se) || se.Problem != test.want || !o.IsZero() {
				t.Fatalf("got %v, %v, want %s", o, err, test.want)
			}
			checkHarmless(t, err.Error())
		})
	}
}

func TestQueueID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"7f3a9c1e":                             "7f3a9c1e",
		"7f3a9c1e-66f0a1b2":                    "7f3a9c1e",
		"7f3a9c1e-66f0a1b2-66f0a1c3":           "7f3a9c1e",
		"":                                     "",
		"-66f0a1b2":                            "-66f0a1b2",
		"with-hyphen":                          "with-hyphen",
		"with-hyphen-66f0a1b2":                 "with-hyphen",
		"0c5b7d5e-93fd-4c1f-9d8b-1f0e8f6a2b3z": "0c5b7d5e-93fd-4c1f-9d8b-1f0e8f6a2b3z",
	} {
		if got := QueueID(in); got != want {
			t.Errorf("QueueID(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzStampOpen(f *testing.F) {
	k := Key{7}
	good := k.Stamp("7f3a9c1e", Override{Yes, No})
	f.Add(good, "7f3a9c1e")
	f.Add(good, "7f3a9c1e-66f0a1b2")
	f.Add("v=1; id=; mac=", "")
	f.Add(strings.ReplaceAll(good, "; ", " ;\r\n\t"), "7f3a9c1e")
	f.Fuzz(func(t *testing.T, value, messageID string) {
		o, err := k.Open(value, messageID)
		if err != nil {
			checkHarmless(t, err.Error())
			return
		}
		// Nobody but us has the key, so what opens is one of the seeds' stamp.
		if o != (Override{Yes, No}) || QueueID(messageID) == "" || !strings.HasPrefix(messageID, "7f3a9c1e") {
			t.Errorf("%q opened for %q as %v", value, messageID, o)
		}
	})
}
