package hamt_test

import (
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"skep/store/hamt"
)

func TestWhatIsYieldedSinceAnotherVersionMakesItThisOne(t *testing.T) {
	t.Parallel()
	same := func(a, b int) bool { return a == b }
	for name, hash := range map[string]func(string) uint64{"spread": spread, "crowded": crowd} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				m := hamt.New[string, int](hash)
				change := func(label string) {
					for range rapid.IntRange(0, 40).Draw(t, label) {
						k := rapid.StringMatching(`[a-e]{0,4}`).Draw(t, "key")
						if rapid.Bool().Draw(t, "set") {
							m = m.Set(nil, k, rapid.IntRange(0, 3).Draw(t, "value"))
						} else {
							m = m.Delete(nil, k)
						}
					}
				}
				change("before")
				old := m
				change("after")
				got := content(old)
				for k, d := range m.Since(old, same) {
					if v, ok := got[k]; ok != d.HadOld || v != d.Old {
						t.Fatalf("it says that %q was %d, %t; it was %d, %t", k, d.Old, d.HadOld, v, ok)
					}
					if d.HadOld && d.HasNew && d.Old == d.New || !d.HadOld && !d.HasNew {
						t.Fatalf("%q is yielded and did not change", k)
					}
					delete(got, k)
					if d.HasNew {
						got[k] = d.New
					}
				}
				if want := content(m); !maps.Equal(got, want) {
					t.Fatalf("with the differences it is %v, want %v", got, want)
				}
			})
		})
	}
}

func TestWhatTwoVersionsShareIsNotComparedAgain(t *testing.T) {
	t.Parallel()
	m := hamt.New[string, int](spread)
	for i := range 100_000 {
		m = m.Set(nil, fmt.Sprint("key", i), i)
	}
	compared, found := 0, 0
	for range m.Set(nil, "key77", -1).Since(m, func(a, b int) bool { compared++; return a == b }) {
		found++
	}
	if found != 1 || compared > 200 {
		t.Errorf("found %d differences with %d comparisons; want 1 with a few", found, compared)
	}
}
