package events

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSQLiteDamaged: a file whose pages are damaged is called so, whatever the error
// was, with what to do about it; where nothing has been asked yet, too.
func TestSQLiteDamaged(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{"the versions": "goose_db_version", "the events": "events", "the header": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "events.db")
			w := start(t, Config{Driver: SQLite, DSN: file})
			w.put(t, fact{n: 1})
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			spoil(t, file, table)
			w = start(t, w.cfg)
			w.Add(event(t, fact{n: 2}.document()))
			w.count.await(t, "a report", func() bool {
				return w.log.has("events wait in the journal: the file is damaged: stop maddy, move " + file + " away")
			})
			if table == "events" {
				return // the schema is what it must be, and writing found it out
			}
			if err := w.Ready(context.Background()); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "the file is damaged: stop maddy") {
				t.Errorf("ready: %v", err)
			}
		})
	}
}

// spoil overwrites the page where a table begins, or the first one.
func spoil(t *testing.T, file, table string) {
	t.Helper()
	page, size := int64(1), int64(0)
	db := sql.OpenDB(&sqliteConnector{file, nil})
	defer db.Close()
	if err := db.QueryRow("PRAGMA page_size").Scan(&size); err != nil {
		t.Fatal(err)
	}
	if table != "" {
		if err := db.QueryRow("SELECT rootpage FROM sqlite_master WHERE name = ?", table).Scan(&page); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(size)), (page-1)*size); err != nil {
		t.Fatal(err)
	}
}

// TestNeitherJournalNorDatabase: what waits in memory is not said to be in the journal,
// and why there is no database is known at once.
func TestNeitherJournalNorDatabase(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := start(t, Config{Driver: SQLite, DSN: filepath.Join(file, "events.db"), Journal: journalConfig(filepath.Join(file, "journal"))})
	w.Add(event(t, fact{n: 1}.document()))
	w.count.await(t, "memory", func() bool { return w.count.backlog > 0 && w.queue.size() == 0 })
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !w.log.has("the journal cannot be used, events wait in memory, 32 MiB of them (some 25000), and are lost when maddy ends before: unable to open database file") {
		t.Errorf("%q", w.log.all)
	}
	if err := w.Ready(context.Background()); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "unable to open database file") {
		t.Errorf("ready: %v", err)
	}
}
