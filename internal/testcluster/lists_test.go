package testcluster_test

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/api"
	"skep/internal/testcluster"
)

// kept returns the managers in a machine's state.json.
func kept(c *testcluster.Cluster, name string) []string {
	c.T().Helper()
	file, err := c.Machine(name).Disk.Open(testcluster.StateDir + "/state.json")
	if err != nil {
		c.T().Fatal(err)
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		c.T().Fatal(err)
	}
	var state struct{ Managers []string }
	if err := json.Unmarshal(data, &state); err != nil {
		c.T().Fatal(err)
	}
	return state.Managers
}

// knows waits until an agent has these managers in its hands and on its disk.
func knows(c *testcluster.Cluster, name string, managers ...string) {
	c.T().Helper()
	var want []string
	for _, m := range managers {
		want = append(want, c.Machine(m).Addr())
	}
	slices.Sort(want)
	c.Await(name+" knows "+strings.Join(managers, ", "), time.Minute, func() error {
		got := slices.Sorted(slices.Values(c.Status(name).GetManagers()))
		if !slices.Equal(got, want) {
			return fmt.Errorf("its list is %v, want %v", got, want)
		}
		if got := kept(c, name); !slices.Equal(got, want) {
			return fmt.Errorf("its state.json has %v, want %v", got, want)
		}
		return nil
	})
}

// become asks for another role until nobody else has changed the node meanwhile.
func become(c *testcluster.Cluster, name string, role api.NodeRole) {
	c.T().Helper()
	c.Await(name+" is to be another", time.Minute, func() error { return c.SetRole(name, role) })
}

// Manager lists reach agents through their sessions, and stay on their disks: they follow joins,
// removals and moved addresses, and no task notices.
func TestAgentsFollowTheListOfManagers(t *testing.T) {
	t.Parallel()
	testcluster.Run(t, 1, func(c *testcluster.Cluster) {
		c.Found("m1")
		c.Workers(1)
		tasksAreKept := c.KeepsTasks(c.Deploy("web", 2))
		knows(c, "w1", "m1")
		c.JoinManager("m2")
		knows(c, "w1", "m1", "m2")
		c.JoinManager("m3")
		knows(c, "w1", "m1", "m2", "m3")
		knows(c, "m2", "m1", "m2", "m3") // the agents of managers, too

		// One that moved is at its new address only.
		follower := c.Others(c.AwaitLeader(), "w1")[0]
		if err := c.Machine(follower).Stop(); err != nil {
			c.T().Fatal(err)
		}
		c.Machine(follower).Move("10.0.7.7")
		c.Restart(follower)
		c.AwaitManager(follower)
		knows(c, "w1", "m1", "m2", "m3")

		// One that was demoted is none, and the lists name another when it is promoted again.
		become(c, follower, api.NodeRole_WORKER)
		rest := c.Others(follower, "w1")
		knows(c, "w1", rest...)
		knows(c, follower, rest...)
		become(c, follower, api.NodeRole_MANAGER)
		knows(c, "w1", "m1", "m2", "m3")

		// A worker that was away meanwhile asks those of its list that are left, and then has the
		// list of today.
		if err := c.Machine("w1").Stop(); err != nil {
			c.T().Fatal(err)
		}
		c.AwaitManager(follower)
		become(c, follower, api.NodeRole_WORKER)
		c.Await(follower+" has left", time.Minute, func() error { return gone(c, follower) })
		c.Machine(follower).Kill()
		c.Await(follower+" is removed", time.Minute, func() error { return c.RemoveNode(follower, true) })
		if got := kept(c, "w1"); len(got) != 3 {
			c.T().Errorf("a worker that does not run keeps %v, want the three managers of before", got)
		}
		c.Restart("w1")
		c.AwaitReady("w1")
		knows(c, "w1", rest...)
		tasksAreKept()
	})
}
