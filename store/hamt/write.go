package hamt

import "slices"

// writer derives nodes; it changes in place only those marked with its owner.
type writer[K comparable, V any] struct {
	owner *owner
	hash  func(K) uint64
}

// own returns n if the writer may change it, else a copy that it may.
func (w writer[K, V]) own(n *node[K, V]) *node[K, V] {
	if w.owner != nil && n.owner == w.owner {
		return n
	}
	return &node[K, V]{
		owner: w.owner, here: n.here, below: n.below,
		entries: slices.Clone(n.entries), nodes: slices.Clone(n.nodes),
	}
}

func (w writer[K, V]) set(n *node[K, V], shift uint, h uint64, k K, v V) (_ *node[K, V], added bool) {
	if shift >= depth {
		return w.setInList(n, k, v)
	}
	b := bit(h, shift)
	switch {
	case n.here&b != 0:
		i := rank(n.here, b)
		if old := n.entries[i]; old.key != k {
			below := w.pair(shift+width, w.hash(old.key), old, h, entry[K, V]{k, v})
			n = w.own(n)
			n.dropEntry(i, b)
			n.addNode(below, b)
			return n, true
		}
		n = w.own(n)
		n.entries[i].val = v
		return n, false
	case n.below&b != 0:
		i := rank(n.below, b)
		c, added := w.set(n.nodes[i], shift+width, h, k, v)
		if c == n.nodes[i] {
			return n, added // it was ours, so n is too
		}
		n = w.own(n)
		n.nodes[i] = c
		return n, added
	default:
		n = w.own(n)
		n.addEntry(entry[K, V]{k, v}, b)
		return n, true
	}
}

func (w writer[K, V]) setInList(n *node[K, V], k K, v V) (*node[K, V], bool) {
	n = w.own(n)
	for i := range n.entries {
		if n.entries[i].key == k {
			n.entries[i].val = v
			return n, false
		}
	}
	n.entries = append(n.entries, entry[K, V]{k, v})
	return n, true
}

// pair returns a node that holds two entries whose hashes agree below shift.
func (w writer[K, V]) pair(shift uint, ha uint64, a entry[K, V], hb uint64, b entry[K, V]) *node[K, V] {
	if shift >= depth {
		return &node[K, V]{owner: w.owner, entries: []entry[K, V]{a, b}}
	}
	ba, bb := bit(ha, shift), bit(hb, shift)
	if ba == bb {
		below := w.pair(shift+width, ha, a, hb, b)
		return &node[K, V]{owner: w.owner, below: ba, nodes: []*node[K, V]{below}}
	}
	if ba > bb {
		a, b = b, a
	}
	return &node[K, V]{owner: w.owner, here: ba | bb, entries: []entry[K, V]{a, b}}
}

// remove returns n without k. A node below the root that is left with one
// entry alone is folded into its parent by the caller.
func (w writer[K, V]) remove(n *node[K, V], shift uint, h uint64, k K) (_ *node[K, V], removed bool) {
	if shift >= depth {
		i := slices.IndexFunc(n.entries, func(e entry[K, V]) bool { return e.key == k })
		if i < 0 {
			return n, false
		}
		n = w.own(n)
		n.entries = slices.Delete(n.entries, i, i+1)
		return n, true
	}
	b := bit(h, shift)
	switch {
	case n.here&b != 0:
		i := rank(n.here, b)
		if n.entries[i].key != k {
			return n, false
		}
		n = w.own(n)
		n.dropEntry(i, b)
		return n, true
	case n.below&b != 0:
		i := rank(n.below, b)
		c, removed := w.remove(n.nodes[i], shift+width, h, k)
		switch {
		case !removed:
			return n, false
		case len(c.nodes) == 0 && len(c.entries) == 1:
			n = w.own(n)
			n.dropNode(i, b)
			n.addEntry(c.entries[0], b)
		case c != n.nodes[i]:
			n = w.own(n)
			n.nodes[i] = c
		}
		return n, true
	default:
		return n, false
	}
}

// The four below change n, which the writer owns. Lists have no spare room:
// most nodes stay as they are for long.

func (n *node[K, V]) addEntry(e entry[K, V], b uint32) {
	n.entries = insert(n.entries, rank(n.here, b), e)
	n.here |= b
}

func (n *node[K, V]) dropEntry(i int, b uint32) {
	n.entries = slices.Delete(n.entries, i, i+1)
	n.here &^= b
}

func (n *node[K, V]) addNode(c *node[K, V], b uint32) {
	n.nodes = insert(n.nodes, rank(n.below, b), c)
	n.below |= b
}

func (n *node[K, V]) dropNode(i int, b uint32) {
	n.nodes = slices.Delete(n.nodes, i, i+1)
	n.below &^= b
}

func insert[E any](s []E, i int, e E) []E {
	if len(s) < cap(s) {
		return slices.Insert(s, i, e)
	}
	out := make([]E, len(s)+1)
	copy(out, s[:i])
	out[i] = e
	copy(out[i+1:], s[i:])
	return out
}
