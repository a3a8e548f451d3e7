package testcluster

import (
	"context"
	"fmt"
	"time"

	"skep/api"
)

// Leader names the machine whose manager says that it leads, "" if none does. Of two
// that say so, the one that was cut off has not noticed yet: it is the first that answers
// a linearizable read.
func (c *Cluster) Leader() string {
	c.t.Helper()
	return c.leaderOf(c.names)
}

func (c *Cluster) leaderOf(names []string) string {
	c.t.Helper()
	var says []string
	for _, name := range names {
		if is := c.Status(name); is.GetLeader() {
			says = append(says, name)
		}
	}
	if len(says) == 1 {
		return says[0]
	}
	for _, name := range says {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		_, err := c.Control(name).ListClusters(ctx, &api.ListClustersRequest{})
		cancel()
		if err == nil {
			return name
		}
	}
	return ""
}

// AwaitLeader waits until a manager leads, and names its machine.
func (c *Cluster) AwaitLeader() string {
	c.t.Helper()
	var leader string
	c.Await("a leader", patience, func() error {
		if leader = c.Leader(); leader == "" {
			return fmt.Errorf("nobody leads: %s", c.states())
		}
		return nil
	})
	return leader
}

// AwaitAnotherLeader waits until a machine other than old leads, and names it.
func (c *Cluster) AwaitAnotherLeader(old string, limit time.Duration) string {
	c.t.Helper()
	var leader string
	c.Await("a leader other than "+old, limit, func() error {
		if leader = c.leaderOf(c.Others(old)); leader == "" {
			return fmt.Errorf("none leads: %s", c.states())
		}
		return nil
	})
	return leader
}

func (c *Cluster) states() string {
	var out string
	for _, name := range c.names {
		is := c.Status(name)
		switch {
		case is == nil && c.machines[name].Running():
			out += name + " does not answer; "
		case is == nil:
			out += name + " is down; "
		default:
			out += fmt.Sprintf("%s: %v leader=%v %s; ", name, is.GetState(), is.GetLeader(), is.GetMessage())
		}
	}
	return out
}

// AwaitManager waits until a machine's manager votes and answers.
func (c *Cluster) AwaitManager(name string) {
	c.t.Helper()
	c.Await(name+" is a manager", patience, func() error {
		node, err := c.Node(name)
		switch {
		case err != nil:
			return err
		case node.GetManagerStatus() == nil:
			return fmt.Errorf("it has no manager: %s", c.states())
		case node.GetManagerStatus().GetReachability() != api.RaftMemberStatus_REACHABLE:
			return fmt.Errorf("its manager is %v", node.GetManagerStatus().GetReachability())
		}
		ctx, cancel := context.WithTimeout(c.t.Context(), callLimit)
		defer cancel()
		_, err = c.Control(name).ListClusters(ctx, &api.ListClustersRequest{})
		return err
	})
	c.AwaitReady(name)
}

// AwaitReady waits until a machine's node is ready.
func (c *Cluster) AwaitReady(name string) {
	c.t.Helper()
	c.Await(name+" is ready", patience, func() error {
		node, err := c.Node(name)
		if err != nil {
			return err
		}
		if node.GetStatus().GetState() != api.NodeStatus_READY {
			return fmt.Errorf("it is %v: %s", node.GetStatus().GetState(), c.states())
		}
		return nil
	})
}

// Await waits until f returns nil, and fails the test with its last error.
func (c *Cluster) Await(what string, limit time.Duration, f func() error) {
	c.t.Helper()
	begun := time.Now()
	for {
		err := f()
		if err == nil {
			if took := time.Since(begun); took > poll {
				c.Logf("%s: after %v", what, took)
			}
			return
		}
		if time.Since(begun) > limit {
			c.t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		c.Wait(poll)
	}
}

// Wait lets time pass.
func (c *Cluster) Wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
