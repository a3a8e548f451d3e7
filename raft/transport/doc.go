// Package transport carries raft's messages to the other managers.
//
// What it promises:
//
//   - SetMembers, Send, Announce and Tell never wait. Each member has a queue of its own, bounded
//     in messages and bytes; what finds it full is dropped and reported to the [Host], as is
//     what was under way when a connection broke.
//   - Messages to a member arrive in the order in which they were sent, or not at all, but for
//     one thing: what decides elections, shows that a leader is there, or answers overtakes
//     entries, and a snapshot has a connection of its own.
//   - Two members that connect tell each other first what they know that members had on their
//     disks: who connects with its hello, the other with its answer. Nothing of a member but a
//     snapshot arrives before. Whoever finds out more says so again ([Transport.Tell]).
//   - Whoever leads is answered, also while it is not known here as a member ([Transport.Meet]).
//   - A message reaches only the manager whose certificate has the node id of the member. One
//     that answers as somebody else is left, and another member is asked for the address.
//   - A member that moved is looked for, beside where the group's record has it, where it says
//     itself that it is when it connects, where another member reaches it, where it answered in
//     another's place, and at [Config.Elsewhere]. So members find each other as soon as one way
//     between each of them and the rest is known to either end.
//   - A connection on which nothing is acknowledged for [Config.Timeout], and for as long as
//     its bytes take at one Mbit/s, counts as broken, whatever TCP thinks of it. While a member
//     is away new connections are tried beside those that hang, at most a second apart.
//   - A snapshot that is interrupted goes on where it was, with the same bytes. What is sent
//     and not acknowledged is bounded, and shrinks on a slow link.
//
// With a manager of ours that is skep.v1.Replication: one stream of batches, gathered while
// the previous one is being sent. A stock manager answers that it does not know it, and gets
// one StreamRaftMessage a message, or ProcessRaftMessage if it does not know that one either.
//
// [Transport.Run] owns all goroutines: one for each member, its helpers, and one for
// each snapshot under way. The receiving side is package rpc/raftserver.
package transport
