package testcluster_test

import (
	"testing"

	"skep/internal/testcluster"
)

func TestASwarmOfOneRunsTasks(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Found("m1")
		c.Workers(2)
		c.Observe("m1")
		service := c.Deploy("web", 4)
		kept := c.KeepsTasks(service)
		w := c.Writers(4, "m1")
		c.Kill("m1")
		c.Restart("m1")
		w.Next(testcluster.WriteGap)
		kept()
	})
}

func TestThreeManagersAgree(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Managers(3)
		w := c.Writers(8, "m1", "m2", "m3")
		w.Next(testcluster.WriteGap)
	})
}
