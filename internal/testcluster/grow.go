package testcluster

import (
	"strconv"

	"skep/api"
)

// Found starts a machine that founds the swarm, and waits until it leads.
func (c *Cluster) Found(name string) *Machine {
	c.t.Helper()
	m := c.newMachine(name)
	c.Logf("%s founds a swarm", name)
	m.start()
	c.AwaitLeader()
	return m
}

// JoinManager adds a machine that joins as a manager, and waits until it votes.
func (c *Cluster) JoinManager(name string) *Machine {
	c.t.Helper()
	m := c.Prepare(name, api.NodeRole_MANAGER)
	c.Logf("%s joins as a manager", name)
	m.start()
	c.AwaitManager(name)
	c.Wait(votes)
	return m
}

// JoinWorker adds a machine that joins as a worker, and waits until it is ready.
func (c *Cluster) JoinWorker(name string) *Machine {
	c.t.Helper()
	m := c.Prepare(name, api.NodeRole_WORKER)
	c.Logf("%s joins as a worker", name)
	m.start()
	c.AwaitReady(name)
	return m
}

// Managers founds a swarm of that many managers, m1, m2, …
func (c *Cluster) Managers(n int) {
	c.t.Helper()
	c.Found("m1")
	for i := 2; i <= n; i++ {
		c.JoinManager("m" + strconv.Itoa(i))
	}
}

// Workers joins that many workers, w1, w2, …
func (c *Cluster) Workers(n int) {
	c.t.Helper()
	for i := 1; i <= n; i++ {
		c.JoinWorker("w" + strconv.Itoa(i))
	}
}

// Add adds a machine that knows of no swarm and does not run: set its Config or Restore a
// disk, then Restart it.
func (c *Cluster) Add(name string) *Machine {
	c.t.Helper()
	return c.newMachine(name)
}

// Prepare adds a machine that knows where to join in a role, and does not start it:
// Restart does.
func (c *Cluster) Prepare(name string, role api.NodeRole) *Machine {
	c.t.Helper()
	leader := c.Leader()
	tokens := c.Swarm().GetRootCa().GetJoinTokens()
	m := c.newMachine(name)
	m.Config.JoinAddr = c.Machine(leader).Addr()
	m.Config.JoinToken = tokens.GetWorker()
	if role == api.NodeRole_MANAGER {
		m.Config.JoinToken = tokens.GetManager()
	}
	return m
}
