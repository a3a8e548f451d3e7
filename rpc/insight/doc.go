// Package insight serves Insight: what a person asks of a swarm.
//
// ClusterHealth judges the managers. The judgement is one pure function of what
// raft knows at this moment, of the nodes and the cluster as committed, and of
// the time; whoever serves it leads, since only the leader knows how far the
// others are. It reads and writes nothing; what it keeps, while it leads, is since
// when managers are unreachable.
//
// No key, token or secret is in an answer. All methods may be called at once.
package insight
