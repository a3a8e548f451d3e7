// Package hamt is a persistent hash-array-mapped trie: a map whose every
// version is a value of its own and shares all that did not change with the
// version it came from.
//
// A write without an Edit copies one path, about four small nodes at 100,000
// entries. A writer of many entries holds an Edit: nodes that it made itself
// are changed in place, so that a node is copied once for a transaction and
// not once for a write.
//
// The shape of a trie depends on its content only, not on the order in which
// it came to be (entries whose 64-bit hashes are equal stand in the order of
// their insertion). Maps may be read by any number of goroutines while another
// one derives new versions; an Edit belongs to one goroutine.
package hamt
