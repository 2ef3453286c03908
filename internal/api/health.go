package api

import (
	"context"
	"net/http"
	"time"
)

// readyPatience bounds the questions of /readyz together.
const readyPatience = 5 * time.Second

type healthAnswer struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks,omitempty"`
}

// health says that the process answers.
func (a *API) health(w http.ResponseWriter, r *http.Request, _ call) error {
	answer(w, r, http.StatusOK, healthAnswer{Status: "ok"})
	return nil
}

// ready says whether the parts that the API needs work. Why one does not is for
// the operator's log: anybody may ask.
func (a *API) ready(w http.ResponseWriter, r *http.Request, _ call) error {
	ctx, cancel := context.WithTimeout(r.Context(), readyPatience)
	defer cancel()
	result, status := healthAnswer{Status: "ok", Checks: map[string]string{}}, http.StatusOK
	for name, check := range a.Ready {
		result.Checks[name] = "ok"
		if err := check(ctx); err != nil {
			result.Checks[name] = "failed"
			result.Status, status = "failed", http.StatusServiceUnavailable
			a.Log("not ready", "part", name, "reason", err.Error())
		}
	}
	answer(w, r, status, result)
	return nil
}
