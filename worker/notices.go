package worker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/agrdist/agrdist/worker/spec"
)

// noticeHandler passes on what the log warns of, as a notice for the person who watches
// the run.
type noticeHandler struct {
	slog.Handler
	records *recordWriter
	attrs   string // of With, printed
}

var _ slog.Handler = (*noticeHandler)(nil)

// Handle implements slog.Handler.
func (h *noticeHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		var b strings.Builder
		b.WriteString(r.Message + h.attrs)
		r.Attrs(func(a slog.Attr) bool {
			b.WriteString(printed(a))
			return true
		})
		h.records.write(spec.Record{Notice: &spec.Notice{Level: r.Level.String(), Text: b.String()}})
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *noticeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.Handler = h.Handler.WithAttrs(attrs)
	for _, a := range attrs {
		if a.Key != "part" { // which package speaks is for the log
			next.attrs += printed(a)
		}
	}
	return &next
}

// WithGroup implements slog.Handler.
func (h *noticeHandler) WithGroup(name string) slog.Handler {
	next := *h
	next.Handler = h.Handler.WithGroup(name)
	return &next
}

func printed(a slog.Attr) string {
	v := a.Value.Resolve()
	if a.Key == "err" || a.Key == "error" {
		return fmt.Sprintf(": %v", v)
	}
	return fmt.Sprintf(", %s %v", strings.ReplaceAll(a.Key, "_", " "), v)
}
