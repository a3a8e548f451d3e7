// Package orchestrator turns replicated services into tasks.
//
// # What it decides
//
// How many slots a service has and which, what runs in each slot, when a task
// that ended is replaced and when the replacement may start, and which slots go
// when a service shrinks. A slot holds at most one task that is wanted, besides
// those that it replaced.
//
//   - A slot is a member of its service while a task in it is not to be removed.
//     A service has as many members as replicas: missing ones are filled from the
//     lowest free number, from 1.
//   - A task that ended is replaced as its restart policy says. The replacement is
//     desired READY, so that it is placed and prepared meanwhile, until the delay
//     has passed since the end of the old one and nothing else in the slot is live.
//   - A task whose node is down, drained or gone is replaced at once.
//   - A task that is outdated is replaced at once, all slots together.
//   - Tasks of a service that is gone are desired REMOVE.
//
// The invariant is: never two live tasks in a slot. A replacement waits for its
// predecessor for as long as that one's node is there to stop it; only a task on
// a node that is down or gone, about which nothing can be known, is not waited for.
//
// # What it reads and writes
//
// It reads services, tasks and nodes. It creates tasks (service_id, slot, spec,
// spec_version, state NEW) and writes desired_state, nothing else; desired_state
// only rises. Tasks share the spec of their service.
//
// All times come from stored objects, so a new leader takes up where the last
// one was. The package has no state but a view of which slots exist.
package orchestrator
