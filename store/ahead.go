package store

import (
	"iter"
	"runtime"
	"sync"
)

// ahead yields what do makes of each item, in their order. As many as there are processors
// are made at a time, while what came before is used. The items are taken on a goroutine of
// their own, which has ended, like all others, when the loop over ahead has.
func ahead[A, B any](items iter.Seq[A], do func(A) B) iter.Seq[B] {
	return func(yield func(B) bool) {
		made := make(chan chan B, runtime.GOMAXPROCS(0))
		enough := make(chan struct{})
		var group sync.WaitGroup
		defer group.Wait()
		defer close(enough)
		group.Go(func() {
			defer close(made)
			for item := range items {
				one := make(chan B, 1)
				select {
				case made <- one:
				case <-enough:
					return
				}
				group.Go(func() { one <- do(item) })
			}
		})
		for one := range made {
			if !yield(<-one) {
				return
			}
		}
	}
}
