package hamt_test

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"skep/store/hamt"
)

func spread(k string) uint64 { h := fnv.New64a(); h.Write([]byte(k)); return h.Sum64() }

// crowd gives few different hashes, so that deep levels and lists are reached.
func crowd(k string) uint64 { return uint64(len(k)%3) << 59 }

func content(m hamt.Map[string, int]) map[string]int { return maps.Collect(m.All()) }

func TestEveryVersionKeepsItsContentWhateverIsDerivedFromIt(t *testing.T) {
	t.Parallel()
	for name, hash := range map[string]func(string) uint64{"spread": spread, "crowded": crowd} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				type version struct {
					got  hamt.Map[string, int]
					want map[string]int
				}
				now := version{hamt.New[string, int](hash), map[string]int{}}
				edit := new(hamt.Edit)
				var kept []version
				for range rapid.IntRange(1, 120).Draw(t, "steps") {
					k := rapid.StringMatching(`[a-e]{0,4}`).Draw(t, "key")
					switch rapid.IntRange(0, 9).Draw(t, "do") {
					case 0, 1, 2, 3, 4:
						v := rapid.Int().Draw(t, "value")
						now.got = now.got.Set(edit, k, v)
						now.want[k] = v
					case 5, 6:
						now.got = now.got.Delete(edit, k)
						delete(now.want, k)
					case 7:
						edit.Share()
						kept = append(kept, version{now.got, maps.Clone(now.want)})
					case 8:
						edit = nil
					case 9:
						edit = new(hamt.Edit)
					}
					if got, ok := now.got.Get(k); ok != has(now.want, k) || got != now.want[k] {
						t.Fatalf("Get(%q) = %d, %t, want %d, %t", k, got, ok, now.want[k], has(now.want, k))
					}
				}
				for _, v := range append(kept, now) {
					if got := content(v.got); !maps.Equal(got, v.want) || v.got.Len() != len(v.want) {
						t.Fatalf("got %v (Len %d), want %v", got, v.got.Len(), v.want)
					}
				}
			})
		})
	}
}

func has(m map[string]int, k string) bool { _, ok := m[k]; return ok }

func TestTheOrderDependsOnTheContentOnly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfDistinct(rapid.StringMatching(`[a-z]{1,3}`), func(s string) string { return s }).Draw(t, "keys")
		extra := rapid.SliceOf(rapid.StringMatching(`[0-9]{1,3}`)).Draw(t, "added and removed")
		a, b := hamt.New[string, int](spread), hamt.New[string, int](spread)
		for _, k := range keys {
			a = a.Set(nil, k, 0)
		}
		var edit hamt.Edit
		for _, k := range append(slices.Clone(extra), rapid.Permutation(keys).Draw(t, "order")...) {
			b = b.Set(&edit, k, 0)
		}
		for _, k := range extra {
			b = b.Delete(&edit, k)
		}
		if got, want := order(b), order(a); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func order(m hamt.Map[string, int]) (keys []string) {
	for k := range m.All() {
		keys = append(keys, k)
	}
	return keys
}

func BenchmarkSet(b *testing.B) {
	keys := make([]string, 100_000)
	full := hamt.New[string, *int](spread)
	var edit hamt.Edit
	for i := range keys {
		keys[i] = fmt.Sprintf("%025d", i*7919)
		full = full.Set(&edit, keys[i], nil)
	}
	edit.Share()
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprintf("entries=100000/batch=%d", batch), func(b *testing.B) {
			b.ReportAllocs()
			m := full
			var edit hamt.Edit
			i := 0
			for b.Loop() {
				m = m.Set(&edit, keys[i*7919%len(keys)], nil)
				if i++; i%batch == 0 {
					edit.Share()
				}
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	keys := make([]string, 100_000)
	m := hamt.New[string, int](spread)
	var edit hamt.Edit
	for i := range keys {
		keys[i] = fmt.Sprintf("%025d", i*7919)
		m = m.Set(&edit, keys[i], i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		m.Get(keys[i*7919%len(keys)])
		i++
	}
}
