package mtasts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

func TestConcurrentLookupsFetchOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hold := make(chan struct{})
	held := page("mx.example.net")
	held.Hold = hold
	w.publish("example.net", "1", held)
	c := w.cache()
	// The one who begins gives up; the others get their policy.
	ctx, giveUp := context.WithCancel(t.Context())
	gone := make(chan Result)
	go func() { gone <- c.Lookup(ctx, "example.net") }()
	eventually(t, "the fetch begins", func() bool { return len(w.host.Requests()) == 1 })
	const n = 30
	results := make(chan Result, n)
	for range n {
		go func() { results <- c.Lookup(t.Context(), "example.net") }()
	}
	giveUp()
	wantKind(t, <-gone, Internal)
	close(hold)
	for range n {
		if r := <-results; r.Policy == nil || r.Err != nil {
			t.Errorf("%+v", r)
		}
	}
	w.wantFetches(1)
}

func TestFailedFetchIsNotRepeatedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("example.net", "1", mailtest.STSPage{Status: 404})
	c := w.cache()
	for range 5 {
		wantNone(t, c, "example.net", FetchError)
	}
	w.wantFetches(1)
	// The owner mends it. A new id is heard after a minute, the old one after five.
	w.host.Serve("example.net", page("mx.example.net"))
	w.pass(fetchPause)
	wantNone(t, c, "example.net", FetchError)
	w.wantFetches(1)
	w.announce("example.net", "2")
	if r := wantPolicy(t, c, "example.net", "mx.example.net"); r.Err != nil {
		t.Error(r.Err)
	}
	w.publish("other.example", "1", mailtest.STSPage{Status: 404})
	wantNone(t, c, "other.example", FetchError)
	w.host.Serve("other.example", page("mx.example.net"))
	w.pass(retryAfter)
	wantPolicy(t, c, "other.example", "mx.example.net")
}

func TestSlowHostHoldsNothingUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("example.net", "1", page("a.example.net"))
	c := w.cache()
	c.patience = time.Millisecond
	wantPolicy(t, c, "example.net", "a.example.net")
	hold := make(chan struct{})
	slow := page("b.example.net")
	slow.Hold = hold
	w.publish("example.net", "2", slow)
	w.pass(time.Hour)
	r := wantPolicy(t, c, "example.net", "a.example.net")
	wantKind(t, r, Internal)
	if !errors.Is(r.Err, errSlow) {
		t.Error(r.Err)
	}
	close(hold)
	eventually(t, "the new policy is there", func() bool { return lookup(t, c, "example.net").Policy.ID == "2" })
	w.wantFetches(2)
}

func TestFetchesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cache()
	c.places = make(chan struct{}, 2)
	hold := make(chan struct{})
	held := page("mx.example.net")
	held.Hold = hold
	const n = 10
	results := make(chan Result, n)
	for i := range n {
		domain := fmt.Sprintf("d%d.example", i)
		w.publish(domain, "1", held)
		go func() { results <- c.Lookup(t.Context(), domain) }()
	}
	eventually(t, "two are asked for", func() bool { return len(w.host.Requests()) == 2 })
	asked := func() (hosts int) {
		for _, q := range w.dns.Asked() {
			if strings.HasPrefix(q, "TXT ") {
				hosts++
			}
		}
		return hosts
	}
	eventually(t, "all have found their record", func() bool { return asked() == n })
	if got := w.host.Handshakes(); got != 2 {
		t.Errorf("%d connections", got)
	}
	close(hold)
	for range n {
		if r := <-results; r.Policy == nil {
			t.Error(r.Err)
		}
	}
}

func TestPanicInFlight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("example.net", "1", page("mx.example.net"))
	resolver := &panicking{Resolver: w.resolver}
	resolver.broken("A")
	c := w.cache(func(cfg *Config) { cfg.Resolver = resolver })
	wantNone(t, c, "example.net", Internal)
	resolver.broken("")
	w.pass(retryAfter)
	wantPolicy(t, c, "example.net", "mx.example.net")
}
