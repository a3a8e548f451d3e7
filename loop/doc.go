// Package loop is the one framework in which the control loops run.
//
// A Loop says which keys a change makes dirty, which keys exist, and what to
// write for them. A Runner holds several loops and carries them over the store's
// proposed head, step by step:
//
//	orchestrator → allocator → scheduler → reaper
//
// # Promises
//
//   - Level, not edge. When leadership begins, or the proposed head is dropped,
//     every key is dirty and every view is built anew; afterwards only the keys
//     that a change touched. The cost follows the change, not the cluster.
//   - A step is one transaction. What one loop writes the next one sees in the
//     same step, in the snapshot and in its views, so that a task can be created,
//     allocated and placed by three loops in one write. As a step runs under the
//     store's lock, its writes cannot conflict with anybody's.
//   - A step is bounded: in writes, in bytes and in keys for each loop. What is
//     left over stays dirty and goes in the next step. Keys are planned in the
//     order in which they became dirty.
//   - Steps do not wait for each other to become durable, up to a bound of
//     transactions in flight. An idle runner plans at once; there is no timer that
//     gathers.
//   - Time is data: a plan asks to be woken at a time that it computed from the
//     stored state, so that a new leader comes to the same time. Planning a key
//     forgets the time it had asked for before.
//   - A plan is a function of its arguments and the loop's views. It changes the
//     world through its Plan only, and must not keep what it is given. Time, IDs
//     and randomness come in through Env.
//   - An effect (sign this, remove that member) is carried out outside every lock
//     after the step that asked for it is committed, one at a time for each key,
//     again and again with a growing pause until it returns nil.
//
// # Concurrency
//
// A Runner is stepped from one goroutine. Run is a thin shell around Step that
// owns the goroutines of effects and returns when all of them have ended.
// Everything that a Loop is made of (Keys, All, Views, Plan) is called under the
// store's lock, by one goroutine at a time.
package loop
