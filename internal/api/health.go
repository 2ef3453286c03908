package api

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// readyPatience bounds the questions of /readyz together.
const readyPatience = 5 * time.Second

type healthAnswer struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks,omitempty"`
}

// alive says that the process answers.
func (a *API) alive(w http.ResponseWriter, r *http.Request, _ call) error {
	answer(w, r, http.StatusOK, healthAnswer{Status: "ok"})
	return nil
}

// readyFor is how long an answer of /readyz holds: anybody may ask, and the parts
// have other things to do.
const readyFor = time.Second

// lastReady is what the parts said last.
type lastReady struct {
	asking sync.Mutex // held by who asks them

	lock   sync.Mutex
	at     time.Time
	answer healthAnswer
}

// get returns the answer, empty if there is none yet, and whether it holds.
func (l *lastReady) get() (answer healthAnswer, holds bool) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.answer, !l.at.IsZero() && time.Since(l.at) < readyFor
}

func (l *lastReady) put(answer healthAnswer) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.at, l.answer = time.Now(), answer
}

// ready says whether the parts that the API needs work. Why one does not is for
// the operator's log.
func (a *API) ready(w http.ResponseWriter, r *http.Request, _ call) error {
	result := a.askParts()
	status := http.StatusOK
	if result.Status != "ok" {
		status = http.StatusServiceUnavailable
	}
	answer(w, r, status, result)
	return nil
}

// askParts asks them, unless they have been asked just now, or are being asked:
// whoever waited for one that hangs would have a place that mail needs.
func (a *API) askParts() healthAnswer {
	last, holds := a.health.get()
	switch {
	case holds:
		return last
	case last.Status == "": // there is nothing else to say
		a.health.asking.Lock()
	case !a.health.asking.TryLock():
		return last
	}
	defer a.health.asking.Unlock()
	if last, holds = a.health.get(); holds {
		return last
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyPatience)
	defer cancel()
	result := healthAnswer{Status: "ok", Checks: map[string]string{}}
	for name, check := range a.Ready {
		result.Checks[name] = "ok"
		if err := check(ctx); err != nil {
			result.Checks[name], result.Status = "failed", "failed"
			a.Log("not ready", "part", name, "reason", err.Error())
		}
	}
	a.health.put(result)
	return result
}
