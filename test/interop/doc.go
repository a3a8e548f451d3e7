// Package interop checks Skep against the public SwarmKit module, used as a
// library, and imports no package of ours: the two need different versions of
// etcd's raft and cannot be linked together. What it knows of Skep are the
// .proto files and the binaries in bin/.
//
//   - contract compares descriptors and exchanges messages.
//   - built finds our binaries for a test that runs them.
//   - manager drives a running manager with the public client and runs tasks
//     for it on the public agent.
//
// `make interop` at the root builds the binaries and runs all of it.
package interop
