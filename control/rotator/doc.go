// Package rotator brings what changes slowly to where it is wanted: the roles of
// nodes and the keys of the networks.
//
// # What it decides
//
//   - Roles. A worker that is to be a manager becomes one at once. A manager that
//     is to be a worker first leaves raft and only then becomes one; as long as
//     the others could not go on without it, it stays, and its status says why. A
//     leader that is to leave hands over, and the next one goes on. What is in
//     raft without being a manager of this swarm (its node was removed) is put out.
//   - Network keys. The cluster has three for each of two subsystems. Every period
//     the oldest of each goes and a new one comes, one step at a time, as engines
//     can follow no more than that.
//
// # What it reads and writes
//
// It reads nodes and, outside the store, the members of raft. It writes a node's
// role (and status message, while a demotion waits), the cluster's network keys,
// and one Resource of kind KeysKind that says when they were changed.
//
// # Promises
//
// Level, not edge: whatever leads next comes to the same decisions, and writes
// nothing that is as it should be. Raft is changed by effects only, which look
// again at what is wanted before they do anything.
package rotator
