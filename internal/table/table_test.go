package table

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// memory is a table that can be written. Every hook may be nil.
type memory struct {
	lock  sync.Mutex
	rows  map[string]string
	fail  func() error // asked before each write, and for the keys
	lose  bool         // writes change nothing
	panic bool
}

func (m *memory) Lookup(_ context.Context, key string) (string, bool, error) {
	if m.panic {
		panic("index \x00 out of range")
	}
	m.lock.Lock()
	defer m.lock.Unlock()
	v, ok := m.rows[key]
	return v, ok, nil
}

func (m *memory) Keys() ([]string, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	var keys []string
	for key := range m.rows {
		keys = append(keys, key)
	}
	return keys, m.failure()
}

func (m *memory) SetKey(key, value string) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	if err := m.failure(); err != nil || m.lose {
		return err
	}
	m.rows[key] = value
	return nil
}

func (m *memory) RemoveKey(key string) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	if err := m.failure(); err != nil || m.lose {
		return err
	}
	delete(m.rows, key)
	return nil
}

func (m *memory) failure() error {
	if m.fail == nil {
		return nil
	}
	return m.fail()
}

// failing is a table whose questions fail, too.
type failing struct {
	*memory
	err func() error
}

func (f *failing) Lookup(ctx context.Context, key string) (string, bool, error) {
	if err := f.err(); err != nil {
		return "", false, err
	}
	return f.memory.Lookup(ctx, key)
}

// only hides what a table could do besides being asked.
type only struct{ Table }

func TestWriteAndReadBack(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	g := New(&memory{rows: map[string]string{"b": "2"}})
	if err := g.Set(ctx, "a", "1"); err != nil {
		t.Fatal(err)
	}
	if v, found, err := g.Lookup(ctx, "a"); v != "1" || !found || err != nil {
		t.Errorf("got %q, %v, %v", v, found, err)
	}
	if keys, err := g.Keys(ctx); strings.Join(keys, " ") != "a b" || err != nil {
		t.Errorf("got %q, %v", keys, err)
	}
	for range 2 { // also if it is not there
		if err := g.Remove(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, found, err := g.Lookup(ctx, "a"); found || err != nil {
		t.Errorf("got %v, %v", found, err)
	}
}

// A table that says "done" and did nothing is found out.
func TestNotKept(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	g := New(&memory{rows: map[string]string{"a": "1"}, lose: true})
	if err := g.Set(ctx, "a", "2"); !errors.Is(err, ErrNotKept) {
		t.Errorf("set: %v", err)
	}
	if err := g.Set(ctx, "b", "2"); !errors.Is(err, ErrNotKept) {
		t.Errorf("set anew: %v", err)
	}
	if err := g.Remove(ctx, "a"); !errors.Is(err, ErrNotKept) {
		t.Errorf("remove: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, table := range map[string]Table{
		"by its kind":       only{&memory{}},
		"for want of query": &memory{fail: func() error { return errors.New("table.sql_query: table is not mutable (no 'set' query)") }},
	} {
		g := New(table)
		_, keys := g.Keys(ctx)
		for _, err := range []error{keys, g.Set(ctx, "a", "1"), g.Remove(ctx, "a")} {
			if !errors.Is(err, ErrReadOnly) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// denied is a table that may not be read.
type denied struct{ text string }

func (d denied) Lookup(context.Context, string) (string, bool, error) {
	return "", false, errors.New(d.text)
}

// What will not pass by itself is told apart from a table that is away.
func TestNotWritable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"sql_query: add: attempt to write a readonly database": true,
		"attempt to write a readonly database (1544)":          true,
		"pq: permission denied for table domains":              true,
		"pq: cannot execute INSERT in a read-only transaction": false,
		"dial tcp 192.0.2.1:5432: connect: connection refused": false,
	} {
		g := New(&memory{rows: map[string]string{}, fail: func() error { return errors.New(text) }})
		for _, err := range []error{g.Set(context.Background(), "a", "1"), g.Remove(context.Background(), "a")} {
			if errors.Is(err, ErrNotWritable) != want || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: got %v", text, err)
			}
		}
		_, _, read := New(denied{text}).Lookup(context.Background(), "a")
		_, listed := g.Keys(context.Background())
		for _, err := range []error{read, listed} {
			if errors.Is(err, ErrNotWritable) || err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: nobody wanted to write: %v", text, err)
			}
		}
	}
}

// A database that another process holds is asked again, as long as the context
// lasts.
func TestLockedDatabase(t *testing.T) {
	t.Parallel()
	tries := 0
	m := &memory{rows: map[string]string{}, fail: func() error {
		if tries++; tries < 4 {
			return errors.New("add: database is locked (5) (SQLITE_BUSY)")
		}
		return nil
	}}
	if err := New(m).Set(context.Background(), "a", "1"); err != nil || m.rows["a"] != "1" || tries != 4 {
		t.Errorf("%v after %d tries, rows %v", err, tries, m.rows)
	}

	// Questions too.
	tries = 0
	asked := &failing{memory: m, err: func() error { return m.fail() }}
	if v, found, err := New(asked).Lookup(context.Background(), "a"); v != "1" || !found || err != nil || tries != 4 {
		t.Errorf("%q, %v, %v after %d tries", v, found, err, tries)
	}

	ctx, cancel := context.WithCancel(context.Background())
	m.fail = func() error { cancel(); return errors.New("database is locked") }
	if err := New(m).Set(ctx, "a", "2"); err == nil {
		t.Error("no error from a database that stays locked")
	}
}

// What a table says does nothing to a terminal, nor fill a log; a panic is an
// error.
func TestForeignErrors(t *testing.T) {
	t.Parallel()
	down := errors.New("down \x1b[31m\r\n" + strings.Repeat("!", 1000))
	m := &memory{rows: map[string]string{}, fail: func() error { return down }}
	err := New(m).Set(context.Background(), "a", "1")
	if !errors.Is(err, down) || !strings.HasPrefix(err.Error(), `down \x1b[31m\r\n!`) || len(err.Error()) > 600 {
		t.Errorf("got %v", err)
	}
	_, _, err = New(&memory{panic: true}).Lookup(context.Background(), "a")
	if err == nil || err.Error() != `panic: index \x00 out of range` {
		t.Errorf("got %v", err)
	}
}

// values is a table with several values for a key, which answers one question
// with one query.
type values struct {
	Table
	of map[string][]string
}

func (v values) LookupMulti(_ context.Context, key string) ([]string, error) { return v.of[key], nil }

func TestSeveralValues(t *testing.T) {
	t.Parallel()
	g := New(values{of: map[string][]string{"one": {"1"}, "two": {"1", "2"}}})
	for key, want := range map[string]string{"one": "1 true", "none": " false"} {
		if v, found, err := g.Lookup(context.Background(), key); fmt.Sprint(v, " ", found) != want || err != nil {
			t.Errorf("%s: %q, %v, %v", key, v, found, err)
		}
	}
	var several *ValuesError
	if _, found, err := g.Lookup(context.Background(), "two"); !errors.As(err, &several) || several.Values != 2 || found {
		t.Errorf("got %v, %v", found, err)
	}
}

// A table that hangs holds nobody longer than the context lasts, nor does it
// collect goroutines without end.
func TestHanging(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	defer close(hang)
	m := &memory{fail: func() error { <-hang; return nil }}
	g := New(m)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 2 * maxPending {
		if _, err := g.Keys(ctx); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if n := len(g.pending); n > maxPending {
		t.Errorf("%d questions are pending", n)
	}
}
