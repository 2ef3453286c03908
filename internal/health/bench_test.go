package health

import (
	"context"
	"strconv"
	"syscall"
	"testing"
)

// No t.Parallel: allocations of other tests would be counted.
func TestPlaceCostsOneAllocation(t *testing.T) {
	p := NewPlaces(PlacesConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := testing.AllocsPerRun(100, func() {
		place, err := p.Acquire(ctx, mx)
		if err != nil {
			t.Fatal(err)
		}
		place.Succeeded()
		place.Release()
	})
	if got > 1 {
		t.Errorf("%v allocations to acquire and release a place, want one", got)
	}
}

func BenchmarkPlaces(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	cycle := func(p *Places, name string) {
		place, err := p.Acquire(ctx, name)
		if err != nil {
			b.Fatal(err)
		}
		place.Release()
	}
	b.Run("one host", func(b *testing.B) {
		b.ReportAllocs()
		p := NewPlaces(PlacesConfig{})
		for b.Loop() {
			cycle(p, mx)
		}
	})
	b.Run("10000 hosts", func(b *testing.B) {
		b.ReportAllocs()
		p := NewPlaces(PlacesConfig{})
		names := make([]string, 10_000)
		for i := range names {
			names[i] = "mx" + strconv.Itoa(i) + ".example.org"
		}
		i := 0
		for b.Loop() {
			cycle(p, names[i%len(names)])
			i++
		}
	})
	b.Run("reduced", func(b *testing.B) {
		b.ReportAllocs()
		p := NewPlaces(PlacesConfig{})
		place, err := p.Acquire(ctx, mx)
		if err != nil {
			b.Fatal(err)
		}
		place.Overloaded()
		place.Release()
		for b.Loop() {
			cycle(p, mx)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		p := NewPlaces(PlacesConfig{PerHost: 1000})
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				cycle(p, mx)
			}
		})
	})
}

func BenchmarkBreakers(b *testing.B) {
	b.Run("well", func(b *testing.B) {
		b.ReportAllocs()
		breakers := NewBreakers(BreakersConfig{})
		for b.Loop() {
			dial, err := breakers.Allow(addr)
			if err != nil {
				b.Fatal(err)
			}
			dial.Succeeded()
			dial.End()
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		breakers := NewBreakers(BreakersConfig{Failures: 1})
		dial, err := breakers.Allow(addr)
		if err != nil {
			b.Fatal(err)
		}
		dial.Failed(syscall.ECONNREFUSED)
		for b.Loop() {
			if _, err := breakers.Allow(addr); err == nil {
				b.Fatal("not open")
			}
		}
	})
}
