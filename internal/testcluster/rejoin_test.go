package testcluster_test

import (
	"testing"
	"time"

	"skep/api"
	"skep/internal/testcluster"
)

// A manager that was away knows a node that was demoted and promoted meanwhile as another member,
// at first. If that one leads, it is also the only one who can tell.
func TestALeaderThatBecameAnotherMemberIsHeardByWhoWasAway(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Managers(5)
		c.Wait(time.Second)
		away, again := "m5", "m2"
		if c.AwaitLeader() == away {
			away, again = "m1", "m2"
		}
		c.Kill(away)
		if err := c.SetRole(again, api.NodeRole_WORKER); err != nil {
			c.T().Fatalf("demote %s: %v", again, err)
		}
		c.Await(again+" is no manager", time.Minute, func() error { return gone(c, again) })
		c.Wait(10 * time.Second) // it has become a worker
		if err := c.SetRole(again, api.NodeRole_MANAGER); err != nil {
			c.T().Fatalf("promote %s: %v", again, err)
		}
		c.AwaitManager(again)
		c.Wait(5 * time.Second) // it votes
		for leader := c.AwaitLeader(); leader != again; leader = c.AwaitLeader() {
			c.Isolate(leader)
			c.AwaitAnotherLeader(leader, time.Minute)
			c.Heal()
		}
		w := c.Writers(4, again)
		w.Next(testcluster.WriteGap)
		c.Restart(away)
		c.Await(away+" has what was written while it was away", 20*time.Second, func() error { return read(c, away) })
		if leader := c.AwaitLeader(); leader != again {
			c.T().Errorf("%s leads, want %s: nobody who leads was to be troubled", leader, again)
		}
		w.Next(testcluster.WriteGap)
	})
}
