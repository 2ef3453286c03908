package api

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/mailgun/mailgun-go/v4"
)

// A row that cannot be read does not hide the other domains: the list has it as
// one that is disabled, with the strictest settings, and says why. Alone it is an
// error. A table that does not answer is one in any case.
func TestBrokenRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.domains["a.example"], w.domains["b.example"] = Change{}, Change{}
	w.rowErr = map[string]error{"b.example": &Error{Status: http.StatusServiceUnavailable, RetryAfter: 60, Broken: true, Text: "b cannot be read"}}

	got := w.do(request{method: "GET", path: "/v4/domains", key: fullKey})
	describe(t).check("GET", "/v4/domains", got)
	list := decode[domainsAnswer](t, got)
	want := document(Domain{Name: "b.example", RequireTLS: true})
	want.State, want.IsDisabled, want.Error = "disabled", true, "b cannot be read"
	if list.TotalCount != 2 || len(list.Items) != 2 || list.Items[0].State != "active" || list.Items[1] != want {
		t.Errorf("got %d %s", got.status, got.body)
	}
	w.want(w.do(request{method: "GET", path: "/v4/domains/b.example", key: fullKey}), 503, "b cannot be read")
	w.want(w.do(request{method: "GET", path: "/v3/domains/b.example/connection", key: fullKey}), 503, "b cannot be read")

	mg := mailgun.NewMailgun("example.com", fullKey)
	mg.SetAPIBase(w.srv.URL + "/v3")
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	var page []mailgun.Domain
	if it := mg.ListDomains(nil); !it.Next(ctx, &page) || len(page) != 2 || page[0].State != "active" || page[1].State != "disabled" {
		t.Errorf("mailgun-go: %+v, %v", page, it.Err())
	}

	w.rowErr["a.example"] = &Error{Status: http.StatusServiceUnavailable, RetryAfter: 10, Text: "the table does not answer"}
	w.want(w.do(request{method: "GET", path: "/v4/domains", key: fullKey}), 503, "the table does not answer")
	w.rowErr["a.example"] = errors.New("secret")
	w.want(w.do(request{method: "GET", path: "/v4/domains", key: fullKey}), 500, "Internal server error")
}
