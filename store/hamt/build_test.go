package hamt_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"skep/store/hamt"
)

func TestAMapThatIsBuiltAtOnceIsTheOneThatGrewEntryByEntry(t *testing.T) {
	t.Parallel()
	for name, hash := range map[string]func(string) uint64{"spread": spread, "crowded": crowd} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				keys := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{0,3}`), 0, 200, rapid.ID[string]).Draw(t, "keys")
				grown := hamt.New[string, int](hash)
				for i, k := range keys {
					grown = grown.Set(nil, k, i)
				}
				built := hamt.Collect(hash, len(keys), func(yield func(string, int) bool) {
					for i, k := range keys {
						if !yield(k, i) {
							return
						}
					}
				})
				if built.Len() != len(keys) || !maps.Equal(content(built), content(grown)) || !slices.Equal(order(built), order(grown)) {
					t.Fatalf("got %v in the order %v, want %v in the order %v", content(built), order(built), content(grown), order(grown))
				}
				for i, k := range keys {
					if got, ok := built.Get(k); !ok || got != i {
						t.Fatalf("Get(%q) = %d, %t, want %d", k, got, ok, i)
					}
				}
				// Writes find the shape that they expect: what is taken away again leaves nothing.
				var edit hamt.Edit
				for _, k := range keys {
					built, grown = built.Delete(&edit, k), grown.Delete(&edit, k)
					if !slices.Equal(order(built), order(grown)) {
						t.Fatalf("without %q it is %v, want %v", k, order(built), order(grown))
					}
				}
				if built.Len() != 0 {
					t.Fatalf("%d entries are left", built.Len())
				}
			})
		})
	}
}

func BenchmarkCollect(b *testing.B) {
	keys := make([]string, 100_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("%025d", i*7919)
	}
	b.ReportAllocs()
	for b.Loop() {
		hamt.Collect(spread, len(keys), func(yield func(string, int) bool) {
			for i, k := range keys {
				if !yield(k, i) {
					return
				}
			}
		})
	}
}
