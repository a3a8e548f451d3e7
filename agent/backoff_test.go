package agent

import (
	"slices"
	"testing"
	"time"
)

func TestTheBackoffDoublesUpToEightSeconds(t *testing.T) {
	t.Parallel()
	var b backoff
	var got []time.Duration
	for range 9 {
		got = append(got, b.next(1))
	}
	ms := time.Millisecond
	want := []time.Duration{100 * ms, 300 * ms, 700 * ms, 1500 * ms, 3100 * ms, 6300 * ms, 8000 * ms, 8000 * ms, 8000 * ms}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := (&backoff{}).next(0); got != 0 {
		t.Errorf("the least delay is %v, want none", got)
	}
}
