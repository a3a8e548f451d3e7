// Package controlapi serves Control: what users ask of the cluster. Each method
// does one thing: it checks the request, writes in one transaction what it asks
// for, and answers. Everything else (tasks for a service, work for a node) is
// what the loops make of the write.
//
// # Promises
//
//   - A request that is refused has changed nothing. RemoveNode alone needs more
//     than one transaction when the node has many tasks; it can be repeated.
//   - Whatever depends on other objects (names and ports taken, secrets and configs
//     that must exist) is checked in the transaction that writes.
//   - Errors are of package model's kinds and say what is wrong, why, and what to
//     do next. An update with a version that is not the current one is a Conflict.
//   - Lists are ordered by ID. Filters of different sorts must all hold, of one
//     sort any; secrets, configs and resources match any of names, name prefixes
//     and ID prefixes. Names match with their case.
//   - A removed node is remembered as a resource of its own, by its ID; the cluster is
//     answered with all of them in its list. Users read such resources and do not write them.
//   - No answer holds the data of a secret, a private key, a gossip key or an
//     unlock key. Join tokens are shown to those who may read the cluster.
//
// # Reads, writes, concurrency
//
// Reads are answered from the store's committed head, without copies: answers
// share the objects of the snapshot and must not be changed. Writes go through
// store.Update and return when committed. All methods may be called at once.
// Where the manager does not lead, writes fail with kind Unavailable.
package controlapi
