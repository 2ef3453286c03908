package remotetls

import (
	"context"
	"errors"
	"log/slog"

	"github.com/foxcpp/maddy/framework/log"
)

// slogHandler lets internal packages, which log through log/slog, write into
// maddy's log.
type slogHandler struct {
	out    log.Logger
	fields []interface{}
}

// Enabled implements slog.Handler.
func (h slogHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level > slog.LevelDebug || h.out.Debug
}

// Handle implements slog.Handler.
func (h slogHandler) Handle(_ context.Context, r slog.Record) error {
	fields := h.fields[:len(h.fields):len(h.fields)]
	var cause error
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			var ok bool
			if cause, ok = a.Value.Any().(error); !ok {
				cause = errors.New(a.Value.String())
			}
			return true
		}
		fields = append(fields, a.Key, a.Value.Any())
		return true
	})
	switch {
	case cause != nil:
		h.out.Error(r.Message, cause, fields...)
	case r.Level <= slog.LevelDebug:
		h.out.DebugMsg(r.Message, fields...)
	default:
		h.out.Msg(r.Message, fields...)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h slogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.fields = h.fields[:len(h.fields):len(h.fields)]
	for _, a := range attrs {
		h.fields = append(h.fields, a.Key, a.Value.Any())
	}
	return h
}

// WithGroup implements slog.Handler; groups are not used.
func (h slogHandler) WithGroup(string) slog.Handler { return h }
