package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const mx = "mx.example.org"

// acquired are n places that must be free.
func acquired(t *testing.T, p *Places, name string, n int) []*Place {
	t.Helper()
	var places []*Place
	for i := range n {
		place, _, turn, err := p.enter(name)
		if err != nil || turn != nil {
			t.Fatalf("place %d of %d: not free (error: %v)", i+1, n, err)
		}
		places = append(places, place)
	}
	return places
}

// full says that a host has no place free.
func full(t *testing.T, p *Places, name string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	place, h, turn, err := p.enter(name)
	if turn == nil {
		t.Fatalf("a place is free (%v) or refused (%v), want none free", place != nil, err)
	}
	cancel()
	if _, err := p.leave(ctx, h, turn); !errors.Is(err, context.Canceled) {
		t.Fatalf("leaving the queue: %v", err)
	}
}

// forgotten says that nothing is known of any host.
func forgotten(t *testing.T, p *Places) {
	t.Helper()
	if len(p.hosts) != 0 || p.reduced.Len() != 0 {
		t.Errorf("%d hosts and %d reduced limits remembered, want none", len(p.hosts), p.reduced.Len())
	}
}

func release(places ...*Place) {
	for _, place := range places {
		place.Release()
	}
}

func TestPlacesAreServedInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPlaces(PlacesConfig{PerHost: 2})
		held := acquired(t, p, mx, 2)
		release(acquired(t, p, "elsewhere.example", 2)...)
		served := make(chan int, 10)
		for i := range 10 {
			go func() {
				place, err := p.Acquire(t.Context(), mx)
				if err != nil {
					t.Errorf("waiter %d: %v", i, err)
					return
				}
				defer place.Release()
				served <- i
			}()
			synctest.Wait()
		}
		held[0].Release()
		synctest.Wait()
		for i := range 10 {
			if got := <-served; got != i {
				t.Fatalf("waiter %d was served as number %d", got, i)
			}
		}
		held[1].Release()
		forgotten(t, p)
	})
}

func TestPlacesWaitIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPlaces(PlacesConfig{PerHost: 1, MaxWaiters: 2})
		held := acquired(t, p, mx, 1)
		results := make(chan error, 2)
		begun := time.Now()
		for range 2 {
			go func() {
				_, err := p.Acquire(t.Context(), mx)
				results <- err
			}()
		}
		synctest.Wait()
		_, err := p.Acquire(t.Context(), mx)
		var busy *BusyError
		if !errors.As(err, &busy) || *busy != (BusyError{Host: mx, Limit: 1, Waiting: 2}) {
			t.Errorf("third in the queue: %#v", err)
		}
		for range 2 {
			if err := <-results; !errors.As(err, &busy) || busy.Waited != 30*time.Second || busy.Limit != 1 {
				t.Errorf("after the wait: %#v", err)
			}
		}
		if got := time.Since(begun); got != 30*time.Second {
			t.Errorf("waited %v, want 30s", got)
		}
		release(held...)
		forgotten(t, p)
	})
}

func TestPlacesCancelledWaiterTakesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPlaces(PlacesConfig{PerHost: 1})
		held := acquired(t, p, mx, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Acquire(ctx, mx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Acquire: %v, want that the deadline is exceeded", err)
		}
		if _, err := p.Acquire(ctx, "elsewhere.example"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Acquire after the deadline: %v", err)
		}
		release(held...)
		forgotten(t, p)
	})
}

// The place and the end of the context come together: the place must go on.
func TestPlacesGivenToOneWhoLeaves(t *testing.T) {
	t.Parallel()
	p := NewPlaces(PlacesConfig{PerHost: 1})
	held := acquired(t, p, mx, 1)
	_, h, leaves, _ := p.enter(mx)
	_, _, late, _ := p.enter(mx)
	_, _, next, _ := p.enter(mx)
	release(held...)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if place, err := p.leave(ctx, h, leaves); place != nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("whose context ended: %v, %v", place, err)
	}
	place, err := p.leave(t.Context(), h, late)
	if err != nil {
		t.Fatalf("whose time was over when the place came: %v", err)
	}
	place.Release()
	<-next.Value.(*waiter).given
	next.Value.(*waiter).place.Release()
	forgotten(t, p)
}

func TestPlaceReleaseTwiceAndInPanic(t *testing.T) {
	t.Parallel()
	p := NewPlaces(PlacesConfig{PerHost: 2})
	held := acquired(t, p, mx, 1)
	func() {
		defer func() { _ = recover() }()
		place := acquired(t, p, mx, 1)[0]
		defer place.Release()
		place.Release()
		panic("in the delivery")
	}()
	more := acquired(t, p, mx, 1)
	full(t, p, mx)
	release(held...)
	release(held...)
	release(more...)
	if limit, changed := held[0].Overloaded(); limit != 0 || changed {
		t.Errorf("Overloaded after Release: %d, %v", limit, changed)
	}
	held[0].Succeeded()
	forgotten(t, p)
}

// Many goroutines, with cancellation, complaints and time passing. A lost
// wake-up makes somebody wait until the (false) time is over.
func TestPlacesUnderManyGoroutines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const perHost = 4
		p := NewPlaces(PlacesConfig{PerHost: perHost, MaxWait: 1000 * time.Hour, Quiet: time.Second})
		var busy [3]atomic.Int64
		var gaveUp atomic.Int64
		var all sync.WaitGroup
		for g := range 100 {
			rnd := rand.New(rand.NewPCG(2, uint64(g)))
			all.Go(func() {
				for range 100 {
					n := rnd.IntN(len(busy))
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rnd.IntN(200))*time.Millisecond)
					place, err := p.Acquire(ctx, fmt.Sprint(n))
					if err != nil {
						if !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("Acquire: %v", err)
						}
						gaveUp.Add(1)
						cancel()
						continue
					}
					if now := busy[n].Add(1); now < 1 || now > perHost {
						t.Errorf("%d busy places, allowed are %d", now, perHost)
					}
					switch rnd.IntN(20) {
					case 0:
						place.Overloaded()
					case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10:
						place.Succeeded()
					}
					// In false time: lets contexts end while others wait.
					time.Sleep(time.Duration(rnd.IntN(10)) * time.Millisecond)
					busy[n].Add(-1)
					place.Release()
					cancel()
				}
			})
		}
		all.Wait()
		if served := 100*100 - gaveUp.Load(); served < 100 || gaveUp.Load() < 100 {
			t.Errorf("%d served, %d gave up: the test tests too little", served, gaveUp.Load())
		}
		time.Sleep(perHost * time.Second)
		for n := range busy {
			release(acquired(t, p, fmt.Sprint(n), perHost)...)
		}
		forgotten(t, p)
	})
}

func TestPlacesRememberAFewHosts(t *testing.T) {
	t.Parallel()
	c := newClock()
	p := NewPlaces(PlacesConfig{Clock: c.Now})
	visit := func(name string) {
		place := acquired(t, p, name, 1)[0]
		defer place.Release()
		place.Overloaded()
	}
	for i := range maxReduced + 10 {
		visit(fmt.Sprint(i))
	}
	if n := p.reduced.Len(); n != maxReduced {
		t.Errorf("%d reduced limits remembered, want %d", n, maxReduced)
	}
	release(acquired(t, p, "0", 20)...) // forgotten, and so whole again
	c.pass(19 * time.Minute)
	visit("one more")
	if names := p.reduced.Keys(); !slices.Equal(names, []string{"one more"}) {
		t.Errorf("%d reduced limits remembered after a quiet time, want one", len(names))
	}
	var held []*Place
	for i := range 2 * maxSpare {
		held = append(held, acquired(t, p, fmt.Sprint("busy ", i), 1)...)
	}
	release(held...)
	if len(p.spare) != maxSpare || len(p.hosts) != 0 {
		t.Errorf("%d hosts kept for reuse, want %d; %d not forgotten", len(p.spare), maxSpare, len(p.hosts))
	}
}
