// Package dispatch decides what each node should have, and which nodes are
// still there. rpc/dispatcher carries it over the wire.
//
// Set is the assignment set of one node as a steppable value: the node's tasks
// from ASSIGNED on, and the secrets and configs that those of them need which
// have not ended. It remembers what was sent and answers each change of the
// store with the messages that make the node equal again. Tasks are compared
// without their status, since that is the node's own news. A secret or config
// travels in the same or an earlier message than the task that needs it, and is
// taken back after the last such task has ended or is gone. A Set can be brought
// up to date from the changes (Apply) or from a snapshot alone (Sync), so a node
// whose changes were lost needs no new stream.
//
// Liveness is one timer wheel for the heartbeats of all nodes. A beat costs the
// same for one node and for ten thousand; Step says whose time is over.
//
// Orphans is the loop that gives up the tasks of a node that was down for a
// day. It reads nodes and tasks, and writes the status ORPHANED of tasks that
// their node can no longer report on.
//
// Nothing here has a goroutine, a clock, a lock or I/O. Set and Liveness are
// for one goroutine at a time.
package dispatch
