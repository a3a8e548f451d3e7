package testcluster

// Restart is Machine.Restart.
func (c *Cluster) Restart(name string) { c.t.Helper(); c.Machine(name).Restart() }

// Kill is Machine.Kill.
func (c *Cluster) Kill(name string) { c.t.Helper(); c.Machine(name).Kill() }

// Crash kills swarmd on a machine, or cuts the machine's power.
func (c *Cluster) Crash(name string, powerLoss bool) {
	c.t.Helper()
	if powerLoss {
		c.Machine(name).CutPower()
	} else {
		c.Machine(name).Kill()
	}
}

// Partition parts the network into groups; who is in none reaches all. Heal mends it.
func (c *Cluster) Partition(groups ...[]string) {
	c.Logf("the network parts into %v", groups)
	c.Net.Partition(groups...)
}

// Isolate cuts a machine off from all others.
func (c *Cluster) Isolate(name string) {
	c.Logf("%s is cut off", name)
	c.Net.Isolate(name)
}

// Heal mends the network.
func (c *Cluster) Heal() {
	c.Logf("the network heals")
	c.Net.Heal()
}
