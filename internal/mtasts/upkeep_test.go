package mtasts

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlscontrol/internal/mailtest"
)

// A policy is fetched again once a day though its id is the same, also after a
// restart.
func TestRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	w.publish("example.net", "1", page("mx.example.net"))
	c := w.cache(in(dir))
	first := wantPolicy(t, c, "example.net", "mx.example.net").Policy
	w.pass(20 * time.Hour)
	c.upkeep()
	w.wantFetches(1)
	w.pass(7 * time.Hour)
	c.upkeep()
	w.wantFetches(2)
	c.upkeep()
	w.wantFetches(2)
	second := wantPolicy(t, c, "example.net", "mx.example.net").Policy
	if !second.Expires.After(first.Expires.Add(26 * time.Hour)) {
		t.Errorf("it expires %v, before %v", second.Expires, first.Expires)
	}
	c.Close()
	w.pass(26 * time.Hour)
	c = w.cache(in(dir))
	// What became due meanwhile is spread over an hour.
	w.pass(time.Hour)
	c.upkeep()
	w.wantFetches(3)
	// So it never expires, whatever happens to its record in DNS.
	w.dns.Fail("_mta-sts.example.net", dns.RcodeServerFailure)
	for range 10 {
		w.pass(27 * time.Hour)
		c.upkeep()
	}
	w.wantFetches(13)
	wantKind(t, wantPolicy(t, c, "example.net", "mx.example.net"), DNS)
}

// A refresh finds what has changed.
func TestRefreshTakesNewPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("example.net", "1", page("a.example.net"))
	c := w.cache()
	wantPolicy(t, c, "example.net", "a.example.net")
	w.publish("example.net", "2", page("b.example.net"))
	w.pass(27 * time.Hour)
	c.upkeep()
	w.wantFetches(2)
	if r := wantPolicy(t, c, "example.net", "b.example.net"); r.Policy.ID != "2" {
		t.Errorf("id %q", r.Policy.ID)
	}
	w.wantFetches(2)
}

// A refresh that fails is told once, tried again later, and harms nothing.
func TestRefreshFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("example.net", "1", page("mx.example.net"))
	c := w.cache()
	wantPolicy(t, c, "example.net", "mx.example.net")
	w.host.Serve("example.net", mailtest.STSPage{Status: 503})
	tries := 1
	for end := w.now().Add(week - 12*time.Hour); w.now().Before(end); {
		w.pass(20 * time.Minute)
		c.upkeep()
		if n := len(w.host.Requests()); n > tries {
			tries = n
			wantKind(t, wantPolicy(t, c, "example.net", "mx.example.net"), FetchError)
		}
	}
	if tries < 8 || tries > 40 {
		t.Errorf("%d tries in a week", tries)
	}
	if n := w.log.count("cannot be refreshed"); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
	w.host.Serve("example.net", page("mx.example.net"))
	for range 30 { // Ten hours, two before the end.
		w.pass(20 * time.Minute)
		c.upkeep()
	}
	if n := w.log.count("level=INFO msg=\"MTA-STS policy fetched"); n != 1 {
		t.Errorf("%d lines tell that it works again", n)
	}
	if r := wantPolicy(t, c, "example.net", "mx.example.net"); r.Err != nil {
		t.Error(r.Err)
	}
}

// Not refreshed are policies of domains that no mail goes to, or that withdrew
// their record, and those that live too short.
func TestNotRefreshed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("unused.example", "1", mailtest.STSPage{Body: body(Enforce, maxAge, "mx.example.net")})
	w.publish("gone.example", "1", page("mx.example.net"))
	w.publish("none.example", "1", mailtest.STSPage{Body: body(None, week)})
	w.publish("short.example", "1", mailtest.STSPage{Body: body(Enforce, time.Hour, "mx.example.net")})
	c := w.cache()
	wantPolicy(t, c, "unused.example", "mx.example.net")
	w.pass(usedWithin)
	wantPolicy(t, c, "gone.example", "mx.example.net")
	wantPolicy(t, c, "short.example", "mx.example.net")
	wantNone(t, c, "none.example", "")
	w.wantFetches(4)
	w.dns.Remove("_mta-sts.gone.example")
	w.pass(40 * time.Minute)
	c.upkeep()
	w.pass(27 * time.Hour)
	c.upkeep()
	w.wantFetches(4)
	wantPolicy(t, c, "unused.example", "mx.example.net")
	wantPolicy(t, c, "gone.example", "mx.example.net")
	w.pass(week)
	wantNone(t, c, "gone.example", "")
}

func TestExpiredPoliciesAreRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	w.publish("example.net", "1", page("mx.example.net"))
	c := w.cache(in(dir))
	wantPolicy(t, c, "example.net", "mx.example.net")
	eventually(t, "it is on disk", func() bool { _, err := os.Stat(policyFile(dir, "example.net")); return err == nil })
	w.pass(8 * 24 * time.Hour)
	c.upkeep()
	if n := c.table.len(); n != 0 {
		t.Errorf("%d policies in memory", n)
	}
	c.Close()
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left on disk: %q", left)
	}
}

// Many are refreshed in one round, those whose host hangs beside the others.
func TestRefreshOfMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cache()
	const n = 40
	for i := range n {
		domain := fmt.Sprintf("d%d.example", i)
		w.publish(domain, "1", page("mx.example.net"))
		wantPolicy(t, c, domain, "mx.example.net")
	}
	hung := page("mx.example.net")
	hung.Hold = make(chan struct{})
	for i := range maxRefreshes - 1 {
		w.host.Serve(fmt.Sprintf("d%d.example", i), hung)
	}
	w.pass(27 * time.Hour)
	round := make(chan struct{})
	go func() { defer close(round); c.upkeep() }()
	eventually(t, "all are asked for", func() bool { return len(w.host.Requests()) == 2*n })
	c.Close()
	<-round
}

func TestTableIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	policy := &Policy{ID: "1", Mode: Enforce, MX: []string{"mx.example.net"}, Fetched: now, Expires: now.Add(week)}
	table := newTable(10, 5, 20*entryBytes)
	var gone []string
	for i := range 100 {
		gone = append(gone, table.put(fmt.Sprintf("d%d", i), entry{policy: policy})...)
		table.use("d0", now)
		table.fail(fmt.Sprintf("f%d", i), failure{err: &Error{}, at: now, id: "1"})
		table.change("d0", func(e *entry) { e.record = fmt.Sprint("record", i) })
	}
	if len(gone) != 90 || gone[0] != "d1" || table.len() != 10 || table.failures.Len() != 5 {
		t.Errorf("%d gone, first %s; %d and %d left", len(gone), gone[0], table.len(), table.failures.Len())
	}
	if table.look("d0").policy == nil {
		t.Error("what is in use went first")
	}
	large := *policy
	large.MX = make([]string, 15*entryBytes/16)
	if gone := table.put("large", entry{policy: &large}); len(gone) < 5 {
		t.Errorf("a large policy pushes out %d", len(gone))
	}
	if table.bytes > table.maxBytes {
		t.Errorf("%d bytes", table.bytes)
	}
	_, expired := table.due(now.Add(week), now)
	if table.len() != 0 || table.bytes != 0 || len(expired) == 0 {
		t.Errorf("%d left, %d bytes, %d expired", table.len(), table.bytes, len(expired))
	}
}
