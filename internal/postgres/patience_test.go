package postgres

import (
	"context"
	"database/sql"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"tlscontrol/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// A server that works on a statement for long, as on an index of many rows, is not
// taken for one that has gone, as long as whoever asks has the time.
func TestLongStatement(t *testing.T) {
	t.Parallel()
	const silence = 300 * time.Millisecond
	db := sql.OpenDB(connector{pgtest.Shared(t).Database(t), silence})
	t.Cleanup(func() { db.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	folder := fstest.MapFS{"00001_long.sql": {Data: []byte("-- +goose Up\nCREATE TABLE slow AS SELECT pg_sleep(1)::text;\n")}}
	if err := Migrate(ctx, db, folder, "versions"); err != nil {
		t.Error(err)
	}
	if _, err := db.ExecContext(context.Background(), "SELECT pg_sleep(1)"); err == nil {
		t.Error("silence was borne without a deadline")
	}
	// Patience does not outlast the statement.
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SELECT pg_sleep(1)"); err != nil {
		t.Error(err)
	}
	if _, err := conn.ExecContext(context.Background(), "SELECT pg_sleep(1)"); err == nil {
		t.Error("silence was borne without a deadline, after a statement with one")
	}
}
