package hamt

import "iter"

// Difference is an entry that two maps do not have in common.
type Difference[V any] struct {
	// Old and New are the values, the zero value where HadOld or HasNew is false.
	Old, New       V
	HadOld, HasNew bool
}

// Since yields the keys under which m and old do not hold the same value, one by which
// same reports true. What both share is not looked at: between versions of one map this
// costs what was changed in between. Both are made with the same hash.
func (m Map[K, V]) Since(old Map[K, V], same func(a, b V) bool) iter.Seq2[K, Difference[V]] {
	return func(yield func(K, Difference[V]) bool) {
		c := comparison[K, V]{hash: m.hash, same: same, yield: yield}
		c.nodes(old.root, m.root, 0)
	}
}

type comparison[K comparable, V any] struct {
	hash  func(K) uint64
	same  func(a, b V) bool
	yield func(K, Difference[V]) bool
}

// nodes compares two nodes at the same place. It reports false when no more is wanted.
func (c *comparison[K, V]) nodes(a, b *node[K, V], shift uint) bool {
	switch {
	case a == b:
		return true
	case a == nil:
		return b.all(func(k K, v V) bool { return c.yield(k, Difference[V]{New: v, HasNew: true}) })
	case b == nil:
		return a.all(func(k K, v V) bool { return c.yield(k, Difference[V]{Old: v, HadOld: true}) })
	case shift >= depth:
		return c.lists(a, b)
	}
	for slots := a.here | a.below | b.here | b.below; slots != 0; slots &= slots - 1 {
		s := slots & -slots
		if !c.slot(a, b, s, shift) {
			return false
		}
	}
	return true
}

// slot compares what two nodes have in one slot.
func (c *comparison[K, V]) slot(a, b *node[K, V], s uint32, shift uint) bool {
	var below [2]*node[K, V]
	for i, n := range [2]*node[K, V]{a, b} {
		switch {
		case n.below&s != 0:
			below[i] = n.nodes[rank(n.below, s)]
		case n.here&s != 0: // as if it stood in a node of its own
			e := n.entries[rank(n.here, s)]
			below[i] = &node[K, V]{entries: []entry[K, V]{e}}
			if shift+width < depth {
				below[i].here = bit(c.hash(e.key), shift+width)
			}
		}
	}
	if a.here&s != 0 && b.here&s != 0 {
		return c.lists(below[0], below[1])
	}
	return c.nodes(below[0], below[1], shift+width)
}

// lists compares nodes that hold entries only, in any order.
func (c *comparison[K, V]) lists(a, b *node[K, V]) bool {
	find := func(n *node[K, V], k K) (V, bool) {
		for _, e := range n.entries {
			if e.key == k {
				return e.val, true
			}
		}
		var zero V
		return zero, false
	}
	for _, e := range a.entries {
		v, ok := find(b, e.key)
		if ok && c.same(e.val, v) {
			continue
		}
		if !c.yield(e.key, Difference[V]{Old: e.val, HadOld: true, New: v, HasNew: ok}) {
			return false
		}
	}
	for _, e := range b.entries {
		if _, ok := find(a, e.key); !ok && !c.yield(e.key, Difference[V]{New: e.val, HasNew: true}) {
			return false
		}
	}
	return true
}
