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
		c := comparison[K, V]{same: same, yield: yield}
		c.nodes(old.root, m.root, 0)
	}
}

type comparison[K comparable, V any] struct {
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
	switch old, new := a.entry(s), b.entry(s); {
	case old != nil && new != nil:
		return c.entries(old, new)
	case old != nil:
		return c.among(old, b.child(s), c.replaced)
	case new != nil:
		return c.among(new, a.child(s), func(k K, is, was *V) bool { return c.replaced(k, was, is) })
	}
	return c.nodes(a.child(s), b.child(s), shift+width)
}

// entries compares an entry with the one that took its slot.
func (c *comparison[K, V]) entries(old, new *entry[K, V]) bool {
	if old.key == new.key {
		return c.replaced(old.key, &old.val, &new.val)
	}
	return c.replaced(old.key, &old.val, nil) && c.replaced(new.key, nil, &new.val)
}

// among compares an entry of one map with a node, which may be nil, of the other one. Report gets
// the value of the entry's map first, nil for nothing.
func (c *comparison[K, V]) among(e *entry[K, V], n *node[K, V], report func(k K, own, others *V) bool) bool {
	found := false
	if n != nil && !n.all(func(k K, v V) bool {
		if k == e.key {
			found = true
			return report(k, &e.val, &v)
		}
		return report(k, nil, &v)
	}) {
		return false
	}
	return found || report(e.key, &e.val, nil)
}

// lists compares nodes that hold entries only, in any order.
func (c *comparison[K, V]) lists(a, b *node[K, V]) bool {
	find := func(n *node[K, V], k K) *V {
		for i := range n.entries {
			if n.entries[i].key == k {
				return &n.entries[i].val
			}
		}
		return nil
	}
	for i := range a.entries {
		e := &a.entries[i]
		if !c.replaced(e.key, &e.val, find(b, e.key)) {
			return false
		}
	}
	for i := range b.entries {
		e := &b.entries[i]
		if find(a, e.key) == nil && !c.replaced(e.key, nil, &e.val) {
			return false
		}
	}
	return true
}

// replaced yields a difference, if it is one. It reports false when no more is wanted.
func (c *comparison[K, V]) replaced(k K, old, new *V) bool {
	var d Difference[V]
	if old != nil {
		d.Old, d.HadOld = *old, true
	}
	if new != nil {
		d.New, d.HasNew = *new, true
	}
	return d.HadOld && d.HasNew && c.same(d.Old, d.New) || c.yield(k, d)
}
