// Package store holds the state of the cluster: ten kinds of objects in
// immutable snapshots, and the transactions that lead from one to the next.
//
// # Two heads
//
// The committed head is what the log has made durable on a majority; every
// manager has the same one at the same index. While this manager leads there is
// a second one, the proposed head: the committed head and, in order, every
// transaction that is still on its way through the log. A transaction runs
// against the proposed head under a short lock that guards memory only; version
// checks and unique names are decided there and only there. The log carries
// unconditional writes, which every manager applies as they come.
//
// Each transaction is one log entry with a version of its own,
// max(applied index, last version given) + 1, stamped in the order of proposal.
// It is never above the entry's index. While the log is busy transactions
// gather, and are handed over together.
//
// # Promises
//
//   - Update returns nil only when its writes are committed and applied. A
//     transaction that wrote nothing, or whose function failed, returns when all
//     that it read is committed, so nobody learns what may still be lost.
//   - An error of kind Unavailable means that nothing was applied. Kind Unknown
//     means that the caller's patience, or this manager, ended with the entry in the
//     log: it may or may not be carried out. A loss of leadership alone leaves nobody in
//     doubt: Update waits until this manager has seen what the next leader made of
//     it. Kind Conflict: the object changed since it was read.
//   - Objects in a snapshot are shared by all and never change. Who gives an
//     object to a transaction gives it away. Equal task specs become one object.
//   - A subscription gets every commit that concerns its keys, in order and
//     without a gap, or is told to resync; its memory is bounded. The cost of a
//     change depends on who concerns it, not on how many watch other things.
//   - An entry that cannot be applied is an error of Apply, after which the
//     manager must stop: its state would differ from the others'.
//   - Entries that are applied together may become visible together. What they lead to,
//     and what subscribers get, is the same as one by one.
//
// # Concurrency
//
// All methods of Store and all reads of a Snapshot are safe for concurrent use.
// Apply, Applied and Restore are called from one goroutine; what comes in great numbers Apply and
// Restore decode on as many as there are processors, which end before they return. A Tx belongs to the
// function it is given to; observers are called under the store's lock and must
// not call the store back.
package store
