package testcluster_test

import (
	"testing"
	"time"

	"skep/internal/testcluster"
)

// Fault 21 of the reliability promises. A manager that is ten years ahead takes the certificates of
// all others for expired, and does not lead them; it starts, and is one of them when its clock is right.
func TestAClockTenYearsAheadKeepsNoManagerFromStarting(t *testing.T) {
	t.Parallel()
	const ahead = 10 * 365 * 24 * time.Hour
	t.Run("the leader of three", func(t *testing.T) {
		t.Parallel()
		testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
			c.Managers(3)
			w := c.Writers(4, "m1", "m2", "m3")
			w.Next(testcluster.WriteGap)
			leader := c.AwaitLeader()
			c.Machine(leader).SetClock(ahead)
			c.Wait(30 * time.Second)
			w.Next(testcluster.WriteGap)
			c.Kill(leader)
			c.Restart(leader)
			w.Next(testcluster.WriteGap)
			c.Wait(30 * time.Second)
			if !c.Machine(leader).Running() {
				c.T().Errorf("%s does not run any more", leader)
			}
			c.Machine(leader).SetClock(0)
			c.Await(leader+" is heard again", 5*time.Minute, func() error { return read(c, leader) })
			w.Next(testcluster.WriteGap)
		})
	})
	t.Run("the only manager", func(t *testing.T) {
		t.Parallel()
		testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
			c.Found("m1")
			w := c.Writers(2, "m1")
			w.Next(testcluster.WriteGap)
			c.Machine("m1").SetClock(ahead)
			c.Wait(30 * time.Second)
			w.Next(testcluster.WriteGap)
			c.Kill("m1")
			c.Restart("m1")
			w.Next(testcluster.WriteGap)
			c.Machine("m1").SetClock(0)
			c.Kill("m1")
			c.Restart("m1")
			w.Next(testcluster.WriteGap)
		})
	})
}
