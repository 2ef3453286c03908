package mtasts

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

// Everything at once: whatever the interleaving, a domain whose policy was ever
// fetched has one, and Close ends it all.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cache(in(t.TempDir()))
	const domains = 8
	name := func(i int) string { return fmt.Sprintf("d%d.example", i) }
	for i := range domains {
		w.publish(name(i), "1", page("mx.example.net"))
		wantPolicy(t, c, name(i), "mx.example.net")
	}
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for range 60 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(20))*time.Millisecond)
				if r := c.Lookup(ctx, name(rand.IntN(domains))); r.Policy == nil {
					t.Errorf("no policy: %v", r.Err)
				}
				cancel()
			}
		})
	}
	all.Go(func() {
		for i := range 40 {
			d := name(rand.IntN(domains))
			switch i % 4 {
			case 0:
				w.publish(d, fmt.Sprint(i), page("mx.example.net"))
			case 1:
				w.dns.Remove("_mta-sts." + d)
			case 2:
				w.host.Serve(d, mailtest.STSPage{Status: 500})
			case 3:
				w.host.Serve(d, page("mx.example.net"))
			}
			// Within an hour, so that nobody who took the time just before finds a policy
			// from the future.
			w.pass(50 * time.Minute)
		}
	})
	all.Go(func() {
		for range 20 {
			c.upkeep()
		}
	})
	all.Wait()
	all.Go(c.Close)
	lookup(t, c, name(0))
	all.Wait()
}
