// Package cli is swarmctl: a command for each verb, a file for each noun.
//
// It reads and changes a swarm through the control API on a node's unix socket
// and holds no state of its own. Data goes to standard output, progress and
// warnings to standard error. Tables are for people; "-o json" is protojson with
// proto field names, one array for a list and one object for an inspect, and
// stays stable. Names, IDs and unique prefixes of either are accepted wherever
// an object is named.
//
// The exit status says how a command ended: see [ExitStatus].
package cli
