// Package manager wires raft, store, loops and servers of one manager together
// and owns their goroutines.
//
// Every manager replicates and answers reads. What runs only while leading is one
// list of parts, each a blocking Run(ctx): they start together after the swarm is
// founded and this leader has applied all that its log held at its election, and
// end together when leadership ends or one of them falls; nothing is started or
// stopped by name elsewhere. When one falls, which is logged, another manager leads
// and this one follows. If none can, it starts all of them again: the swarm's tasks
// and its data are there still, and what cannot be done without a leader would not be
// done by a manager that has ended either. It does so at once the first time, then
// after pauses from 1 s to 30 s, until they have run for a minute; meanwhile whoever
// asks is told what fell. Only what no start could mend ends the manager: that its
// log holds no swarm.
//
// A manager holds no state of its own: all is in the store, and so in raft's log.
package manager
