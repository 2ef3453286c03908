package bell

import (
	"testing"
	"testing/synctest"
	"time"
)

// The first ring is answered at once, those of the pause together after it, and
// Close once more.
func TestBell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answered []time.Duration
		begin := time.Now()
		b := New(time.Minute, func() { answered = append(answered, time.Since(begin)) })
		time.Sleep(time.Second)
		b.Ring()
		synctest.Wait()
		for range 3 {
			time.Sleep(time.Second)
			b.Ring()
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		b.Close(time.Second)
		want := []time.Duration{time.Second, time.Second + time.Minute, 2*time.Minute + 4*time.Second}
		if len(answered) != len(want) {
			t.Fatalf("answered at %v", answered)
		}
		for i := range want {
			if answered[i] != want[i] {
				t.Errorf("answered at %v, want %v", answered, want)
			}
		}
	})
}

// Close does not wait for ever for an answer that hangs.
func TestCloseIsPatientForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		b := New(time.Minute, func() { <-hang })
		b.Ring()
		synctest.Wait()
		b.Close(time.Second)
		close(hang)
		<-b.ended
	})
}
