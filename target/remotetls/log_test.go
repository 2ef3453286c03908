package remotetls

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/foxcpp/maddy/framework/log"
)

// What internal packages log is a line of maddy's log, one each.
func TestLog(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		say  func(*slog.Logger)
		want string
	}{
		{"a warning", func(l *slog.Logger) { l.Warn("no stamp", "msg_id", "7f3a") }, "remote_tls: no stamp\t{\"msg_id\":\"7f3a\"}"},
		{"an error", func(l *slog.Logger) { l.Error("no key", "error", errors.New("permission denied"), "msg_id", "7f3a") },
			"remote_tls: no key\t{\"msg_id\":\"7f3a\",\"reason\":\"permission denied\"}"},
		{"an error as text", func(l *slog.Logger) { l.Error("panic", "error", "index out of range") },
			"remote_tls: panic\t{\"reason\":\"index out of range\"}"},
		{"attributes of the logger", func(l *slog.Logger) { l.With("a", 1).With("b", 2).Info("both", "c", 3) },
			"remote_tls: both\t{\"a\":1,\"b\":2,\"c\":3}"},
		{"a group", func(l *slog.Logger) { l.WithGroup("g").Info("flat", "a", 1) }, "remote_tls: flat\t{\"a\":1}"},
		{"debug", func(l *slog.Logger) { l.Debug("details", "a", 1) }, ""},
		{"hostile text", func(l *slog.Logger) { l.Warn("reply", "text", "250 ok\r\nforged: line\x1b[2J") },
			`remote_tls: reply	{"text":"250 ok\r\nforged: line\u001b[2J"}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			book := &logBook{}
			test.say(slog.New(slogHandler{out: log.Logger{Out: book, Name: name}}))
			if got := book.text(); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestLogDebug(t *testing.T) {
	t.Parallel()
	book := &logBook{}
	l := slog.New(slogHandler{out: log.Logger{Out: book, Name: name, Debug: true}})
	l.Debug("details", "a", 1)
	if got := book.text(); !strings.HasPrefix(got, "[debug] remote_tls: details") {
		t.Errorf("got %q", got)
	}
	if !l.Enabled(context.Background(), slog.LevelDebug) {
		t.Error("debug is off")
	}
}

// Two loggers made of one do not write into each other's attributes.
func TestLogAttributesAreNotShared(t *testing.T) {
	t.Parallel()
	book := &logBook{}
	parent := slog.New(slogHandler{out: log.Logger{Out: book}}).With("a", 1, "b", 2, "c", 3)
	first, second := parent.With("who", "first"), parent.With("who", "second")
	first.Info("1", "x", 1)
	second.Info("2", "x", 2)
	got := strings.Split(book.text(), "\n")
	if !strings.Contains(got[0], `"who":"first"`) || !strings.Contains(got[1], `"who":"second"`) {
		t.Errorf("got %q", got)
	}
}
