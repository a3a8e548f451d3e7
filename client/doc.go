// Package client is how nodes and tools reach managers: connections over the
// unix socket or with mutual TLS, the choice among several managers, and the
// joining of a swarm.
//
// What it promises: a root is used only when it is the one that the join token
// names; a certificate only when that root signed it for the key that was made
// here. Errors name the manager that was asked and what to do. Nothing is tried
// again that another attempt cannot mend. No goroutine outlives a call.
package client
