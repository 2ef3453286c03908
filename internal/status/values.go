package status

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The types below are what a document holds that is neither a word nor a
// number of JSON as it is. Each knows its form in the document twice: append
// writes it, without allocating, and encoding/json writes and reads it.

// ID names one document: 128 random bits, in hexadecimal.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives 32 hexadecimal digits.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText takes nothing but 32 hexadecimal digits.
func (id *ID) UnmarshalText(text []byte) error { return unhex(id[:], text) }

// Digest is a SHA-256 digest, in hexadecimal.
type Digest [32]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText gives 64 hexadecimal digits.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText takes nothing but 64 hexadecimal digits.
func (d *Digest) UnmarshalText(text []byte) error { return unhex(d[:], text) }

// unhex fills dst.
func unhex(dst, text []byte) error {
	if hex.DecodedLen(len(text)) != len(dst) || len(text)%2 != 0 {
		return fmt.Errorf("%d hexadecimal digits, expected %d", len(text), hex.EncodedLen(len(dst)))
	}
	_, err := hex.Decode(dst, text)
	return err
}

// Timestamp is a moment in microseconds since 1970. In the document it is a
// number of seconds, always with six decimals and never with an exponent, so
// that lines sort and parse the same everywhere.
type Timestamp int64

func (t Timestamp) append(b []byte) []byte {
	us := uint64(t)
	if t < 0 {
		b, us = append(b, '-'), -us
	}
	b = strconv.AppendUint(b, us/1e6, 10)
	b = append(b, '.')
	for frac, unit := us%1e6, uint64(1e5); unit > 0; unit /= 10 {
		b = append(b, byte('0'+frac/unit%10))
	}
	return b
}

func (t Timestamp) String() string { return string(t.append(nil)) }

// MarshalJSON gives seconds with six decimals.
func (t Timestamp) MarshalJSON() ([]byte, error) { return t.append(nil), nil }

// UnmarshalJSON takes what MarshalJSON gives, and fewer decimals.
func (t *Timestamp) UnmarshalJSON(text []byte) error {
	whole, frac, _ := strings.Cut(string(text), ".")
	if len(frac) > 6 {
		return fmt.Errorf("%s: more than six decimals", text)
	}
	// The digits without their point are the microseconds.
	us, err := strconv.ParseInt(whole+frac+"000000"[len(frac):], 10, 64)
	if err != nil {
		return err
	}
	*t = Timestamp(us)
	return nil
}

// Seconds is a duration, with three decimals and no exponent.
type Seconds float64

// maxSeconds is more than any clock can have measured here.
const maxSeconds = 1e9

func (s Seconds) append(b []byte) []byte { return strconv.AppendFloat(b, float64(s), 'f', 3, 64) }

// known is false for what no clock can have measured.
func (s Seconds) known() bool { return !math.IsNaN(float64(s)) && 0 <= s && s <= maxSeconds }

// MarshalJSON gives seconds with three decimals.
func (s Seconds) MarshalJSON() ([]byte, error) { return s.append(nil), nil }

// Moment is a moment in seconds since 1970; RFC 3339 in UTC in the document.
type Moment int64

func (m Moment) append(b []byte) []byte {
	return time.Unix(int64(m), 0).UTC().AppendFormat(b, time.RFC3339)
}

func (m Moment) String() string { return string(m.append(nil)) }

// MarshalText gives the form of RFC 3339.
func (m Moment) MarshalText() ([]byte, error) { return m.append(nil), nil }

// UnmarshalText takes what MarshalText gives.
func (m *Moment) UnmarshalText(text []byte) error {
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return err
	}
	*m = Moment(t.Unix())
	return nil
}

// EnhancedCode is an enhanced status code (RFC 3463, section 2). The zero code
// is an unknown one.
type EnhancedCode [3]uint16

var errEnhancedCode = errors.New("expected an enhanced status code, as 2.0.0")

func (c EnhancedCode) append(b []byte) []byte {
	for i, n := range c {
		if i > 0 {
			b = append(b, '.')
		}
		b = strconv.AppendUint(b, uint64(n), 10)
	}
	return b
}

func (c EnhancedCode) String() string { return string(c.append(nil)) }

// MarshalText gives three numbers with points between them.
func (c EnhancedCode) MarshalText() ([]byte, error) { return c.append(nil), nil }

// UnmarshalText takes what MarshalText gives.
func (c *EnhancedCode) UnmarshalText(text []byte) error {
	parts := strings.Split(string(text), ".")
	if len(parts) != len(c) {
		return errEnhancedCode
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return errEnhancedCode
		}
		c[i] = uint16(n)
	}
	return nil
}
