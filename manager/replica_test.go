package manager

import (
	"context"
	"log/slog"
	"testing"

	"skep/store"
)

// following is told when the store follows, and before it tells those who wait for it.
type following func()

func (f following) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "the store follows" {
		f()
	}
	return nil
}

func (f following) Enabled(context.Context, slog.Level) bool { return true }
func (f following) WithAttrs([]slog.Attr) slog.Handler       { return f }
func (f following) WithGroup(string) slog.Handler            { return f }

func TestATermEndsBeforeAWriteFailsForItsEnd(t *testing.T) {
	t.Parallel()
	var lost <-chan struct{}
	told := false
	r := &replica{store: store.New(store.Config{Logger: slog.New(following(func() {
		select {
		case <-lost:
			told = true
		default:
		}
	}))})}
	r.Lead(1)
	_, lost = r.term.get()
	r.Follow()
	if !told {
		t.Error("the store follows, and its writes fail, before it is said that this manager leads no more")
	}
}
