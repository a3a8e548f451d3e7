// Package manager drives a running manager of ours with the public client
// library, as the reference's own command line and nodes do.
//
//   - Over the control socket: TLS that verifies nothing and shows no
//     certificate, the library's generated clients, every noun of the Control
//     API, Watch, Health, and the codes of what is refused.
//   - As a node: the library's ca package joins and renews, its agent package
//     keeps the session and runs tasks on an executor in memory. It says nothing
//     of itself that only our own nodes say.
//
// Every test starts a swarmd of its own, with its state in a temporary directory,
// on loopback, and stops it again. Nothing waits for a time: a test looks again
// when the manager's Watch API, or the executor, tells of a change.
package manager
