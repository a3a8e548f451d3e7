package orchestrator

import (
	"maps"
	"testing"

	"skep/store"
	"skep/store/storetest"
)

func TestTheViewKeepsItsPromise(t *testing.T) {
	t.Parallel()
	storetest.CheckView(t, func() store.View { return &view{} })
}

// Equal leaves out from which number on a free slot is looked for: that is a
// lower bound, which depends on what was asked.
func (v *view) Equal(o store.View) bool {
	return maps.EqualFunc(v.services, o.(*view).services, func(a, b *slots) bool {
		return a.tasks == b.tasks && a.filled == b.filled && maps.EqualFunc(a.blocks, b.blocks, func(x, y *[blockSize]count) bool { return *x == *y }) &&
			a.missing() == b.missing()
	})
}

func TestTheLowestMissingSlotIsFoundAgain(t *testing.T) {
	t.Parallel()
	s := &slots{blocks: map[uint64]*[blockSize]count{}, free: 1}
	for slot := range uint64(200) {
		s.add(slot+1, 1, true)
	}
	s.add(1<<60, 1, true)
	if got := s.missing(); got != 201 {
		t.Errorf("after 200: got %d, want 201", got)
	}
	s.add(70, -1, true)
	s.add(150, -1, true)
	if got := s.missing(); got != 70 {
		t.Errorf("after 70 and 150 went: got %d, want 70", got)
	}
	s.add(70, 1, true)
	if got := s.missing(); got != 150 {
		t.Errorf("after 70 came back: got %d, want 150", got)
	}
	if got, want := s.size(), uint64(200); got != want {
		t.Errorf("got %d members, want %d", got, want)
	}
	if got := len(s.members()); got != 200 {
		t.Errorf("got %d numbers, want 200", got)
	}
}
