package raft

import "testing"

// A learner is made a voter when it keeps up, however few entries it lacks.
func TestALearnerIsPromptWhenARoundTakesNoLongerThanAnElection(t *testing.T) {
	t.Parallel()
	const limit = 10
	for name, c := range map[string]struct {
		match func(tick int) uint64
		from  int // the tick from which it is prompt; 0 for never
	}{
		"it has all at once":              {func(int) uint64 { return 200 }, 2},
		"it takes long, then keeps up":    {func(tick int) uint64 { return min(uint64(tick), 200) }, 201},
		"a narrow link never gets so far": {func(tick int) uint64 { return uint64(tick) / 4 }, 0},
		"nothing comes":                   {func(int) uint64 { return 0 }, 0},
	} {
		var was progress
		first := 0
		for tick := 1; tick <= 300; tick++ {
			p := progress{match: c.match(tick), learner: true}
			p.learn(was, 200, tick, limit)
			if p.prompt && first == 0 {
				first = tick
			}
			was = p
		}
		if first != c.from {
			t.Errorf("%s: it is prompt from tick %d, not %d", name, first, c.from)
		}
	}
}
