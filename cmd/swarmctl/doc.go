// Command swarmctl controls a swarm through the socket of a node.
package main
