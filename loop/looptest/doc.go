// Package looptest is what tests of loops share: the rules of who writes what,
// and a cluster in memory that is drawn in a few words, stepped by hand, and read
// as text.
//
// A Cluster has a clock that only Wait moves, IDs that count t1, t2, …, and a
// store that freezes its objects. Every write of every loop is held to the rules.
package looptest
