package events

import (
	"bytes"
	"context"
	"testing"
	"time"
)

// Who can wait for room does, and leaves half of the queue to those who cannot.
func TestQueueWithPatience(t *testing.T) {
	t.Parallel()
	document := bytes.Repeat([]byte("x"), 100)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	q := newQueue(1000)
	n := 0
	for q.size()+len(document) <= 500 {
		if !q.putPatiently(ctx, document) {
			t.Fatal("no room in an empty queue")
		}
		n++
	}
	// The half is full.
	gone, leave := context.WithCancel(ctx)
	leave()
	if q.putPatiently(gone, document) {
		t.Error("took what it had no room for")
	}
	put := make(chan bool, 2)
	for range 2 {
		go func() { put <- q.putPatiently(ctx, document) }()
	}
	q.untilWaiting(ctx, t)
	if !q.put(document) {
		t.Error("no room for somebody who cannot wait")
	}
	if len(put) > 0 {
		t.Fatal("did not wait")
	}
	if _, taken := q.take(nil); taken != n+1 {
		t.Errorf("%d documents, want %d", taken, n+1)
	}
	for range 2 {
		if !<-put {
			t.Error("not put when there was room")
		}
	}
	if _, taken := q.take(nil); taken != 2 {
		t.Errorf("%d documents, want 2", taken)
	}

	// The end of the store ends the waiting.
	for q.put(document) {
	}
	go func() { put <- q.putPatiently(ctx, document) }()
	q.untilWaiting(ctx, t)
	q.close()
	if <-put {
		t.Error("put into a closed queue")
	}
}

// untilWaiting returns when somebody waits for room.
func (q *queue) untilWaiting(ctx context.Context, t *testing.T) {
	t.Helper()
	for {
		q.mu.Lock()
		waiting := q.taken != nil
		q.mu.Unlock()
		if waiting {
			return
		}
		if ctx.Err() != nil {
			t.Fatal("nobody waits")
		}
		time.Sleep(time.Millisecond)
	}
}
