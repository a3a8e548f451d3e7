package testcluster_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/api/skep"
	"skep/client"
	"skep/internal/testcluster"
	"skep/vfs"
)

// Fault 10 of the reliability promises: the certificate of a manager whose disk is full when it
// is to be renewed.
func TestACertificateIsRenewedOnceThereIsSpaceAndKeptUntilThen(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Managers(3)
		w := c.Writers(4, "m1", "m2", "m3")
		name := c.Others(c.AwaitLeader())[c.Rand.IntN(2)]
		m := c.Machine(name)
		before := certificate(c, name)
		fault := m.Disk.Inject(vfs.Rule{Op: vfs.OpWrite, Name: "swarm-*", Err: syscall.ENOSPC})
		swarm := c.Swarm()
		spec := proto.CloneOf(swarm.GetSpec())
		spec.CaConfig.ForceRotate++ // all have to have another certificate
		if err := c.Ask(func(ctx context.Context, m client.Clients) error {
			_, err := m.Control.UpdateCluster(ctx, &api.UpdateClusterRequest{ClusterId: swarm.GetId(), ClusterVersion: swarm.GetMeta().GetVersion(), Spec: spec})
			return err
		}); err != nil {
			c.T().Fatal(err)
		}
		c.Await("a renewal has found the disk full", time.Minute, func() error {
			if fault.Hits() < 2 {
				return fmt.Errorf("it was tried %d times", fault.Hits())
			}
			return nil
		})
		if after := certificate(c, name); after != before {
			c.T().Errorf("without space its certificate is %s, and was %s", after, before)
		}
		if !m.Running() {
			c.T().Fatal("it has ended")
		}
		w.Next(testcluster.WriteGap)
		fault.Remove()
		c.Await("its certificate is another and the root is replaced", 30*time.Second, func() error {
			if certificate(c, name) == before || c.Swarm().GetRootCa().GetRootRotation() != nil {
				return fmt.Errorf("it is still %s", before)
			}
			return nil
		})
		if err := m.Stop(); err != nil {
			c.T().Errorf("it ends with %v", err)
		}
		m.Restart()
		c.AwaitManager(name)
	})
}

// Fault 10 of the reliability promises: whatever a node has to write when its role changes.
func TestANodeWhoseDiskIsFullWhenItsRoleChangesKeepsItsTasksAndFollowsLater(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"state.json.new", "swarm-node.*", "*.log.tmp"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
				c.Managers(3)
				c.Workers(1)
				c.Observe("m1", "m2", "m3")
				kept := c.KeepsTasks(c.Deploy("web", 4))
				w1 := c.Machine("w1")
				for _, role := range []api.NodeRole{api.NodeRole_MANAGER, api.NodeRole_WORKER} {
					fault := w1.Disk.Inject(vfs.Rule{Op: vfs.OpCreate | vfs.OpWrite, Name: file, Err: syscall.ENOSPC})
					if err := c.SetRole("w1", role); err != nil {
						c.T().Fatal(err)
					}
					c.Wait(10 * time.Second)
					if !w1.Running() {
						c.T().Fatalf("made a %s on a full disk, it has ended: %v", role, w1.Ended(time.Second))
					}
					if role == api.NodeRole_MANAGER && fault.Hits() == 0 {
						c.T().Fatal("it had nothing to write")
					}
					if role == api.NodeRole_MANAGER && file != "swarm-node.*" {
						wantSaid(c, "w1", "the disk of the state directory")
					}
					fault.Remove()
					if role == api.NodeRole_MANAGER {
						c.AwaitManager("w1")
					} else {
						c.Await("it is no manager", time.Minute, func() error { return gone(c, "w1") })
					}
				}
				c.AwaitReady("w1")
				kept()
			})
		})
	}
}

// wantSaid waits until a machine's node says on its socket why it is not yet what it is to be.
func wantSaid(c *testcluster.Cluster, name, why string) {
	c.T().Helper()
	c.Await(name+" says why it does not start", 10*time.Second, func() error {
		is := c.Status(name)
		if is.GetState() != skep.StatusResponse_STARTING || !strings.Contains(is.GetMessage(), why) {
			return fmt.Errorf("it is %v", is)
		}
		return nil
	})
}
