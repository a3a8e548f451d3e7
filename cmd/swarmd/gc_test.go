package main

import "testing"

func TestALargeHeapMayHaveLessGarbageForItsSize(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 200}, {10 * mib, 200}, {64 * mib, 200}, {128 * mib, 100}, {256 * mib, 50}, {4096 * mib, 30},
	} {
		if got := gcFor(c.live); got != c.want {
			t.Errorf("with %d MiB alive: %d %%, want %d %%", c.live/mib, got, c.want)
		}
	}
}
