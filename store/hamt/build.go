package hamt

import "iter"

// Collect returns the map of entries, no two of which have the same key. It costs a
// fraction of as many calls of Set. There are about n of them.
func Collect[K comparable, V any](hash func(K) uint64, n int, entries iter.Seq2[K, V]) Map[K, V] {
	m := New[K, V](hash)
	items := make([]item[K, V], 0, n)
	for k, v := range entries {
		items = append(items, item[K, V]{hash(k), entry[K, V]{k, v}})
	}
	if len(items) > 0 {
		m.root, m.len = build(items, make([]item[K, V], len(items)), 0), len(items)
	}
	return m
}

// item is an entry that has no place yet.
type item[K comparable, V any] struct {
	hash uint64
	entry[K, V]
}

// build returns the node of items whose hashes agree below shift. It uses up items, and as
// much room as they take.
func build[K comparable, V any](items, room []item[K, V], shift uint) *node[K, V] {
	n := &node[K, V]{}
	if shift >= depth {
		n.entries = make([]entry[K, V], len(items))
		for i := range items {
			n.entries[i] = items[i].entry
		}
		return n
	}
	var end [1 << width]int // of each slot's items, in room
	for i := range items {
		end[items[i].hash>>shift&mask]++
	}
	entries, nodes, at := 0, 0, 0
	for s, count := range end {
		switch {
		case count == 1:
			n.here |= 1 << s
			entries++
		case count > 1:
			n.below |= 1 << s
			nodes++
		}
		end[s] = at // where they begin: each that comes moves it on
		at += count
	}
	for i := range items {
		s := items[i].hash >> shift & mask
		room[end[s]] = items[i]
		end[s]++
	}
	if entries > 0 {
		n.entries = make([]entry[K, V], 0, entries)
	}
	if nodes > 0 {
		n.nodes = make([]*node[K, V], 0, nodes)
	}
	from := 0
	for s, to := range end {
		switch bit := uint32(1) << s; {
		case n.here&bit != 0:
			n.entries = append(n.entries, room[from].entry)
		case n.below&bit != 0:
			n.nodes = append(n.nodes, build(room[from:to], items[from:to], shift+width))
		}
		from = to
	}
	return n
}
