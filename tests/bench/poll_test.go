package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// pollers is how many clients ask at a time.
const pollers = 200

// told is how many messages the events tell of.
const told = 5000

// question is what pollers ask.
type question struct {
	key  string // for -bench
	path string
	ui   bool // of the page for people, with a session
}

// BenchmarkPoll asks again and again, two hundred clients at a time, each over its
// own connection, while there are 5000 events.
func BenchmarkPoll(b *testing.B) {
	r, err := newRelay()
	if err != nil {
		b.Fatal(err)
	}
	defer r.close()
	if err := r.tell(told); err != nil {
		b.Fatal(err)
	}
	head, err := r.logIn()
	if err != nil {
		b.Fatal(err)
	}
	next, err := r.ask("/v3/example.com/events?ascending=yes&limit=300")
	if err != nil {
		b.Fatal(err)
	}
	for _, q := range []question{
		{key: "connection", path: "/v3/domains/example.com/connection"},
		{key: "events", path: "/v3/example.com/events"},
		{key: "events-limit-300", path: "/v3/example.com/events?limit=300"},
		{key: "events-next", path: next.Paging.Next[strings.Index(next.Paging.Next, "/v3/"):]},
		{key: "events-recipient", path: "/v3/example.com/events?recipient=one.bench&event=accepted&limit=10"},
		{key: "ui-file", path: "/ui/style.css", ui: true},
		{key: "ui-live", path: "/ui/data/events?limit=50", ui: true},
	} {
		b.Run(q.key, func(b *testing.B) {
			auth := "Authorization: Bearer " + r.key + "\r\n"
			if q.ui {
				auth = head
			}
			c := &pollerClient{r.http, []byte("GET " + q.path + " HTTP/1.1\r\nHost: relay.example.com\r\n" + auth + "\r\n")}
			if err := c.measure(b); err != nil {
				b.Fatal(err)
			}
		})
	}
	b.Run("login", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.logIn(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "logins/s")
	})
}

// pollerClient makes pollers.
type pollerClient struct {
	address string
	request []byte
}

func (c *pollerClient) worker() (worker, error) { return newPoster(c.address, c.request) }
func (c *pollerClient) close() error            { return nil }

func (c *pollerClient) measure(b *testing.B) error {
	workers, err := newCrew(c, pollers)
	if err != nil {
		return err
	}
	defer workers.hangUp()
	if _, err := workers.deliver(make([]destination, pollers)); err != nil {
		return err
	}
	idle := liveHeap()
	peak := watchHeap()
	watch, err := startWatch(b)
	if err != nil {
		return err
	}
	took, err := workers.deliver(make([]destination, b.N))
	if err != nil {
		return err
	}
	m, err := watch.stop(took)
	if err != nil {
		return err
	}
	m.report(b)
	b.ReportMetric((peak()-idle)/(1<<20), "MiB-heap-peak")
	return nil
}

// watchHeap begins to look at the heap now and then. What it returns tells the most
// that was in use.
func watchHeap() (peak func() float64) {
	var most atomic.Uint64
	quit, ended := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		for {
			select {
			case <-quit:
				return
			case <-time.After(20 * time.Millisecond):
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse))
		}
	}()
	return func() float64 {
		close(quit)
		<-ended
		return float64(most.Load())
	}
}

// answer is a page of events.
type answer struct {
	Items  []json.RawMessage
	Paging struct{ Next string }
}

// ask asks for a page of events.
func (r *relay) ask(path string) (a answer, err error) {
	q, err := http.NewRequest("GET", "http://"+r.http+path, nil)
	if err != nil {
		return a, err
	}
	q.SetBasicAuth("api", r.key)
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	return a, json.NewDecoder(res.Body).Decode(&a)
}

// tell sends so many messages, and waits until they can be asked for.
func (r *relay) tell(n int) error {
	d := &door{relay: r, name: overHTTP, letter: letters()[0]}
	workers, err := newCrew(d, 16)
	if err != nil {
		return err
	}
	defer workers.hangUp()
	if _, err := workers.deliver(make([]destination, n)); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		var found int
		page, err := r.ask("/v3/example.com/events?ascending=yes&limit=300")
		for ; err == nil && len(page.Items) > 0; page, err = r.ask(page.Paging.Next[strings.Index(page.Paging.Next, "/v3/"):]) {
			found += len(page.Items)
		}
		if err != nil || found >= n {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d events", found, n)
		}
	}
}

// logIn logs in to the page and returns the header fields of the session.
func (r *relay) logIn() (head string, err error) {
	c, err := net.Dial("tcp", r.http)
	if err != nil {
		return "", err
	}
	defer c.Close()
	body := url.Values{"key": {r.key}}.Encode()
	fmt.Fprintf(c, "POST /ui/data/login HTTP/1.1\r\nHost: relay.example.com\r\nX-CSRF-Token: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"Content-Length: %d\r\n\r\n%s", len(body), body)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s, %v", res.Status, bytes.TrimSpace(text), err)
	}
	cookie := res.Cookies()[0]
	return "Cookie: " + cookie.Name + "=" + cookie.Value + "\r\n", nil
}
