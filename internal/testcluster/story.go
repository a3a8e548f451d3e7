package testcluster

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// longest is how many lines of its story a failed test prints: the last ones.
const longest = 400

// story is what happened in a test, line by line.
type story struct {
	begun time.Time
	mu    sync.Mutex
	lines []string
}

func (s *story) add(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf("%10.3fs %s", time.Since(s.begun).Seconds(), text))
	if len(s.lines) > 2*longest {
		s.lines = slices.Clone(s.lines[len(s.lines)-longest:])
	}
}

func (s *story) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines[max(0, len(s.lines)-longest):], "\n")
}

// handler takes the log of a machine into the story.
func (s *story) handler(name string) slog.Handler {
	return slog.NewTextHandler(line{s, name}, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
}

type line struct {
	s    *story
	name string
}

func (l line) Write(p []byte) (int, error) {
	l.s.add("  " + l.name + ": " + strings.TrimSpace(string(p)))
	return len(p), nil
}
