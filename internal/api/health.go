package api

import (
	"context"
	"errors"
	"fmt"
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
	silent sync.Map   // by name, the parts that have been asked and have not answered

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
	result := a.askAll()
	a.health.put(result)
	return result
}

// errSilent is what is wrong with a part that heeds no context. It is not asked again
// before it has answered.
var errSilent = errors.New("it does not answer")

// askAll asks all parts at the same time: one that hangs must not use up the time of
// the others, and have them called failed, too.
func (a *API) askAll() healthAnswer {
	ctx, cancel := context.WithTimeout(context.Background(), readyPatience)
	defer cancel()
	type said struct {
		part string
		err  error
	}
	all := make(chan said, len(a.Ready))
	for part, check := range a.Ready {
		if _, silent := a.health.silent.LoadOrStore(part, true); silent {
			all <- said{part, errSilent}
			continue
		}
		go func() {
			err := asked(ctx, check)
			a.health.silent.Delete(part)
			all <- said{part, err}
		}()
	}
	result := healthAnswer{Status: "ok", Checks: map[string]string{}}
	failed := func(part string, err error) {
		result.Checks[part], result.Status = "failed", "failed"
		a.Log("not ready", "part", part, "reason", err.Error())
	}
	for range a.Ready {
		select {
		case s := <-all:
			result.Checks[s.part] = "ok"
			if s.err != nil {
				failed(s.part, s.err)
			}
		case <-ctx.Done():
			for part := range a.Ready {
				if result.Checks[part] == "" {
					failed(part, errSilent)
				}
			}
			return result
		}
	}
	return result
}

// asked is what a part says. One that panics does not work either.
func asked(ctx context.Context, check func(context.Context) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return check(ctx)
}
