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
	lock   sync.Mutex
	at     time.Time
	answer healthAnswer
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

// askParts asks them, unless they have been asked just now.
func (a *API) askParts() healthAnswer {
	last := &a.health
	last.lock.Lock()
	defer last.lock.Unlock()
	if !last.at.IsZero() && time.Since(last.at) < readyFor {
		return last.answer
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
	last.at, last.answer = time.Now(), result
	return result
}
