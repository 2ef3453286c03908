// Package bell tells an operator of trouble at once, and then once in a while: what
// is full or away must not fill the operator's log as well.
package bell

import "time"

// Bell calls a function after it was rung: at once the first time, later not before
// the pause is over. The function has a goroutine of its own, because the
// operator's log may hang.
type Bell struct {
	answer func()
	pause  time.Duration
	atOnce int
	paid   time.Time // when all answers that were given have had their pauses
	wake   chan struct{}
	quit   chan struct{}
	ended  chan struct{}
}

// New makes a bell that answer answers; it must not panic. Close it.
func New(pause time.Duration, answer func()) *Bell { return NewPatient(pause, 1, answer) }

// NewPatient makes a bell that is answered at once so many times (atOnce), and then
// once in a pause; in each pause in which it is silent it gets one of those times
// back. It is for what is rare, unless something is very wrong.
func NewPatient(pause time.Duration, atOnce int, answer func()) *Bell {
	b := &Bell{
		answer: answer, pause: pause, atOnce: atOnce,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
	}
	go b.run()
	return b
}

// Ring returns at once. Rings before the next answer are one.
func (b *Bell) Ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *Bell) run() {
	defer close(b.ended)
	for {
		select {
		case <-b.wake:
		case <-b.quit:
			b.answer()
			return
		}
		timer := time.NewTimer(b.delay())
		select {
		case <-timer.C:
		case <-b.quit:
			timer.Stop()
			b.answer()
			return
		}
		select {
		case <-b.wake: // answered together with the one before
		default:
		}
		b.answer()
	}
}

// delay is how long the answer to a ring has to wait.
func (b *Bell) delay() time.Duration {
	now := time.Now()
	if b.paid.Before(now) {
		b.paid = now
	}
	b.paid = b.paid.Add(b.pause)
	return b.paid.Sub(now) - time.Duration(b.atOnce)*b.pause // not positive: none
}

// Close lets the function be called a last time, whether or not the bell was rung,
// and waits for that no longer than patience.
func (b *Bell) Close(patience time.Duration) {
	close(b.quit)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-b.ended:
	case <-timer.C:
	}
}
