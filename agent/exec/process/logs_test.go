package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skep/agent/exec"
	"skep/agent/exec/exectest"
	"skep/api"
)

// collect returns the messages as "stream: data".
func collect(t *testing.T, c exec.Controller, options exec.LogOptions) []string {
	t.Helper()
	var out []string
	for message, err := range c.(exec.Logger).Logs(t.Context(), options) {
		if err != nil {
			t.Fatalf("logs: %v", err)
		}
		stream := strings.ToLower(strings.TrimPrefix(message.Stream.String(), "LOG_STREAM_"))
		out = append(out, fmt.Sprintf("%s: %q", stream, message.Data))
	}
	return out
}

func TestOutputKeepsItsStreamAndItsLines(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	m := newMachine(t)
	task := taskOf(newID(), running("print"))
	c := start(t, m.open(t), task, exectest.Dependencies{})
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	stdout := collect(t, c, exec.LogOptions{Streams: []api.LogStream{api.LogStream_LOG_STREAM_STDOUT}})
	if got, want := fmt.Sprint(stdout), `[stdout: "out 0\n" stdout: "out 1\n" stdout: "out 2\n" stdout: "no newline"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	stderr := collect(t, c, exec.LogOptions{Streams: []api.LogStream{api.LogStream_LOG_STREAM_STDERR}, Tail: 2})
	if got, want := fmt.Sprint(stderr), `[stderr: "err 1\n" stderr: "err 2\n"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if all := collect(t, c, exec.LogOptions{Since: begin}); len(all) != 7 {
		t.Errorf("since the start: got %d messages, want 7: %s", len(all), all)
	}
	if none := collect(t, c, exec.LogOptions{Since: time.Now()}); len(none) != 0 {
		t.Errorf("since now: got %s, want nothing", none)
	}
	// The file itself is for people.
	data, err := os.ReadFile(filepath.Join(m.config.Dir, task.GetId(), "log.1"))
	if err != nil || !strings.Contains(string(data), "Z stdout F out 1\n") {
		t.Errorf("log.1: got %q, %v; want records of text", data, err)
	}
}

func TestOldOutputMakesRoomForNew(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.config.LogSize, m.config.LogFiles = 32<<10, 3
	task := taskOf(newID(), running("flood", "2000"))
	c := start(t, m.open(t), task, exectest.Dependencies{})
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(m.config.Dir, task.GetId(), "log.*"))
	if err != nil || len(files) != 3 {
		t.Errorf("got files %q, %v; want the newest three", files, err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Size() > m.config.LogSize {
			t.Errorf("%s has %d bytes, %v; want at most %d", file, info.Size(), err, m.config.LogSize)
		}
	}
	kept := collect(t, c, exec.LogOptions{})
	if len(kept) < 100 || len(kept) > 1000 || !strings.Contains(kept[len(kept)-1], "line 001999") {
		t.Errorf("got %d lines that end with %s, want the newest few hundred", len(kept), kept[len(kept)-1])
	}
}

func TestFollowingReadsAcrossFilesToTheEnd(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.config.LogSize, m.config.LogFiles = 64<<10, 1000
	task := taskOf(newID(), running("flood", "5000"))
	e := m.open(t)
	c := control(t, e, task, exectest.Dependencies{})
	if err := c.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	result := make(chan string)
	go func() { // before there is anything to follow
		var text strings.Builder
		for message, err := range c.(exec.Logger).Logs(t.Context(), exec.LogOptions{Follow: true}) {
			if err != nil {
				fmt.Fprint(&text, err)
			}
			text.Write(message.Data)
		}
		result <- text.String()
	}()
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(<-result, "\n"), "\n")
	for n, line := range got {
		if !strings.HasPrefix(line, fmt.Sprintf("line %06d x", n)) {
			t.Fatalf("line %d is %q", n, line)
		}
	}
	if len(got) != 5000 {
		t.Errorf("got %d lines, want 5000", len(got))
	}
}

func TestFollowingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := start(t, newMachine(t).open(t), taskOf(newID(), running("run")), exectest.Dependencies{})
	ctx, cancel := context.WithCancel(t.Context())
	var last error
	for message, err := range c.(exec.Logger).Logs(ctx, exec.LogOptions{Follow: true}) {
		if string(message.Data) == "ready\n" {
			cancel()
		}
		last = err
	}
	cancel()
	if !errors.Is(last, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", last)
	}
	// With a negative tail nothing of what is there is wanted.
	for message, err := range c.(exec.Logger).Logs(ended(), exec.LogOptions{Follow: true, Tail: -1}) {
		if err == nil {
			t.Errorf("got %q", message.Data)
		}
	}
}

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestWhoStopsReadingIsGivenNoMore(t *testing.T) {
	t.Parallel()
	c := start(t, newMachine(t).open(t), taskOf(newID(), running("print")), exectest.Dependencies{})
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tail := range []int{0, 3} {
		for range c.(exec.Logger).Logs(t.Context(), exec.LogOptions{Tail: tail}) {
			break
		}
	}
}
