package tlsrpt

import (
	"context"
	"sync"
	"time"
)

// stopGrace is how long stop lets a round come to its end.
const stopGrace = 5 * time.Second

// loop is a goroutine that does something again and again.
type loop struct {
	mu      sync.Mutex
	running *running // nil before start and after stop
}

type running struct {
	quit   chan struct{} // closed when no further round is wanted
	ended  chan struct{} // closed when the last one is over
	cancel context.CancelFunc
}

// start begins, with the first round after a while. do gets a context that ends when
// it has to, and a channel that is closed when it should.
func (l *loop) start(first, every time.Duration, do func(ctx context.Context, quit <-chan struct{})) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{quit: make(chan struct{}), ended: make(chan struct{}), cancel: cancel}
	l.running = r
	go func() {
		defer close(r.ended)
		timer := time.NewTimer(first)
		defer timer.Stop()
		for {
			select {
			case <-timer.C:
			case <-r.quit:
				return
			}
			do(ctx, r.quit)
			timer.Reset(every)
		}
	}()
}

// stop returns when the goroutine has ended.
func (l *loop) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running == nil {
		return
	}
	close(l.running.quit)
	grace := time.AfterFunc(stopGrace, l.running.cancel)
	<-l.running.ended
	grace.Stop()
	l.running.cancel()
	l.running = nil
}

// over reports whether quit is closed.
func over(quit <-chan struct{}) bool {
	select {
	case <-quit:
		return true
	default:
		return false
	}
}
