// Package memnet is a network in memory: hosts with names and addresses, TCP-like
// connections between them and unix sockets on them, and faults that a seed
// repeats. Whole clusters run on it inside testing/synctest bubbles.
//
// Everything that waits, waits in a way that a bubble knows: there is no file
// descriptor, and all time is package time's. No goroutine is started but those of
// timers, which never wait.
//
// A connection is two streams of bytes, each with a window: who writes more than
// the other end has read waits. What a fault does to a stream is what it does to
// TCP: while a link is cut, bytes are kept and sent again some time after it heals,
// acknowledgements that cannot pass keep the window shut, and neither end is told.
// A process that is killed resets its connections; a host that loses power falls
// silent, and resets what it no longer knows once it is back. A new connection
// across a cut link waits, sends its request again after 1, 2, 4… seconds, and times
// out after two minutes. TCP's own keep-alive and its limit on retransmissions are
// not there: who must notice a silent peer has to do so itself.
//
// Jitter and loss come from generators of each connection, made from the seed, the
// two hosts and the connection's number between them: a run that opens and writes
// in the same order sees the same delays. The order in which goroutines that are
// ready at the same moment run is the Go scheduler's and no seed's.
package memnet
