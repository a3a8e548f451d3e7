// Package rotator brings what changes slowly to where it is wanted: the roles of
// nodes, the keys of the networks, and the root that certificates come from.
//
// # What it decides
//
//   - Roles. A worker that is to be a manager becomes one at once. A manager that
//     is to be a worker first leaves raft and only then becomes one; as long as
//     the others could not go on without it, it stays, and its status says why. A
//     leader that is to leave hands over, and the next one goes on. What is in
//     raft without being a manager of this swarm (its node was removed) is put
//     out: that is looked for when leadership begins, and every half minute.
//   - Network keys. The cluster has three for each of two subsystems. Every period
//     the oldest of each goes and a new one comes, one step at a time, as engines
//     can follow no more than that.
//   - The root. While the swarm rotates to another, nodes are told to renew, some each
//     second. When every node says that its certificate is the new root's, that becomes
//     the swarm's, with new join tokens. A node that is down holds the rotation up until
//     it is back or removed: it would trust nobody any more. One that was never seen has
//     the certificate that it was given.
//
// # What it reads and writes
//
// It reads nodes and, outside the store, the members of raft. It writes a node's
// role (and status message, while a demotion waits) and the state of its certificate,
// the cluster's network keys and root, and one Resource of kind KeysKind that says when they were changed.
//
// # Promises
//
// Level, not edge: whatever leads next comes to the same decisions, and writes
// nothing that is as it should be. Raft is changed by effects only, which look
// again at what is wanted before they do anything.
package rotator
