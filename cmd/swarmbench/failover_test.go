package main

import (
	"testing"
	"time"

	"skep/api"
)

// at is a time so many milliseconds into a measurement.
func at(ms int) time.Time { return time.Unix(1_000_000, 0).Add(time.Duration(ms) * time.Millisecond) }

func TestTheLongestGapIsBetweenAcknowledgementsAndBothEnds(t *testing.T) {
	t.Parallel()
	acked := []ack{{at(0), at(5)}, {at(100), at(110)}, {at(110), at(120)}, {at(160), at(190)}, {at(400), at(500)}}
	for _, c := range []struct {
		name     string
		from, to int
		want     int
	}{
		{"between two", 105, 195, 70},
		{"from the beginning", 8, 130, 102},
		{"to the end", 105, 400, 210},
		{"none at all", 200, 450, 250},
	} {
		if got := longestGap(acked, at(c.from), at(c.to)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("%s: got %s, want %d ms", c.name, got, c.want)
		}
	}
}

func TestAWriteThatBeganBeforeTheKillIsNotTheNextOne(t *testing.T) {
	t.Parallel()
	acked := []ack{{at(0), at(5)}, {at(8), at(20)}, {at(12), at(30)}}
	if got, ok := firstAfter(acked, at(10)); !ok || !got.Equal(at(30)) {
		t.Errorf("got %v, %t; want the one that began at 12 ms", got, ok)
	}
	if got, ok := firstAfter(acked, at(15)); ok {
		t.Errorf("none began after 15 ms: got %v", got)
	}
}

func TestTasksAreTheSameOrTheFirstDifferenceIsNamed(t *testing.T) {
	t.Parallel()
	runs := placed{"n1", api.TaskState_RUNNING, api.TaskState_RUNNING}
	failed := placed{"n1", api.TaskState_FAILED, api.TaskState_SHUTDOWN}
	before := map[string]placed{"a": runs, "b": runs}
	for name, c := range map[string]struct {
		after map[string]placed
		same  bool
	}{
		"unchanged":   {map[string]placed{"a": runs, "b": runs}, true},
		"one is gone": {map[string]placed{"a": runs}, false},
		"one failed":  {map[string]placed{"a": runs, "b": failed}, false},
		"one more":    {map[string]placed{"a": runs, "b": runs, "c": runs}, false},
		"replaced":    {map[string]placed{"a": runs, "c": runs}, false},
	} {
		if err := sameTasks(before, c.after); (err == nil) != c.same {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestASessionCountsForItsAgentOnceItsFirstMessageIsThere(t *testing.T) {
	t.Parallel()
	var s sessions
	began := time.Now()
	if n, _ := s.after(began); n != 0 || s.since("a", began) {
		t.Errorf("%d agents have a session before any had one", n)
	}
	s.noting(nil, "a").(notingConn).begun()
	n, last := s.after(began)
	if n != 1 || !last.After(began) || !s.since("a", began) || s.since("b", began) {
		t.Errorf("got %d agents, the last at %v", n, last)
	}
	if n, _ := s.after(time.Now()); n != 0 {
		t.Errorf("%d agents have a session since", n)
	}
}
