package postgres

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"tlscontrol/internal/pgtest"
)

// hang ends a test that would hang; it is shorter than silence.
const hang = 40 * time.Second

// A context ends a wait for a server that accepts connections and is silent, at
// every step.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	exec := func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "SELECT 1")
		return err
	}
	for name, x := range map[string]struct {
		welcome bool
		do      func(context.Context, *sql.DB) error
		option  string
	}{
		"connect":            {false, exec, ""},
		"connect, with time": {false, exec, " connect_timeout=100"},
		"connect, with TLS":  {false, exec, " sslmode=require"},
		"statement":          {true, exec, ""},
		"statement, timeout": {true, exec, " connect_timeout=100"},
		"ping":               {true, func(ctx context.Context, db *sql.DB) error { return db.PingContext(ctx) }, ""},
		"query": {true, func(ctx context.Context, db *sql.DB) error {
			var n int
			return db.QueryRowContext(ctx, "SELECT $1", 1).Scan(&n)
		}, ""},
		"transaction": {true, func(ctx context.Context, db *sql.DB) error {
			_, err := db.BeginTx(ctx, nil)
			return err
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := Connector(pgtest.Silent(t, x.welcome) + x.option)
			if err != nil {
				t.Fatal(err)
			}
			db := sql.OpenDB(c)
			ended := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
				defer cancel()
				ended <- errors.Join(x.do(ctx, db), db.Close())
			}()
			select {
			case err := <-ended:
				if err == nil {
					t.Error("a silent server has answered")
				}
			case <-time.After(hang):
				t.Fatal("the context has ended, and the wait goes on")
			}
		})
	}
}

// No error about a connection string tells what is in it.
func TestCheckDSNIsDiscreet(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"host=db password=correct secret",
		"host=db password='secret",
		`host=db password=secret\`,
		"user:secret@db/maddy",
		"postgres://user:sec%ret@db/maddy?secret",
		"postgres://user:secret@db:port/maddy",
		"postgres://user:secret word@db/maddy",
		"host=db password=secret client_encoding=latin1",
		"host=db password=secret datestyle=german",
		"host=db password=secret passfile=/x",
	} {
		err := CheckDSN(dsn)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", dsn, err)
		}
		if _, again := Connector(dsn); again == nil || again.Error() != err.Error() {
			t.Errorf("%s: Connector says %v", dsn, again)
		}
	}
}
