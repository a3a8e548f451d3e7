package storetest

import (
	"context"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"skep/store"
)

// CheckView holds a view to its promise: after any history, Build and Apply
// agree. It draws histories of the given steps (AnyWrite if there are none) and
// follows them in both ways that views are fed: write by write in the middle of
// transactions, and commit by commit.
func CheckView(t *testing.T, newView func() store.View, steps ...Step) {
	t.Helper()
	if len(steps) == 0 {
		steps = []Step{AnyWrite}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := store.NewLocal(store.Config{Freeze: true})
		byWrite, byCommit := newView(), &follower{view: newView()}
		byWrite.Build(s.Read())
		defer s.Observe(byCommit)()
		for range rapid.IntRange(1, 12).Draw(t, "transactions") {
			err := s.Update(context.Background(), func(tx *store.Tx) error {
				for range rapid.IntRange(1, 6).Draw(t, "steps") {
					rapid.SampledFrom(steps).Draw(t, "step")(t, tx)
					for _, c := range tx.Writes() {
						byWrite.Apply(c)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatalf("transaction: %v", err)
			}
			built := newView()
			built.Build(s.Read())
			agree(t, "write by write", byWrite, built)
			agree(t, "commit by commit", byCommit.view, built)
		}
	})
}

func agree(t *rapid.T, how string, applied, built store.View) {
	if e, ok := applied.(interface{ Equal(store.View) bool }); ok {
		if e.Equal(built) {
			return
		}
	} else if reflect.DeepEqual(applied, built) {
		return
	}
	t.Fatalf("after Apply, %s: %+v\nafter Build: %+v", how, applied, built)
}

// follower feeds a view with what the store tells.
type follower struct{ view store.View }

func (f *follower) Changed(changes []store.Change) {
	for _, c := range changes {
		f.view.Apply(c)
	}
}

func (f *follower) Reset(s *store.Snapshot) { f.view.Build(s) }
