// Package manager wires raft, store, loops and servers of one manager together
// and owns their goroutines.
//
// Every manager replicates and answers reads. What runs only while leading is one
// list of parts, each a blocking Run(ctx): they start together after the swarm is
// founded and this leader has applied all that its log held at its election, and
// end together when leadership ends or one of them falls. A part that falls ends
// the manager's leadership; nothing is started or stopped by name elsewhere.
//
// A manager holds no state of its own: all is in the store, and so in raft's log.
package manager
