// Package inproc connects gRPC clients to services in the same process without
// a network, a goroutine that outlives a call, or a timer: for tests in
// testing/synctest bubbles and for simulations.
//
// Messages are encoded and decoded on the way, so the two ends share nothing.
// A message that is sent waits for the other end to receive it, but for one:
// that is the whole flow control.
package inproc
