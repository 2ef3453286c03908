package api

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A burst from many connections and over two listeners: each key gets exactly what
// it may have at once and in the time since, whoever else asks.
func TestPaceOfBursts(t *testing.T) {
	t.Parallel()
	const rate, clients, requests = 50, 16, 20
	w := newWorld(t, func(c *Config) { c.Rate = rate })
	second := httptest.NewServer(w.api)
	t.Cleanup(second.Close)
	var all sync.WaitGroup
	admitted := map[string]*atomic.Int64{fullKey: {}, domainKey: {}}
	began := time.Now()
	for key, n := range admitted {
		for i := range clients {
			all.Go(func() {
				for range requests {
					r, err := http.NewRequest("POST", []string{w.srv.URL, second.URL}[i%2]+messagesPath, nil)
					if err != nil {
						t.Error(err)
						return
					}
					r.SetBasicAuth("api", key)
					res, err := w.srv.Client().Do(r)
					if err != nil {
						t.Error(err)
						return
					}
					res.Body.Close()
					switch res.StatusCode {
					case 400: // admitted, and found empty
						n.Add(1)
					case 429:
						if wait, err := strconv.Atoi(res.Header.Get("Retry-After")); err != nil || wait < 1 {
							t.Errorf("Retry-After: %q", res.Header.Get("Retry-After"))
						}
					default:
						t.Errorf("got %d", res.StatusCode)
					}
				}
			})
		}
	}
	all.Wait()
	most := rate + int64(time.Since(began).Seconds()*rate) + 1
	for key, n := range admitted {
		if got := n.Load(); got < rate || got > min(most, clients*requests) {
			t.Errorf("%s: %d of %d requests were admitted, want %d to %d", key, got, clients*requests, rate, most)
		}
	}
}

// Questions of a reading key that wait for their turn are few, since each has a
// place.
func TestLineOfReadingKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := call{key: Key{ID: "reads", Domain: "example.com", Reads: true}, budget: w.api.budgets.of("reads")}
	r, read := httptest.NewRequest("GET", "/v3/example.com/events", nil), &route{access: readers}
	if !c.budget.turns.TryAcquire(ownTurns) {
		t.Fatal("there are no turns")
	}
	passed := make(chan error)
	for range ownLine {
		go func() {
			leave, err := c.turn(r, read)
			if err == nil {
				leave()
			}
			passed <- err
		}()
	}
	for deadline := time.Now().Add(hang); c.budget.line.TryAcquire(1); time.Sleep(time.Millisecond) { // until all wait
		c.budget.line.Release(1)
		if time.Now().After(deadline) {
			t.Fatal("they do not wait")
		}
	}
	var e *Error
	if _, err := c.turn(r, read); !errors.As(err, &e) || e.Status != 429 {
		t.Errorf("one too many: %v", err)
	}
	c.budget.turns.Release(ownTurns)
	for range ownLine {
		if err := <-passed; err != nil {
			t.Error(err)
		}
	}
}
