package testcluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/api/skep"
	"skep/client"
	"skep/internal/memnet"
)

const (
	// SeedVariable is the environment's variable that names the one seed to run with.
	SeedVariable = "SKEP_SEED"
	// SeedsVariable multiplies the number of seeds.
	SeedsVariable = "SKEP_SEEDS"
	// patience is how long what must come about may take, unless a method says otherwise.
	patience = time.Minute
	// poll is how often a state that nobody announces is looked at.
	poll = 20 * time.Millisecond
	// votes is how long a member that has caught up takes at most to become a voter, which
	// the API does not tell from a learner.
	votes = time.Second
	// callLimit is how long one request of the harness itself may take.
	callLimit = 10 * time.Second
)

// Cluster is a swarm and the world around it. Its methods are for the test's own
// goroutine; a failure ends the test.
type Cluster struct {
	// Net is the network: cut, slow and mend it as you like. Its hosts are the machines.
	Net *memnet.Net
	// Rand is made from the seed.
	Rand *rand.Rand

	t         *testing.T
	seed      uint64
	story     *story
	machines  map[string]*Machine
	names     []string // in the order in which they were added
	processes sync.WaitGroup
	histories []*Writers
	watchers  []*observer
	unchecked bool
}

// Run runs f with an empty cluster in a bubble, and then checks the promises.
func Run(t *testing.T, seed uint64, f func(c *Cluster)) {
	t.Helper()
	name := t.Name()
	var c *Cluster
	again := func() string {
		return fmt.Sprintf("seed %d; repeat with: %s=%d go test ./internal/testcluster -run '^%s$'\n%s", seed, SeedVariable, seed, strings.ReplaceAll(name, "/", "$/^"), c.story)
	}
	synctest.Test(t, func(t *testing.T) {
		c = &Cluster{
			Net: memnet.New(seed), Rand: rand.New(rand.NewPCG(seed, 1)),
			t: t, seed: seed, story: &story{begun: time.Now()}, machines: make(map[string]*Machine),
		}
		c.Net.SetLinks(memnet.Link{Latency: 500 * time.Microsecond, Jitter: 500 * time.Microsecond})
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(again())
			}
		})
		t.Cleanup(c.end)
		f(c)
		c.check()
	})
	// Outside of the bubble, where the limit is one of real time.
	for _, w := range c.histories {
		if err := w.History.Linearizable(checkLimit); err != nil && !t.Failed() {
			t.Errorf("I2: the control API is linearizable: %v\n%s", err, again())
		}
	}
}

// Seeds runs f once for each of the seeds from 1 to n, as subtests, or only for the one
// that the environment names.
func Seeds(t *testing.T, n int, f func(c *Cluster)) {
	t.Helper()
	if text := os.Getenv(SeedsVariable); text != "" {
		times, err := strconv.Atoi(text)
		if err != nil || times < 1 {
			t.Fatalf("%s=%q is no number above 0", SeedsVariable, text)
		}
		n *= times
	}
	first, last := uint64(1), uint64(n)
	if text := os.Getenv(SeedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", SeedVariable, err)
		}
		first, last = seed, seed
	}
	for seed := first; seed <= last; seed++ {
		if first == last {
			Run(t, seed, f)
			return
		}
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { Run(t, seed, f) })
	}
}

// end stops all that runs. What does not end fails the test: the bubble says where it is.
func (c *Cluster) end() {
	c.Net.Heal()
	for _, w := range c.histories {
		w.Stop()
	}
	for _, w := range c.watchers {
		w.stop()
	}
	for _, name := range c.names {
		m := c.machines[name]
		m.mu.Lock()
		if m.run != nil {
			m.run.cancel()
		}
		m.mu.Unlock()
	}
	c.processes.Wait()
	for _, m := range c.machines {
		_ = m.client.Close()
	}
	synctest.Wait()
	if open := c.Net.Open(); open != 0 && !c.t.Failed() {
		c.t.Errorf("%d ends of connections are open after all processes have ended", open)
	}
}

// Logf adds a line to the story.
func (c *Cluster) Logf(format string, args ...any) { c.story.add(fmt.Sprintf(format, args...)) }

// T is the test, inside the bubble.
func (c *Cluster) T() *testing.T { return c.t }

// Machine returns a machine by name.
func (c *Cluster) Machine(name string) *Machine {
	c.t.Helper()
	m := c.machines[name]
	if m == nil {
		c.t.Fatalf("there is no machine %s", name)
	}
	return m
}

// Names returns the names of all machines, in the order in which they came.
func (c *Cluster) Names() []string { return append([]string(nil), c.names...) }

// Others returns the names of all machines but these.
func (c *Cluster) Others(but ...string) []string {
	var out []string
next:
	for _, name := range c.names {
		for _, b := range but {
			if name == b {
				continue next
			}
		}
		out = append(out, name)
	}
	return out
}

// Found starts a machine that founds the swarm, and waits until it leads.
func (c *Cluster) Found(name string) *Machine {
	c.t.Helper()
	m := c.newMachine(name)
	c.Logf("%s founds a swarm", name)
	m.start()
	c.AwaitLeader()
	return m
}

// JoinManager adds a machine that joins as a manager, and waits until it votes.
func (c *Cluster) JoinManager(name string) *Machine {
	c.t.Helper()
	m := c.Prepare(name, api.NodeRole_MANAGER)
	c.Logf("%s joins as a manager", name)
	m.start()
	c.AwaitManager(name)
	c.Wait(votes)
	return m
}

// JoinWorker adds a machine that joins as a worker, and waits until it is ready.
func (c *Cluster) JoinWorker(name string) *Machine {
	c.t.Helper()
	m := c.Prepare(name, api.NodeRole_WORKER)
	c.Logf("%s joins as a worker", name)
	m.start()
	c.AwaitReady(name)
	return m
}

// Managers founds a swarm of that many managers, m1, m2, …
func (c *Cluster) Managers(n int) {
	c.t.Helper()
	c.Found("m1")
	for i := 2; i <= n; i++ {
		c.JoinManager("m" + strconv.Itoa(i))
	}
}

// Workers joins that many workers, w1, w2, …
func (c *Cluster) Workers(n int) {
	c.t.Helper()
	for i := 1; i <= n; i++ {
		c.JoinWorker("w" + strconv.Itoa(i))
	}
}

// Add adds a machine that knows of no swarm and does not run: set its Config or Restore a
// disk, then Restart it.
func (c *Cluster) Add(name string) *Machine {
	c.t.Helper()
	return c.newMachine(name)
}

// Prepare adds a machine that knows where to join in a role, and does not start it:
// Restart does.
func (c *Cluster) Prepare(name string, role api.NodeRole) *Machine {
	c.t.Helper()
	leader := c.Leader()
	tokens := c.Swarm().GetRootCa().GetJoinTokens()
	m := c.newMachine(name)
	m.Config.JoinAddr = c.Machine(leader).Addr()
	m.Config.JoinToken = tokens.GetWorker()
	if role == api.NodeRole_MANAGER {
		m.Config.JoinToken = tokens.GetManager()
	}
	return m
}

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

// Control is the control API at a machine's socket.
func (c *Cluster) Control(name string) api.ControlClient {
	c.t.Helper()
	return c.Machine(name).Client().Control
}

// Status is what the swarmd of a machine says of itself, nil if it says nothing.
func (c *Cluster) Status(name string) *skep.StatusResponse {
	c.t.Helper()
	m := c.Machine(name)
	if !m.Running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), callLimit)
	defer cancel()
	is, err := m.Client().Local.Status(ctx, &skep.StatusRequest{})
	if err != nil {
		return nil
	}
	return is
}

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

// Ask calls f with the services of a manager that answers, and a context with a limit.
// It tries each that runs.
func (c *Cluster) Ask(f func(ctx context.Context, m client.Clients) error) error {
	c.t.Helper()
	err := fmt.Errorf("no manager runs")
	for _, name := range c.names {
		if is := c.Status(name); !is.GetManager() {
			continue
		}
		ctx, cancel := context.WithTimeout(c.t.Context(), callLimit)
		err = f(ctx, c.Machine(name).Client())
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}

// Node returns the node of a machine as the swarm knows it.
func (c *Cluster) Node(name string) (*api.Node, error) {
	c.t.Helper()
	var found *api.Node
	id := c.Status(name).GetNodeId()
	err := c.Ask(func(ctx context.Context, m client.Clients) error {
		r, err := m.Control.ListNodes(ctx, &api.ListNodesRequest{})
		if err != nil {
			return err
		}
		for _, n := range r.GetNodes() {
			if n.GetId() == id || id == "" && n.GetDescription().GetHostname() == name {
				found = n
				return nil
			}
		}
		return fmt.Errorf("%s is no node of the swarm", name)
	})
	return found, err
}

// Swarm returns the cluster object.
func (c *Cluster) Swarm() *api.Cluster {
	c.t.Helper()
	var swarm *api.Cluster
	c.Await("the cluster object", patience, func() error {
		return c.Ask(func(ctx context.Context, m client.Clients) error {
			r, err := m.Control.ListClusters(ctx, &api.ListClustersRequest{})
			if err != nil {
				return err
			}
			if len(r.GetClusters()) != 1 {
				return fmt.Errorf("there are %d clusters", len(r.GetClusters()))
			}
			swarm = r.GetClusters()[0]
			return nil
		})
	})
	return swarm
}

// SetRole asks for another role of a machine's node, at one manager, once.
func (c *Cluster) SetRole(name string, role api.NodeRole) error {
	c.t.Helper()
	c.Logf("%s is to be a %v", name, role)
	node, err := c.Node(name)
	if err != nil {
		return err
	}
	spec := proto.CloneOf(node.GetSpec())
	spec.DesiredRole = role
	return c.Ask(func(ctx context.Context, m client.Clients) error {
		_, err := m.Control.UpdateNode(ctx, &api.UpdateNodeRequest{NodeId: node.GetId(), NodeVersion: node.GetMeta().GetVersion(), Spec: spec})
		return err
	})
}

// RemoveNode removes a machine's node from the swarm, at one manager, once.
func (c *Cluster) RemoveNode(name string, force bool) error {
	c.t.Helper()
	c.Logf("the node of %s is removed (force: %v)", name, force)
	node, err := c.Node(name)
	if err != nil {
		return err
	}
	return c.Ask(func(ctx context.Context, m client.Clients) error {
		_, err := m.Control.RemoveNode(ctx, &api.RemoveNodeRequest{NodeId: node.GetId(), Force: force})
		return err
	})
}

// Nodes returns all nodes as the swarm knows them.
func (c *Cluster) Nodes() []*api.Node {
	c.t.Helper()
	var nodes []*api.Node
	c.Await("the nodes", patience, func() error {
		return c.Ask(func(ctx context.Context, m client.Clients) error {
			r, err := m.Control.ListNodes(ctx, &api.ListNodesRequest{})
			nodes = r.GetNodes()
			return err
		})
	})
	return nodes
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
