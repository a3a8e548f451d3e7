// Package dispatcher is the Dispatcher service: the sessions of the nodes, on
// the manager that leads.
//
// A session is known from memory alone. The store learns of a node when it
// registers (READY, its description and address; nothing is written when that is
// what it says already) and when its heartbeats cease (DOWN). A new leader
// writes nothing: every node that is not DOWN has a fresh grace period, twice as
// long as usual, to come back in.
//
//   - Session, Heartbeat, Assignments, Tasks: a stream lives in the one goroutine
//     that gRPC gives it; there is no timer for each node. What is sent comes from
//     the committed head and is complete or follows what was sent without a gap.
//     Changes gather only while a message is being sent.
//   - UpdateTaskStatus answers after its commit. An item that is not the node's
//     own is refused alone; one that is unknown, older or equal is ignored.
//   - Only the caller's own node is ever served, whatever a request says.
//
// Writes: status and description of nodes; status of tasks from ACCEPTED to
// REJECTED, as their node reports it; the publish status of volumes.
//
// The manager runs Run while it leads. When it ends, every session ends with
// Aborted and the nodes look for another manager.
package dispatcher
