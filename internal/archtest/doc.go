// Package archtest keeps the shape of the tree as tests: floors, a doc.go in
// every package, one place that makes a gRPC server, no forbidden modules, no
// package state, no test that sleeps, a page of faults (docs/faults.md) whose tests exist.
//
// It reads the sources of the main module with go/parser and go/types and
// builds nothing, so that it takes a second and works on a tree that does not
// compile. What types from other packages would be needed for, it does not see.
//
// Every rule is a function from a Tree to breaches. A breach says where, which
// rule, and what to do about it. The rules have tests of their own, on small
// trees that break them.
package archtest
