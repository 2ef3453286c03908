package status

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestValues: the forms in which a document holds what is more than a word,
// each written and read again.
func TestValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value any
		again any // where to read it to
		want  string
	}{
		{ID{0x01, 15: 0xfe}, new(ID), `"010000000000000000000000000000fe"`},
		{Digest{0xab, 31: 1}, new(Digest), `"ab00000000000000000000000000000000000000000000000000000000000001"`},
		{Timestamp(0), new(Timestamp), `0.000000`},
		{Timestamp(-1), new(Timestamp), `-0.000001`},
		{Timestamp(math.MaxInt64), new(Timestamp), `9223372036854.775807`},
		{Timestamp(math.MinInt64), new(Timestamp), `-9223372036854.775808`},
		{Seconds(0.148), new(Seconds), `0.148`},
		{Seconds(0), new(Seconds), `0.000`},
		{Seconds(maxSeconds), new(Seconds), `1000000000.000`},
		{Moment(time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC).Unix()), new(Moment), `"2027-01-02T03:04:05Z"`},
		{Moment(time.Time{}.Unix()), new(Moment), `"0001-01-01T00:00:00Z"`},
		{EnhancedCode{5, 7, 30}, new(EnhancedCode), `"5.7.30"`},
		{Headers{{"a", "1"}, {"b", "<2>\u0085"}}, new(Headers), `{"a":"1","b":"<2>\u0085"}`},
	} {
		got := reference(t, c.value)
		if got != c.want {
			t.Errorf("%T: %s, want %s", c.value, got, c.want)
		}
		if err := json.Unmarshal([]byte(got), c.again); err != nil {
			t.Errorf("%s: %v", got, err)
		}
		if diff := cmp.Diff(got, reference(t, c.again)); diff != "" {
			t.Errorf("read and written again (-was +is):\n%s", diff)
		}
	}
}

// TestBadValues: what no document holds is refused, not read as something else.
func TestBadValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		into any
	}{
		{`"01"`, new(ID)},
		{`"0100000000000000000000000000000g"`, new(ID)},
		{`"010000000000000000000000000000fe0"`, new(ID)},
		{`"010000000000000000000000000000fe"`, new(Digest)},
		{`1e3`, new(Timestamp)},
		{`0.1234567`, new(Timestamp)},
		{`9223372036855`, new(Timestamp)},
		{`"1.0"`, new(Timestamp)},
		{`"yesterday"`, new(Moment)},
		{`"2.0"`, new(EnhancedCode)},
		{`"2.0.x"`, new(EnhancedCode)},
		{`"2.0.70000"`, new(EnhancedCode)},
		{`{"a":1}`, new(Headers)},
		{`[]`, new(Headers)},
	} {
		if err := json.Unmarshal([]byte(c.text), c.into); err == nil {
			t.Errorf("%s was read as %T %v", c.text, c.into, c.into)
		}
	}
}

func TestHeaderNames(t *testing.T) {
	t.Parallel()
	want := []HeaderName{{"list-id", "List-Id"}, {"message-id", "Message-Id"}, {"x-1", "X-1"}}
	got := HeaderNames("X-1", "message-ID", "Message-Id", "list-id", "MESSAGE-ID")
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(HeaderName{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
