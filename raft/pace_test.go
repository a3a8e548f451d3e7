package raft

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWorkOnASnapshotRestsAsLongAsItTakesAndNeverForLong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ work, want time.Duration }{
		"a processor is what takes long":  {2 * time.Millisecond, 10 * 2 * 2 * time.Millisecond},
		"the network is":                  {500 * time.Millisecond, 10 * (500*time.Millisecond + paceRest)},
		"nothing is":                      {0, 0},
		"as long as it rests at the most": {paceRest, 10 * 2 * paceRest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const pieces = 4
				var p pace
				began := time.Now()
				for range 10*pieces + 1 { // the last one finds that the tenth time it is to rest
					p.on(paceBytes / pieces)
					time.Sleep(c.work / pieces)
				}
				if got := time.Since(began) - c.work/pieces; got != c.want {
					t.Errorf("ten times %v of work took %v, want %v", c.work, got, c.want)
				}
			})
		})
	}
}
