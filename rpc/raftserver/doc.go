// Package raftserver serves what managers say to each other: Health, Raft,
// RaftMembership and skep.v1.Replication.
//
// Health is whole: it answers SERVING for the server itself and, for each part by
// name, what the manager set last; a name that nobody set is NotFound.
//
// Replication takes batches of raft's messages from managers of ours, and snapshots in
// chunks that go on where they were interrupted; Raft takes the messages of stock managers
// and resolves the addresses of members. What both promise:
//
//   - A message counts only when its sender is the node that the caller's certificate
//     names, over a connection of its own: forwarded callers and those of the socket are
//     refused. That is looked at for each batch and each chunk, so that who is removed is
//     cut off on streams that stand.
//   - Who was removed is told NotFound with the text of transport.TextRemoved, whoever speaks
//     for another member PermissionDenied. What is meant for another member, a vote of
//     somebody unknown, a proposal and what raft keeps to itself are dropped; a stock manager
//     is answered then as if they were taken. All of it is counted.
//   - What a member knows that others had on their disks is passed on before any of its messages,
//     and it is answered with what is known here.
//   - A call is answered when raft has the message in its queue.
//   - A snapshot is handed to raft only when each chunk and the whole have their sums.
//
// What Raft has for a group with stock managers in it (Healthy, Restore, MaxSnapshot) is not
// selected by any manager yet: without Restore a stock manager's snapshot is refused at its first
// part, and a candidate is not asked whether it can be reached.
//
// All methods may be called at once, and while Health is set.
package raftserver
