package api

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// deadlines notes when the client has to have taken the answer.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetReadDeadline(time.Time) error { return nil }

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

// lateMail takes a message when the time for the answer is almost over.
type lateMail struct {
	Mail
	w     *deadlines
	until time.Time
}

func (m *lateMail) Submit(ctx context.Context, message *Message) (string, error) {
	m.until = m.w.set[len(m.w.set)-1]
	return m.Mail.Submit(ctx, message)
}

// The time to take the answer begins when there is one: a client that does not hear
// of a message that was taken sends it again.
func TestTimeForTheAnswer(t *testing.T) {
	t.Parallel()
	got := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	late := &lateMail{w: got}
	w := newWorld(t, func(c *Config) { late.Mail, c.Mail = c.Mail, late })
	r := httptest.NewRequest("POST", messagesPath, strings.NewReader(letter().Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("api", domainKey)
	w.api.ServeHTTP(got, r)
	if last := got.set[len(got.set)-1]; got.Code != 200 || last == late.until {
		t.Errorf("%d, until %v, before that %v", got.Code, last, late.until)
	}
}
