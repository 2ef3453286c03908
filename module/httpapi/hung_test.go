package httpapi

import (
	"context"
	"database/sql"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/foxcpp/maddy/framework/log"
	_ "github.com/lib/pq" // the driver of sql_table

	"tlscontrol/internal/api"
	"tlscontrol/internal/apikey"
	"tlscontrol/internal/pgtest"
)

// mute is a table in a database that accepts connections and says nothing.
type mute struct{ db *sql.DB }

func newMute(t *testing.T) mute {
	t.Helper()
	db, err := sql.Open("postgres", pgtest.Silent(t, false))
	if err != nil {
		t.Fatal(err)
	}
	return mute{db}
}

func (m mute) Lookup(ctx context.Context, key string) (value string, found bool, err error) {
	err = m.db.QueryRowContext(ctx, "SELECT value FROM keys WHERE key = $1", key).Scan(&value)
	return value, err == nil, err
}

// A request is answered when the time for its key is over, also where the driver does
// not heed that.
func TestKeysInADatabaseThatHangs(t *testing.T) {
	t.Parallel()
	secret, _, err := apikey.New(&rows{all: map[string]string{}}).Create(t.Context(), "", apikey.Full, "")
	if err != nil {
		t.Fatal(err)
	}
	k := newKeys(newMute(t))
	k.patience = 50 * time.Millisecond
	logger := &log.Logger{Out: log.NopOutput{}}
	a, err := api.New(api.Config{Keys: k, Mail: &mail{target: &pipeline{}, log: logger}, Domains: domains{&settled{}, logger}, Rate: 1e6})
	if err != nil {
		t.Fatal(err)
	}
	got := httptest.NewRecorder()
	answered := make(chan bool)
	go func() {
		defer close(answered)
		r := httptest.NewRequest(http.MethodGet, "/v4/domains", nil)
		r.SetBasicAuth("api", secret)
		a.ServeHTTP(got, r)
	}()
	select {
	case <-answered:
	case <-time.After(hang * 2 / 3): // before the table's guard ends the wait
		t.Fatal("the request still waits for its key")
	}
	if got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") == "" {
		t.Errorf("%d, %v", got.Code, got.Header())
	}
}
