package route

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// BenchmarkRemembered is what a delivery on a warm session pays: the route of the
// domain and the addresses of its host, all answered from memory.
func BenchmarkRemembered(b *testing.B) {
	d := newDNS(b)
	d.MX("example.net", 10, "mx1.example.net")
	d.MX("example.net", 10, "mx2.example.net")
	d.A("mx1.example.net", "192.0.2.1", "2001:db8::1")
	r := newResolver(b, d.Addr())
	walk := func() {
		if _, err := r.Route(b.Context(), "example.net"); err != nil {
			b.Fatal(err)
		}
		if _, err := r.Addresses(b.Context(), "mx1.example.net", false); err != nil {
			b.Fatal(err)
		}
	}
	walk()
	asked := len(d.Queries())
	b.ReportAllocs()
	for b.Loop() {
		walk()
	}
	if n := len(d.Queries()) - asked; n > 0 {
		b.Errorf("%d questions were asked", n)
	}
}

// BenchmarkMemory tells what a domain with a host of its own costs while it is
// remembered, and what is left of it afterwards.
func BenchmarkMemory(b *testing.B) {
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	const domains = 10_000
	for b.Loop() {
		before := heap()
		c := newCache(maxEntries, maxBytes)
		for i := range domains {
			domain := fmt.Sprintf("domain%d.example", i)
			host := "mx." + domain
			c.put(question{domain, dns.TypeMX}, entry{
				expires: time.Hour,
				finding: finding{name: domain, exists: true, hosts: []Host{{Name: host, Preference: 10}}},
			})
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
				f := finding{name: host, exists: true}
				f.read([]dns.RR{&dns.A{A: []byte{192, 0, 2, 1}}}, qtype)
				c.put(question{host, qtype}, entry{expires: time.Hour, finding: f})
			}
		}
		b.ReportMetric((heap()-before)/domains, "B/domain")
		b.ReportMetric(float64(c.bytes)/domains, "counted-B/domain")
		c.sweep(time.Hour)
		b.ReportMetric((heap()-before)/domains, "B/domain-expired")
		runtime.KeepAlive(c)
	}
}
