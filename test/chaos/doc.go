// Package chaos runs a swarm of real processes, three managers and two workers,
// each in a network namespace of its own, hurts it, and looks at what its users see.
//
// While 64 clients write through the sockets of all three managers, the leader is
// killed, stopped for five seconds, or cut off from everybody, again and again. Of
// each round one line says how long it took until a write was acknowledged that began
// after the fault. What must hold: that time is at most 3 s each and 1.5 s in the
// median, every acknowledged write is there on every manager, the whole history is
// linearizable, and no task was restarted: neither its object nor its process changed.
//
// `make chaos` runs 50 rounds of each kind, `make chaos-short` a few; CHAOS_ROUNDS
// says how many. It needs root, `ip` and `nft`, and says so when it lacks them. The
// namespaces bear the process ID of the run, so that runs do not meet; they and all
// that runs in them are gone when it ends, also by Ctrl-C. After a failure the logs of
// the nodes stay, in a directory that it names.
//
// It is a module of its own, since `make test` must need neither root nor minutes.
package chaos
