// Command swarmd makes this machine a node of a swarm: an agent always, a manager
// on the machine that founds the swarm.
package main
