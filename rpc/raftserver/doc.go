// Package raftserver serves what managers say to each other: Health, Raft and
// RaftMembership.
//
// Health is whole: it answers SERVING for the server itself and, for each part by
// name, what the manager set last; a name that nobody set is NotFound. Raft
// resolves the addresses of members. While a cluster has one manager nobody sends
// it raft messages or asks to join: those answer Unimplemented.
//
// All methods may be called at once, and while Health is set.
package raftserver
