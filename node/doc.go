// Package node is one machine of a swarm: its identity on disk, its socket, an
// agent always, and a manager when its certificate says so.
//
// Run blocks until its context ends, stops everything that it started in order
// (tasks if asked, agent, servers, manager) and returns. The state directory
// belongs to one process at a time; a directory that is not ours, or that a newer
// version wrote, is left untouched. The socket answers skep.v1.Local on every
// node, and the whole control API where a manager runs.
//
// Nothing here decides about services or tasks.
package node
