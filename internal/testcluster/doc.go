// Package testcluster runs whole swarms in one test, inside a testing/synctest
// bubble: managers and workers as node.Run makes them, on machines with a network, a
// disk and an executor in memory.
//
// A test founds a swarm, joins nodes, asks of them over their own sockets, and breaks
// things: Kill, CutPower and Pause a machine, Image and Restore its disk; Crash kills a process or cuts the power of a machine, whose disk then holds
// one of the states that a power cut may leave; Partition, Cut and the other methods of
// Net break the network; SetClock moves a machine's wall clock. Writers record what they
// asked and were told. After the test's function, Run checks what must hold after every
// fault (see promises.go), stops everything, and so finds what does not end. A test that
// fails prints its seed and its story.
//
// The environment's SKEP_SEED=N runs each test with that seed alone; SKEP_SEEDS=N multiplies
// the number of seeds by N.
//
// A seed repeats the network's delays, what a power cut leaves and what the test itself
// draws from Rand; it does not repeat the order in which goroutines run.
package testcluster
