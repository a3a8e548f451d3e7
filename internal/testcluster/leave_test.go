package testcluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"skep/api"
	"skep/api/skep"
	"skep/client"
	"skep/internal/testcluster"
	"skep/vfs"
)

// leave asks a machine's node to leave, and returns how that ends for who asked.
func leave(ctx context.Context, c *testcluster.Cluster, name string) error {
	c.T().Helper()
	c.Logf("%s is told to leave", name)
	stream, err := c.Machine(name).Client().Local.Leave(ctx, &skep.LeaveRequest{Force: true})
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// wantLeft waits until a machine's swarmd has ended and has nothing of the swarm.
func wantLeft(c *testcluster.Cluster, name string) {
	c.T().Helper()
	m := c.Machine(name)
	if err := m.Ended(time.Minute); err != nil {
		c.T().Errorf("swarmd on %s, which leaves, ends with %v", name, err)
	}
	if running := m.RunningTasks(); len(running) > 0 {
		c.T().Errorf("%v still run on %s, which has left", running, name)
	}
	if left := append(m.Files("certificates"), m.Files("raft")...); len(left) > 0 {
		c.T().Errorf("%s has left and has %v", name, left)
	}
}

// wantShutDown waits until the managers know that all tasks that were started on a machine were shut down.
func wantShutDown(c *testcluster.Cluster, name string) {
	c.T().Helper()
	started := c.Machine(name).Started()
	c.Await("the managers know how the tasks ended", 10*time.Second, func() error {
		return c.Ask(func(ctx context.Context, m client.Clients) error {
			r, err := m.Control.ListTasks(ctx, &api.ListTasksRequest{})
			if err != nil {
				return err
			}
			ended := 0
			for _, t := range r.GetTasks() {
				if started[t.GetId()] > 0 && t.GetStatus().GetState() == api.TaskState_SHUTDOWN {
					ended++
				}
			}
			if ended == 0 || ended < len(started) {
				return fmt.Errorf("of %d tasks %d were shut down", len(started), ended)
			}
			return nil
		})
	})
}

func TestANodeGoesOnLeavingWhenWhoAskedForItIsGone(t *testing.T) {
	t.Parallel()
	for _, role := range []api.NodeRole{api.NodeRole_WORKER, api.NodeRole_MANAGER} {
		t.Run(strings.ToLower(role.String()), func(t *testing.T) {
			t.Parallel()
			testcluster.Run(t, 1, func(c *testcluster.Cluster) {
				c.Managers(3)
				goes := c.Prepare("goes", role)
				goes.Stopping = 3 * time.Second
				goes.Restart()
				c.AwaitReady("goes")
				if role == api.NodeRole_MANAGER {
					c.AwaitManager("goes")
					c.Wait(time.Second) // it votes
				}
				c.DeployOn("node.hostname==goes", "web", 2)
				ctx, cancel := context.WithTimeout(c.T().Context(), time.Second)
				defer cancel()
				if err := leave(ctx, c, "goes"); err == nil {
					c.T().Error("it has left within a second, though its tasks take 3 to stop")
				}
				wantLeft(c, "goes")
				wantShutDown(c, "goes")
				c.NoChecks() // nobody is there for the service
			})
		})
	}
}

// Also who asks on the manager's own socket is told to the end, though the manager has ended before.
func TestALeaderThatLeavesStopsItsTasksAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 2, func(c *testcluster.Cluster) {
		c.Managers(4)
		w := c.Writers(4, "m1", "m2", "m3", "m4")
		leader := c.AwaitLeader()
		c.Machine(leader).Stopping = 3 * time.Second
		c.DeployOn("node.hostname=="+leader, "web", 2)
		if err := leave(c.T().Context(), c, leader); err != nil {
			c.T().Errorf("who asked is told: %v", err)
		}
		wantLeft(c, leader)
		c.AwaitAnotherLeader(leader, testcluster.WriteGap)
		w.Next(testcluster.WriteGap)
		wantShutDown(c, leader)
		c.NoChecks() // nobody is there for the service
	})
}

func TestALeaveThatIsRefusedStopsNothing(t *testing.T) {
	t.Parallel()
	testcluster.Run(t, 1, func(c *testcluster.Cluster) {
		c.Managers(3)
		leader := c.AwaitLeader()
		others := c.Others(leader)
		kept := c.KeepsTasks(c.DeployOn("node.hostname=="+others[0], "web", 2))
		c.Kill(others[1])
		c.Wait(10 * time.Second) // that is noticed
		err := leave(c.T().Context(), c, others[0])
		if err == nil || !strings.Contains(err.Error(), "could not agree on anything") {
			c.T().Errorf("one of two managers that are left of three may not leave; it is told: %v", err)
		}
		kept()
		// It takes tasks as before.
		c.DeployOn("node.hostname=="+others[0], "more", 2)
		c.Restart(others[1])
	})
}

// Handing over may fail once and succeed the next time.
func TestALeaderThatNobodyTakesOverFromLeavesWhenSomebodyCan(t *testing.T) {
	t.Parallel()
	testcluster.Run(t, 1, func(c *testcluster.Cluster) {
		c.Managers(4)
		leader := c.AwaitLeader()
		told := make(chan error, 1)
		c.Isolate(leader)
		go func() { told <- leave(c.T().Context(), c, leader) }()
		c.Wait(2500 * time.Millisecond)
		c.Heal()
		if err := <-told; err != nil {
			c.T().Errorf("it is told: %v", err)
		}
		wantLeft(c, leader)
	})
}

func TestAManagerThatFallsWhileItIsToLeaveSaysWhy(t *testing.T) {
	t.Parallel()
	testcluster.Run(t, 1, func(c *testcluster.Cluster) {
		c.Managers(3)
		leader := c.AwaitLeader()
		falls := c.Machine(leader)
		// What is being written when it is told to leave comes to nothing a while later.
		falls.Disk.Inject(vfs.Rule{Op: vfs.OpWrite | vfs.OpSync, Name: "*.log", Delay: 3 * time.Second, Err: syscall.EIO})
		w := c.Writers(1, leader)
		c.Wait(time.Second)
		c.Isolate(leader)
		told := make(chan error, 1)
		go func() { told <- leave(c.T().Context(), c, leader) }()
		if err := falls.Ended(time.Minute); err == nil || !strings.Contains(err.Error(), "input/output error") {
			c.T().Errorf("swarmd ends with %v", err)
		}
		if err := <-told; err == nil {
			c.T().Error("who asked is told that it has left")
		}
		w.Stop()
		c.NoChecks()
	})
}
