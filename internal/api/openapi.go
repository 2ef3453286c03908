package api

import (
	_ "embed"
	"net/http"
)

// openAPIDocument describes all routes (OpenAPI 3.1). A test holds it against
// the handlers.
//
//go:embed openapi.json
var openAPIDocument []byte

func (a *API) openAPI(w http.ResponseWriter, _ *http.Request, _ call) error {
	return a.visit(w, func() error {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openAPIDocument) // the client is gone
		return nil
	})
}
