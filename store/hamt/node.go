package hamt

import "math/bits"

const (
	width = 5 // bits of the hash that one level uses
	mask  = 1<<width - 1
	depth = 64 // at this shift no bits are left: entries stand in a list
)

// node holds entries and nodes in two dense lists; a slot of the 32 holds one,
// the other or nothing. Apart from the root no node holds a single entry alone,
// which is what makes the shape canonical.
type node[K comparable, V any] struct {
	owner   *owner
	here    uint32 // slots that hold an entry
	below   uint32 // slots that hold a node
	entries []entry[K, V]
	nodes   []*node[K, V]
}

type entry[K comparable, V any] struct {
	key K
	val V
}

func bit(h uint64, shift uint) uint32 { return 1 << (h >> shift & mask) }

// rank returns how many slots of set come before b.
func rank(set, b uint32) int { return bits.OnesCount32(set & (b - 1)) }

// entry returns the entry in a slot, or nil.
func (n *node[K, V]) entry(slot uint32) *entry[K, V] {
	if n.here&slot == 0 {
		return nil
	}
	return &n.entries[rank(n.here, slot)]
}

// child returns the node in a slot, or nil.
func (n *node[K, V]) child(slot uint32) *node[K, V] {
	if n.below&slot == 0 {
		return nil
	}
	return n.nodes[rank(n.below, slot)]
}

func (n *node[K, V]) get(h uint64, k K) (V, bool) {
	for shift := uint(0); shift < depth; shift += width {
		b := bit(h, shift)
		switch {
		case n.here&b != 0:
			if e := &n.entries[rank(n.here, b)]; e.key == k {
				return e.val, true
			}
			var zero V
			return zero, false
		case n.below&b != 0:
			n = n.nodes[rank(n.below, b)]
		default:
			var zero V
			return zero, false
		}
	}
	for i := range n.entries {
		if n.entries[i].key == k {
			return n.entries[i].val, true
		}
	}
	var zero V
	return zero, false
}

func (n *node[K, V]) all(yield func(K, V) bool) bool {
	for i := range n.entries {
		if !yield(n.entries[i].key, n.entries[i].val) {
			return false
		}
	}
	for _, c := range n.nodes {
		if !c.all(yield) {
			return false
		}
	}
	return true
}
