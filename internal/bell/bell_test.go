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

// A patient bell is answered at once some times, and then as any other; after silence
// it is patient again.
func TestPatientBell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answered []time.Duration
		begin := time.Now()
		b := NewPatient(10*time.Second, 2, func() { answered = append(answered, time.Since(begin)) })
		ring := func(after time.Duration, times int) {
			for range times {
				time.Sleep(after)
				b.Ring()
				synctest.Wait()
			}
		}
		ring(time.Second, 5)
		time.Sleep(time.Minute)
		ring(time.Second, 2)
		b.Close(time.Second)
		want := []time.Duration{1, 2, 11, 66, 67, 67}
		if len(answered) != len(want) {
			t.Fatalf("answered at %v", answered)
		}
		for i := range want {
			if answered[i] != want[i]*time.Second {
				t.Errorf("answered at %v, want %v, in seconds", answered, want)
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
