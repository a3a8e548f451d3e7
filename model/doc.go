// Package model holds the pure rules on api objects: task states, slots,
// constraints, resources and spec checks, the kinds of errors, and IDs.
//
// Everything here is total and deterministic: no clock, no randomness of its
// own, no I/O, no goroutine. Objects passed in are never changed.
package model
