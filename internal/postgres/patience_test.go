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
	const silence = 3 * time.Second // enough for all that is not to last
	db := sql.OpenDB(connector{pgtest.Shared(t).Database(t), silence, idle})
	t.Cleanup(func() { db.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	folder := fstest.MapFS{"00001_long.sql": {Data: []byte("-- +goose Up\nCREATE TABLE slow AS SELECT pg_sleep(5)::text;\n")}}
	if err := Migrate(ctx, db, folder, "versions"); err != nil {
		t.Error(err)
	}
	if _, err := db.ExecContext(context.Background(), "SELECT pg_sleep(5)"); err == nil {
		t.Error("silence was borne without a deadline")
	}
	// Patience does not outlast the statement.
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SELECT pg_sleep(5)"); err != nil {
		t.Error(err)
	}
	if _, err := conn.ExecContext(context.Background(), "SELECT pg_sleep(5)"); err == nil {
		t.Error("silence was borne without a deadline, after a statement with one")
	}
}

// A transaction whose client has vanished, which to the server is one that says
// nothing, keeps others from its rows for a while and not until the server misses it.
func TestVanishedClient(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	db := sql.OpenDB(connector{pgtest.Shared(t).Database(t), silence, 5 * time.Second})
	t.Cleanup(func() { db.Close() })
	if _, err := db.ExecContext(ctx, "CREATE TABLE rows (id int PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	vanished, err := db.BeginTx(t.Context(), nil) // which does not end before the other
	if err != nil {
		t.Fatal(err)
	}
	defer vanished.Rollback()
	const insert = "INSERT INTO rows VALUES (1) ON CONFLICT DO NOTHING"
	if _, err := vanished.ExecContext(ctx, insert); err != nil {
		t.Fatal(err)
	}
	res, err := db.ExecContext(ctx, insert)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.RowsAffected(); n != 1 || err != nil {
		t.Errorf("%d rows, %v", n, err)
	}
}
