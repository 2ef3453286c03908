package api

import (
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
					res, err := http.DefaultClient.Do(r)
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
