package testcluster_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/ca"
	"skep/client"
	"skep/internal/testcluster"
	"skep/raft/wal"
)

// Fault 29 of the reliability promises.
func TestACopiedStateDirectoryOfAnAgentDoesNotMakeSessionsAlternate(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Found("m1")
		c.Workers(2)
		c.Deploy("web", 4)
		c.Observe("m1")
		twin := c.Add("w1copy")
		twin.Restore(c.Machine("w1").Image())
		twin.Config.JoinAddr, twin.Config.JoinToken = "", ""
		twin.Restart()
		c.Wait(30 * time.Second)
		// One of the two has the session, and keeps it.
		seen := make(map[string]int)
		last, changes := "", 0
		for range 60 {
			c.Wait(500 * time.Millisecond)
			node, err := c.Node("w1")
			if err != nil {
				continue
			}
			at := node.GetStatus().GetAddr() + " " + node.GetDescription().GetHostname()
			seen[at]++
			if last != "" && last != at {
				changes++
			}
			last = at
		}
		if changes > 0 {
			c.T().Errorf("the node's session moved %d times in half a minute: %v", changes, seen)
		}
		if err := twin.Stop(); err != nil {
			c.Logf("the copy ends with: %v", err)
		}
	})
}

// Fault 29 of the reliability promises.
func TestACopiedStateDirectoryOfAManagerDoesNotServeBesideTheFirst(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Managers(3)
		w := c.Writers(6, "m1", "m2", "m3")
		c.Wait(2 * time.Second)
		twin := c.Add("m2copy")
		twin.Restore(c.Machine("m2").Image())
		twin.Restart()
		c.Wait(30 * time.Second)
		w.Next(testcluster.WriteGap)
		if twin.Running() && read(c, "m2copy") == nil && read(c, "m2") == nil {
			c.T().Error("a manager and its copy both answer")
		}
		if err := twin.Stop(); err != nil {
			c.Logf("the copy ends with: %v", err)
		}
		if !c.Machine("m2").Running() { // the copy was taken for it
			c.Restart("m2")
		}
	})
}

// Fault 30 of the reliability promises.
func TestAManagerRolledBackToAnOldCopyDoesNotHarmTheOthers(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 2, func(c *testcluster.Cluster) {
		c.Managers(3)
		w := c.Writers(6, "m1", "m2", "m3")
		c.Wait(time.Second)
		leader := c.AwaitLeader()
		name := c.Others(leader)[c.Rand.IntN(2)]
		old := c.Machine(name).Image()
		c.Wait(5 * time.Second)
		c.Kill(name)
		c.Machine(name).Restore(old)
		c.Restart(name)
		// It has voted and acknowledged what it does not know of any more.
		wantForgotten(c, name)
		w.Next(testcluster.WriteGap)
		rejoin(c, name)
	})
}

// Who led is rolled back: the others were told what it had on its disk.
// Fault 30 of the reliability promises.
func TestALeaderRolledBackToAnOldCopyLosesNothing(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 2, func(c *testcluster.Cluster) {
		c.Managers(3)
		w := c.Writers(6, "m1", "m2", "m3")
		c.Wait(time.Second)
		name := c.AwaitLeader()
		old := c.Machine(name).Image()
		c.Wait(5 * time.Second)
		c.Kill(name)
		if c.Rand.IntN(2) == 0 {
			c.AwaitAnotherLeader(name, testcluster.WriteGap)
			w.Next(testcluster.WriteGap)
		}
		c.Machine(name).Restore(old)
		c.Restart(name)
		wantForgotten(c, name)
		w.Next(testcluster.WriteGap)
		rejoin(c, name)
	})
}

// Who led when it acknowledged the most has been started again since and knows nothing; who leads
// now was told.
// Fault 30 of the reliability promises.
func TestAManagerRolledBackWhileLeadershipMovedIsNotLetInAgain(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 2, func(c *testcluster.Cluster) {
		c.Managers(3)
		w := c.Writers(6, "m1", "m2", "m3")
		c.Wait(time.Second)
		leader := c.AwaitLeader()
		name := c.Others(leader)[c.Rand.IntN(2)]
		old := c.Machine(name).Image()
		c.Wait(5 * time.Second)
		c.Kill(name)
		c.Wait(time.Second)
		if err := c.Machine(leader).Stop(); err != nil { // it hands over
			c.T().Fatal(err)
		}
		c.Restart(leader)
		third := c.AwaitAnotherLeader(leader, testcluster.WriteGap)
		c.Logf("%s leads", third)
		w.Next(testcluster.WriteGap)
		c.Machine(name).Restore(old)
		c.Restart(name)
		wantForgotten(c, name)
		w.Next(testcluster.WriteGap)
		rejoin(c, name)
	})
}

// wantForgotten waits until a manager has ended because others know that it had more.
func wantForgotten(c *testcluster.Cluster, name string) {
	c.T().Helper()
	err := c.Machine(name).Ended(10 * time.Second)
	if err == nil || !strings.Contains(err.Error(), "older than what it has acknowledged") {
		c.T().Fatalf("swarmd with an old state ends with %v, want an error that says so", err)
	}
}

// rejoin does as the message of a manager that lost its log advises.
func rejoin(c *testcluster.Cluster, name string) {
	c.T().Helper()
	if err := c.SetRole(name, api.NodeRole_WORKER); err != nil {
		c.T().Fatalf("demote %s: %v", name, err)
	}
	c.Await(name+" is no manager", time.Minute, func() error { return gone(c, name) })
	c.Await(name+" is removed", time.Minute, func() error { return c.RemoveNode(name, true) })
	c.JoinManager(name + "again")
}

func gone(c *testcluster.Cluster, name string) error {
	node, err := c.Node(name)
	if err != nil {
		return err
	}
	if node.GetManagerStatus() != nil {
		return fmt.Errorf("it is %v", node.GetManagerStatus())
	}
	return nil
}

// Fault 31 of the reliability promises.
func TestAManagerWhoseRaftDirWasDeletedSaysSoAndJoinsAnew(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Managers(3)
		w := c.Writers(6, "m1", "m2", "m3")
		c.Wait(time.Second)
		name := c.Others(c.AwaitLeader())[0]
		c.Kill(name)
		if err := c.Machine(name).Disk.RemoveAll(testcluster.StateDir + "/raft"); err != nil {
			c.T().Fatal(err)
		}
		c.Restart(name)
		err := c.Machine(name).Ended(10 * time.Second)
		if err == nil || !strings.Contains(err.Error(), "the log of the swarm is missing") {
			c.T().Fatalf("swarmd without its raft directory ends with %v, want an error that says so", err)
		}
		w.Next(testcluster.WriteGap)
		rejoin(c, name)
		w.Next(testcluster.WriteGap)
	})
}

// Fault 32 of the reliability promises.
func TestAfterAForceNewClusterWorkersComeBackAndNoTaskRestarts(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Managers(3)
		c.Workers(2)
		kept := c.KeepsTasks(c.Deploy("web", 4))
		w := c.Writers(6, "m1", "m2", "m3")
		c.Wait(2 * time.Second)
		before, nodes := c.Swarm(), len(c.Nodes())
		member, err := c.Node("m1")
		if err != nil {
			c.T().Fatal(err)
		}
		oldID := member.GetManagerStatus().GetRaftId()
		for _, name := range []string{"m1", "m2", "m3"} {
			c.Kill(name)
		}
		c.Wait(time.Duration(c.Rand.IntN(20)) * time.Second)
		c.Machine("m3").Config.ForceNewCluster = true
		c.Restart("m3")
		if leader := c.AwaitLeader(); leader != "m3" {
			c.T().Fatalf("%s leads, want m3", leader)
		}
		w.Next(testcluster.WriteGap)
		for _, name := range []string{"w1", "w2"} {
			c.AwaitReady(name)
		}
		after := c.Swarm()
		if after.GetId() != before.GetId() || string(after.GetRootCa().GetCaCert()) != string(before.GetRootCa().GetCaCert()) ||
			after.GetRootCa().GetJoinTokens().String() != before.GetRootCa().GetJoinTokens().String() {
			c.T().Error("the forced swarm has another ID, CA or other tokens")
		}
		// An old member comes back: under its old name it is refused, and disturbs nobody.
		// Its log is worth nothing any more, and it is a worker: the group does not need it again.
		c.Restart("m1")
		c.Wait(20 * time.Second)
		now, err := c.Node("m1")
		if err != nil {
			c.T().Fatal(err)
		}
		if got := now.GetManagerStatus().GetRaftId(); got != 0 || now.GetRole() != api.NodeRole_WORKER {
			c.T().Errorf("the old member is a %s again, with raft id %x; it had %x", now.GetRole(), got, oldID)
		}
		w.Next(testcluster.WriteGap)
		if leader := c.AwaitLeader(); leader != "m3" {
			c.T().Errorf("%s leads after the old member came back, want m3", leader)
		}
		kept()
		if got := len(c.Nodes()); got > nodes {
			c.T().Errorf("the swarm has %d nodes and had %d", got, nodes)
		}
	})
}

// Fault 32 of the reliability promises: the flag stays on the command line, as in a unit file.
func TestAManagerThatIsStartedAgainToForceANewClusterKeepsThoseWhoJoined(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Managers(2)
		for _, name := range []string{"m1", "m2"} {
			c.Kill(name)
		}
		forced := c.Machine("m2")
		forced.Config.ForceNewCluster = true
		c.Restart("m2")
		c.AwaitLeader()
		c.JoinManager("m3")
		c.JoinManager("m4")
		w := c.Writers(6, "m2", "m3", "m4")
		w.Next(testcluster.WriteGap)
		group := func() (members []string) {
			for _, n := range c.Nodes() {
				if s := n.GetManagerStatus(); s.GetRaftId() != 0 {
					members = append(members, fmt.Sprintf("%x", s.GetRaftId()))
				}
			}
			slices.Sort(members)
			return members
		}
		before := group()
		if len(before) != 3 {
			c.T().Fatalf("the group has the members %v, want three", before)
		}
		for range 2 {
			// What the others acknowledge meanwhile must not be lost.
			c.Kill("m2")
			w.Next(testcluster.WriteGap)
			c.Restart("m2")
			c.AwaitManager("m2")
			w.Next(testcluster.WriteGap)
			if after := group(); !slices.Equal(after, before) {
				c.T().Fatalf("the group has the members %v and had %v", after, before)
			}
		}

		// Who really wants it again is told how.
		w.Stop()
		for _, name := range []string{"m2", "m3", "m4"} {
			c.Kill(name)
		}
		c.Restart("m2")
		note := testcluster.StateDir + "/forced"
		c.Await("the flag is said to be ignored", time.Minute, func() error {
			_, err := forced.Client().Control.ListClusters(c.T().Context(), &api.ListClustersRequest{})
			if !strings.Contains(fmt.Sprint(err), "--force-new-cluster is ignored: ") || !strings.Contains(err.Error(), "remove "+note) {
				return fmt.Errorf("a request ends with %w", err)
			}
			return nil
		})
		c.Kill("m2")
		if err := forced.Disk.Remove(note); err != nil {
			c.T().Fatal(err)
		}
		c.Restart("m2")
		c.AwaitLeader()
		if after := group(); len(after) != 1 {
			c.T().Errorf("the group has the members %v after it was forced again, want one", after)
		}
	})
}

func TestAWorkerThatIsPromotedJoinsTheOthersThoughItWasStartedToForceANewCluster(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Managers(1)
		c.Prepare("w1", api.NodeRole_WORKER).Config.ForceNewCluster = true
		c.Restart("w1")
		c.AwaitReady("w1")
		if err := c.SetRole("w1", api.NodeRole_MANAGER); err != nil {
			c.T().Fatal(err)
		}
		c.AwaitManager("w1")
	})
}

// Fault 33 of the reliability promises.
func TestAPromoteDemoteRemoveStormEndsInWhatWasAsked(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 2, func(c *testcluster.Cluster) {
		c.Managers(3)
		c.Workers(2)
		w := c.Writers(4, "m1", "m2", "m3")
		next := 3
		refused := make(map[string]int)
		for range 12 {
			names := running(c)
			name := names[c.Rand.IntN(len(names))]
			var err error
			switch c.Rand.IntN(6) {
			case 0, 1:
				err = c.SetRole(name, api.NodeRole_MANAGER)
			case 2:
				err = c.SetRole(name, api.NodeRole_WORKER)
			case 3: // the leader itself
				if leader := c.Leader(); leader != "" {
					err = c.SetRole(leader, api.NodeRole_WORKER)
				}
			case 4:
				if len(names) > 3 {
					if err = c.RemoveNode(name, true); err == nil {
						_ = c.Machine(name).Stop()
						c.JoinWorker(fmt.Sprintf("w%d", next))
						next++
					}
				}
			case 5:
				c.Isolate(name)
				c.Wait(time.Duration(c.Rand.IntN(3000)) * time.Millisecond)
				c.Heal()
			}
			if err != nil {
				refused[err.Error()]++
				c.Logf("refused: %v", err)
			}
			c.Wait(time.Duration(c.Rand.IntN(4000)) * time.Millisecond)
		}
		c.AwaitConverged(2 * time.Minute)
		_ = w
	})
}

func running(c *testcluster.Cluster) []string {
	var out []string
	for _, name := range c.Names() {
		if c.Machine(name).Running() {
			out = append(out, name)
		}
	}
	return out
}

// Fault 35 of the reliability promises.
func TestAnUnknownStoreActionInTheLogIsRefusedAndNotSkipped(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		m := c.Found("m1")
		c.Wait(time.Second)
		if err := m.Stop(); err != nil {
			c.T().Fatal(err)
		}
		// What a newer manager may have written: an action on a kind of object that
		// this one does not know (field 77 of StoreAction).
		key, _, err := ca.NewFiles(m.Disk, testcluster.StateDir+"/certificates").RaftKey()
		if err != nil {
			c.T().Fatal(err)
		}
		log, found, err := wal.Open(wal.Config{FS: m.Disk, Dir: testcluster.StateDir + "/raft/log", Key: key}, 0)
		if err != nil {
			c.T().Fatal(err)
		}
		request := &api.InternalRaftRequest{Id: 1, Action: []*api.StoreAction{{Action: api.StoreActionKind_STORE_ACTION_CREATE}}}
		request.GetAction()[0].ProtoReflect().SetUnknown([]byte{0xea, 0x04, 0x02, 0x0a, 0x00})
		data, err := proto.Marshal(request)
		if err != nil {
			c.T().Fatal(err)
		}
		state := found.State
		state.Commit = found.LastIndex + 1
		log.Append(&state, []*raftpb.Entry{{
			Index: new(found.LastIndex + 1), Term: new(found.State.Term), Type: raftpb.EntryNormal.Enum(), Data: data,
		}})
		if _, err := log.Flush(); err != nil {
			c.T().Fatal(err)
		}
		if err := log.Close(); err != nil {
			c.T().Fatal(err)
		}
		for range 2 { // and the second start does not skip it either
			m.Restart()
			err = m.Ended(10 * time.Second)
			if err == nil || !strings.Contains(err.Error(), "a newer manager wrote it") {
				c.T().Fatalf("swarmd with an unknown action in its log ends with %v, want an error that says so", err)
			}
		}
		c.NoChecks()
	})
}

// Whoever promotes a node cannot tell whether the others reach it there.
func TestAPromotedNodeThatNobodyReachesWorksOnAndIsAManagerOnceItIsReached(t *testing.T) {
	t.Parallel()
	testcluster.Run(t, 1, func(c *testcluster.Cluster) {
		c.Managers(3)
		const elsewhere = "10.0.9.9"
		w1 := c.Prepare("w1", api.NodeRole_WORKER)
		w1.Config.Advertise = elsewhere + ":4242"
		w1.Restart()
		c.AwaitReady("w1")
		kept := c.KeepsTasks(c.DeployOn("node.hostname==w1", "web", 2))
		if err := c.SetRole("w1", api.NodeRole_MANAGER); err != nil {
			c.T().Fatal(err)
		}
		wantSaid(c, "w1", "this manager cannot reach the new one at "+elsewhere)
		c.Wait(30 * time.Second)
		if !w1.Running() {
			c.T().Fatalf("it has ended: %v", w1.Ended(time.Second))
		}
		c.AwaitReady("w1")
		kept()
		w1.Move(elsewhere)
		c.AwaitManager("w1")
		kept()
	})
}

// Fault 36 of the reliability promises: the tokens.
func TestAJoinTokenRotationUnderLoadAndPartitionLocksNobodyOut(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Managers(3)
		c.Workers(1)
		w := c.Writers(6, "m1", "m2", "m3")
		late := c.Prepare("late", api.NodeRole_WORKER)
		leader := c.AwaitLeader()
		cut := c.Others(leader, "w1", "late")[0]
		c.Isolate(cut)
		swarm := c.Swarm()
		if err := c.Ask(func(ctx context.Context, m client.Clients) error {
			_, err := m.Control.UpdateCluster(ctx, &api.UpdateClusterRequest{
				ClusterId: swarm.GetId(), ClusterVersion: swarm.GetMeta().GetVersion(), Spec: swarm.GetSpec(),
				Rotation: &api.KeyRotation{WorkerJoinToken: true, ManagerJoinToken: true},
			})
			return err
		}); err != nil {
			c.T().Fatal(err)
		}
		c.Heal()
		// At every manager, the one that was cut off too, the old token is worth nothing.
		late.Config.JoinAddr = c.Machine(cut).Addr()
		late.Restart()
		if err := late.Ended(30 * time.Second); err == nil || !strings.Contains(err.Error(), "token") {
			c.T().Fatalf("a join with the old token ends with %v", err)
		}
		c.JoinWorker("w2")
		c.JoinManager("m4")
		c.AwaitReady("w1")
		w.Next(testcluster.WriteGap)
	})
}

// Fault 49 of the reliability promises.
func TestADuplicatedJoinWhoseAnswersWereLostMakesOneNodeAndOneMember(t *testing.T) {
	t.Parallel()
	for _, role := range []api.NodeRole{api.NodeRole_WORKER, api.NodeRole_MANAGER} {
		t.Run(strings.ToLower(role.String()), func(t *testing.T) {
			t.Parallel()
			testcluster.Seeds(t, 2, func(c *testcluster.Cluster) {
				c.Managers(3)
				before := len(c.Nodes())
				m := c.Prepare("new", role)
				for _, name := range []string{"m1", "m2", "m3"} {
					c.Net.DropAnswers("new", name)
				}
				m.Restart()
				// Some moments after it got through, the answers are lost: of the handshake, of the
				// request for a certificate, of the join. More than five tries in a row
				// make swarmd give up, and its next start is another node.
				for range 3 {
					for _, name := range []string{"m1", "m2", "m3"} {
						c.Net.RestoreAnswers("new", name)
					}
					c.Wait(time.Duration(5+c.Rand.IntN(20)) * time.Millisecond)
					for _, name := range []string{"m1", "m2", "m3"} {
						c.Net.DropAnswers("new", name)
					}
					c.Wait(time.Duration(500+c.Rand.IntN(2000)) * time.Millisecond)
				}
				c.Heal()
				c.AwaitReady("new")
				if role == api.NodeRole_MANAGER {
					c.AwaitManager("new")
				}
				if got := len(c.Nodes()); got != before+1 {
					c.T().Errorf("the swarm has %d nodes, want %d", got, before+1)
				}
			})
		})
	}
}

// Fault 49 of the reliability promises.
func TestADuplicatedUpdateTaskStatusWhoseAnswersWereLostChangesNothing(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 2, func(c *testcluster.Cluster) {
		c.Managers(3)
		c.Workers(1)
		c.Observe("m1", "m2", "m3")
		c.Wait(time.Second)
		leader := c.AwaitLeader()
		for i := range 4 {
			// Reports arrive, and their answers do not.
			for _, name := range []string{"m1", "m2", "m3"} {
				c.Net.DropAnswers("w1", name)
			}
			c.Wait(time.Duration(c.Rand.IntN(1000)) * time.Millisecond)
			for _, name := range []string{"m1", "m2", "m3"} {
				c.Net.RestoreAnswers("w1", name)
			}
			c.Deploy(fmt.Sprintf("web%d", i), 2)
		}
		for id, n := range c.Machine("w1").Started() {
			if n != 1 {
				c.T().Errorf("task %s was started %d times", id, n)
			}
		}
		if now := c.AwaitLeader(); now != leader {
			c.T().Errorf("%s leads and %s did before", now, leader)
		}
	})
}

// Fault 21 of the reliability promises: no mass renewal.
func TestNobodyRenewsItsCertificateForTheWrongClockOfAnother(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Managers(3)
		c.Workers(2)
		certificates := func() map[string]string {
			out := make(map[string]string)
			for _, name := range c.Others("m1") {
				out[name] = certificate(c, name)
			}
			return out
		}
		before := certificates()
		c.Machine("m1").SetClock(10 * 365 * 24 * time.Hour)
		c.Wait(time.Minute)
		if after := certificates(); !maps.Equal(before, after) {
			c.T().Errorf("certificates changed for the clock of m1: %v and %v", before, after)
		}
		c.Machine("m1").SetClock(0)
	})
}

func certificate(c *testcluster.Cluster, name string) string {
	_, cert, err := ca.NewFiles(c.Machine(name).Disk, testcluster.StateDir+"/certificates").Load(time.Now())
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x", sha256.Sum256(cert.PEM()))
}
