package testcluster_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/api"
	"skep/api/skep"
	"skep/internal/testcluster"
)

const (
	// back is how long after the next leader's first write all nodes have a session again.
	back = 3 * time.Second
	// flock is how many workers come back.
	flock = 100
	// writesOfAChange is how many entries a change of leader itself may cost: it depends on
	// nothing that grows.
	writesOfAChange = 20
)

// metric sums the samples of a manager's metric whose labels have these values.
func metric(t *testing.T, of *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := of.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			matching := 0
			for _, l := range m.GetLabel() {
				if slices.Contains(labels, l.GetName()+"="+l.GetValue()) {
					matching++
				}
			}
			if matching == len(labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// sessions is how many nodes have a session at a manager, or ask it for one.
func sessions(t *testing.T, of *prometheus.Registry) int {
	t.Helper()
	service, name := "grpc_service="+api.Dispatcher_ServiceDesc.ServiceName, "grpc_method=Session"
	started := metric(t, of, "grpc_server_started_total", service, name)
	return int(started - metric(t, of, "grpc_server_handled_total", service, name))
}

// versions are those of all nodes.
func versions(c *testcluster.Cluster) map[string]uint64 {
	out := make(map[string]uint64)
	for _, n := range c.Nodes() {
		out[n.GetId()] = n.GetMeta().GetVersion().GetIndex()
	}
	return out
}

func TestAllSessionsAreBackThreeSecondsAfterTheNextLeadersFirstWriteAndNoNodeIsRewritten(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		registries := map[string]*prometheus.Registry{}
		c.Found("m1")
		for i := range 2 {
			name := "m" + strconv.Itoa(i+2)
			m := c.Prepare(name, api.NodeRole_MANAGER)
			registries[name] = prometheus.NewRegistry()
			m.Config.Metrics = registries[name]
			c.Restart(name)
			c.AwaitManager(name)
		}
		like := c.Prepare("w1", api.NodeRole_WORKER).Config
		for i := range flock {
			name := "w" + strconv.Itoa(i+1)
			if i > 0 {
				m := c.Add(name)
				m.Config.JoinAddr, m.Config.JoinToken = like.JoinAddr, like.JoinToken
			}
			c.Restart(name)
		}
		ready := func() error {
			n := 0
			for _, node := range c.Nodes() {
				if node.GetStatus().GetState() == api.NodeStatus_READY {
					n++
				}
			}
			if n != flock+3 {
				return fmt.Errorf("%d nodes are ready", n)
			}
			return nil
		}
		c.Await("all nodes", time.Minute, ready)
		kept := c.KeepsTasks(c.Deploy("web", flock))
		w := c.Writers(2, "m2", "m3")
		w.Next(testcluster.WriteGap)
		w.Stop()
		c.Wait(5 * time.Second)

		before := versions(c)
		index := func(of string) int { return int(metric(c.T(), registries[of], "skep_raft_applied_index")) }
		was := index("m2")
		c.Kill("m1")
		next := c.AwaitAnotherLeader("m1", failover)
		begun := time.Now() // its first write, that of its term, was just before
		c.Await("all sessions", 2*back, func() error {
			if n := sessions(c.T(), registries[next]); n != flock+2 {
				return fmt.Errorf("%d nodes have a session", n)
			}
			for _, name := range c.Others("m1") {
				if is := c.Status(name); is.GetState() != skep.StatusResponse_RUNNING {
					return fmt.Errorf("%s: %s", name, is.GetMessage())
				}
			}
			return nil
		})
		if took := time.Since(begun); took > back {
			c.T().Errorf("all sessions are back %v after the first write, want at most %v", took, back)
		}
		wrote := index(next) - was
		c.Logf("the change of leader cost %d entries", wrote)
		if wrote > writesOfAChange {
			c.T().Errorf("the change of leader cost %d entries, want at most %d", wrote, writesOfAChange)
		}
		var rewritten []string
		for id, version := range versions(c) {
			if before[id] != version {
				rewritten = append(rewritten, id)
			}
		}
		if len(rewritten) > 3 { // of the managers
			c.T().Errorf("%d nodes were rewritten: %s", len(rewritten), strings.Join(rewritten, ", "))
		}
		c.Restart("m1")
		c.AwaitManager("m1")
		kept()
	})
}
