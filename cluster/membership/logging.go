package membership

import (
	"context"
	"log/slog"
	"strings"
)

// levelHandler takes the lines of memberlist's *log.Logger and gives each the
// level its prefix names: "[WARN] memberlist: text" becomes a warning with the
// constant message "gossip" and the text as an attribute.
type levelHandler struct {
	slog.Handler
}

// Enabled lets every line through to Handle: the level is inside the text.
func (levelHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h levelHandler) Handle(ctx context.Context, r slog.Record) error {
	level, text := splitLevel(r.Message)
	if !h.Handler.Enabled(ctx, level) {
		return nil
	}
	out := slog.NewRecord(r.Time, level, "gossip", 0)
	out.AddAttrs(slog.String("detail", text))
	return h.Handler.Handle(ctx, out) //nolint:wrapcheck // a handler passes on what it got
}

// splitLevel reads the level prefix. What memberlist calls an error concerns one
// packet or one peer and is retried, so it is a warning to the run; lines
// without a prefix are too.
func splitLevel(line string) (slog.Level, string) {
	level, text := slog.LevelWarn, strings.TrimSpace(line)
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if tag, tail, ok := strings.Cut(rest, "]"); ok {
			switch tag {
			case "DEBUG", "TRACE":
				level = slog.LevelDebug
			case "INFO":
				level = slog.LevelInfo
			}
			text = strings.TrimSpace(tail)
		}
	}
	return level, strings.TrimPrefix(text, "memberlist: ")
}
