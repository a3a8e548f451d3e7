package raft_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"skep/vfs"
)

func TestAnOnlyMemberLeadsAtOnceAndKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		began := time.Now()
		r := start(t, config(m))
		r.lead(t)
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %s until it led, want no tick to pass", took)
		}
		for _, c := range r.propose("a", "b", "c") {
			if got := <-c; got != applied {
				t.Errorf("a proposal was %s", got)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		r = start(t, config(m))
		r.lead(t)
		if got, want := r.contents(), []string{"a", "b", "c"}; !slices.Equal(got, want) {
			t.Errorf("after a restart it has %q, want %q", got, want)
		}
		t.Log(r.node.Status(), r.story)
	})
}
