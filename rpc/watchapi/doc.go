// Package watchapi serves Watch: the changes of the cluster as they are
// committed, from this manager's own store.
//
// # Promises
//
//   - The first message is empty: from then on nothing is missed. Each further one
//     is one commit: all its changes that the request asks for, in order, and as
//     version the index of its log entry.
//   - A watch is exact, ordered and without gaps, or it ends with an error. One
//     that reads too slowly, or whose history is gone, ends with kind Exhausted;
//     resuming from a version that is no longer kept is a Precondition. In both
//     cases the client lists again and watches anew. A version that this manager
//     has not reached yet is Unavailable.
//   - resume_from gives all that came after that version, then goes on live.
//   - No event holds the data of a secret, a private key, a gossip key, an unlock
//     key or a join token.
//   - A watch costs a bounded number of changes that wait for it, and nothing for
//     what it did not ask for.
//
// # What can be asked for
//
// An entry names a kind of objects (or the kind of an extension, for its
// resources), a set of actions, and filters that must all hold. Filters look at
// the object as it is after the change, or as it was when it is removed. A filter
// that says nothing about its kind of objects is Invalid, but for the
// referenced_* ones, which hold for kinds that refer to nothing. No entries ask
// for everything.
package watchapi
