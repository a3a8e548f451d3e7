package hamt

import "iter"

// Map maps keys to values. It is a small value, copied freely; the zero Map is
// not usable, New makes one.
type Map[K comparable, V any] struct {
	root *node[K, V]
	len  int
	hash func(K) uint64
}

// New returns an empty map whose keys are spread by hash. Equal maps iterate
// in the same order only if hash gives the same values for both.
func New[K comparable, V any](hash func(K) uint64) Map[K, V] {
	return Map[K, V]{hash: hash}
}

// Len returns the number of entries.
func (m Map[K, V]) Len() int { return m.len }

// Get returns the value of k.
func (m Map[K, V]) Get(k K) (V, bool) {
	if m.root == nil {
		var zero V
		return zero, false
	}
	return m.root.get(m.hash(k), k)
}

// Set returns the map with k set to v.
func (m Map[K, V]) Set(e *Edit, k K, v V) Map[K, V] {
	h := m.hash(k)
	if m.root == nil {
		m.root = &node[K, V]{owner: e.token(), here: bit(h, 0), entries: []entry[K, V]{{k, v}}}
		m.len = 1
		return m
	}
	w := writer[K, V]{owner: e.token(), hash: m.hash}
	var added bool
	m.root, added = w.set(m.root, 0, h, k, v)
	if added {
		m.len++
	}
	return m
}

// Delete returns the map without k.
func (m Map[K, V]) Delete(e *Edit, k K) Map[K, V] {
	if m.root == nil {
		return m
	}
	w := writer[K, V]{owner: e.token(), hash: m.hash}
	root, removed := w.remove(m.root, 0, m.hash(k), k)
	if !removed {
		return m
	}
	m.len--
	m.root = root
	if m.len == 0 {
		m.root = nil
	}
	return m
}

// All yields every entry, in an order that depends on the content only.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if m.root != nil {
			m.root.all(yield)
		}
	}
}
