package testcluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/client"
	"skep/internal/linear"
)

const (
	// checkLimit is how long a history may take to be judged.
	checkLimit = 30 * time.Second
	// convergeLimit is within what the swarm must reach what was asked, once all faults
	// are over.
	convergeLimit = 2 * time.Minute
)

// promise is what must hold after every fault.
type promise struct {
	name  string
	check func(c *Cluster) error
}

func promises() []promise {
	return []promise{
		{"I1: no acknowledged write is lost", (*Cluster).noWriteIsLost},
		{"I2: versions only grow", (*Cluster).versionsGrow},
		{"I3: there is one leader, and managers hold the same state", (*Cluster).oneState},
		{"I4: a task's state never goes back", (*Cluster).tasksGoForward},
		{"I5: never two live tasks in a slot", (*Cluster).oneTaskInASlot},
	}
}

// NoChecks leaves out the promises at the end: of a swarm that is not meant to come
// back.
func (c *Cluster) NoChecks() { c.unchecked = true }

// check heals the network, waits for the swarm to reach what was asked (I6), stops the
// writers and checks the promises. What does not end (I7) is found by the bubble.
func (c *Cluster) check() {
	c.t.Helper()
	if c.unchecked {
		return
	}
	c.Heal()
	for _, w := range c.histories {
		w.Stop()
	}
	c.AwaitConverged(convergeLimit)
	for _, w := range c.watchers {
		w.stop()
	}
	for _, p := range promises() {
		if err := p.check(c); err != nil {
			c.t.Errorf("%s: %v", p.name, err)
		}
	}
}

// managers returns the machines whose managers run, in order.
func (c *Cluster) managers() []string {
	var out []string
	for _, name := range c.names {
		if c.Status(name).GetManager() {
			out = append(out, name)
		}
	}
	return out
}

// AwaitConverged waits until the swarm has reached what was asked: a manager leads, all
// managers answer, every node whose machine runs is ready and has the role that it should,
// and every service has its tasks.
func (c *Cluster) AwaitConverged(limit time.Duration) {
	c.t.Helper()
	c.Await("I6: the swarm reaches what was asked", limit, c.converged)
}

func (c *Cluster) converged() error {
	if c.Leader() == "" {
		return fmt.Errorf("nobody leads: %s", c.states())
	}
	var nodes []*api.Node
	var services []*api.Service
	var tasks []*api.Task
	for _, name := range c.managers() {
		ctx, cancel := context.WithTimeout(c.t.Context(), callLimit)
		control := c.Control(name)
		n, err := control.ListNodes(ctx, &api.ListNodesRequest{})
		if err == nil {
			nodes = n.GetNodes()
			var s *api.ListServicesResponse
			if s, err = control.ListServices(ctx, &api.ListServicesRequest{}); err == nil {
				services = s.GetServices()
				var t *api.ListTasksResponse
				if t, err = control.ListTasks(ctx, &api.ListTasksRequest{}); err == nil {
					tasks = t.GetTasks()
				}
			}
		}
		cancel()
		if err != nil {
			return fmt.Errorf("the manager on %s: %w", name, err)
		}
	}
	for _, name := range c.names {
		is := c.Status(name)
		if !c.machines[name].Running() {
			continue
		}
		i := slices.IndexFunc(nodes, func(n *api.Node) bool { return n.GetId() == is.GetNodeId() })
		if i < 0 {
			return fmt.Errorf("%s is no node of the swarm: %s", name, c.states())
		}
		switch n := nodes[i]; {
		case n.GetStatus().GetState() != api.NodeStatus_READY:
			return fmt.Errorf("%s is %v: %s", name, n.GetStatus().GetState(), n.GetStatus().GetMessage())
		case n.GetRole() != n.GetSpec().GetDesiredRole():
			return fmt.Errorf("%s is a %v and should be a %v", name, n.GetRole(), n.GetSpec().GetDesiredRole())
		case is.GetManager() != (n.GetRole() == api.NodeRole_MANAGER):
			return fmt.Errorf("%s runs a manager: %v, its role is %v", name, is.GetManager(), n.GetRole())
		case (n.GetManagerStatus() != nil) != is.GetManager():
			return fmt.Errorf("%s runs a manager: %v, its status is %v", name, is.GetManager(), n.GetManagerStatus())
		case is.GetManager() && n.GetManagerStatus().GetReachability() != api.RaftMemberStatus_REACHABLE:
			return fmt.Errorf("the manager on %s is %v", name, n.GetManagerStatus().GetReachability())
		}
	}
	for _, s := range services {
		want := int(s.GetSpec().GetReplicated().GetReplicas())
		if s.GetSpec().GetReplicated() == nil {
			continue
		}
		running := 0
		for _, t := range tasks {
			if t.GetServiceId() != s.GetId() || t.GetDesiredState() != api.TaskState_RUNNING {
				continue
			}
			if t.GetStatus().GetState() != api.TaskState_RUNNING {
				return fmt.Errorf("task %s of %s is %v: %s %s", t.GetId(), s.GetSpec().GetAnnotations().GetName(), t.GetStatus().GetState(), t.GetStatus().GetMessage(), t.GetStatus().GetErr())
			}
			running++
		}
		if running != want {
			return fmt.Errorf("service %s has %d tasks and should have %d", s.GetSpec().GetAnnotations().GetName(), running, want)
		}
	}
	return nil
}

func (c *Cluster) noWriteIsLost() error {
	for _, w := range c.histories {
		for _, name := range c.managers() {
			ctx, cancel := context.WithTimeout(c.t.Context(), callLimit)
			objects, err := linear.Objects(ctx, c.Control(name))
			cancel()
			if err == nil {
				err = w.History.Present(objects)
			}
			if err != nil {
				return fmt.Errorf("at %s: %w", name, err)
			}
		}
		c.Logf("%d writes of %d operations were acknowledged; errors: %v", w.History.Writes(), w.History.Len(), w.Failures())
	}
	return nil
}

// oneState compares what the managers answer. The answers are reads at one moment each,
// so they are asked for until they agree.
func (c *Cluster) oneState() error {
	var leaders []string
	for _, name := range c.names {
		if c.Status(name).GetLeader() {
			leaders = append(leaders, name)
		}
	}
	if len(leaders) != 1 {
		return fmt.Errorf("%v say that they lead", leaders)
	}
	var differ error
	for range 50 {
		if differ = c.compare(); differ == nil {
			return nil
		}
		c.Wait(10 * poll)
	}
	return differ
}

func (c *Cluster) compare() error {
	var first, firstName string
	for _, name := range c.managers() {
		ctx, cancel := context.WithTimeout(c.t.Context(), callLimit)
		is, err := state(ctx, c.Machine(name).Client())
		cancel()
		switch {
		case err != nil:
			return fmt.Errorf("the manager on %s: %w", name, err)
		case firstName == "":
			first, firstName = is, name
		case is != first:
			return fmt.Errorf("the managers on %s and %s differ: %s", firstName, name, difference(first, is))
		}
	}
	return nil
}

func difference(a, b string) string {
	in := func(of, other string) []string {
		var out []string
		known := strings.Split(other, "\n")
		for _, l := range strings.Split(of, "\n") {
			if !slices.Contains(known, l) {
				out = append(out, l)
			}
		}
		return out[:min(len(out), 3)]
	}
	return fmt.Sprintf("%v / %v", in(a, b), in(b, a))
}

// state is all that a manager answers about objects, as text.
func state(ctx context.Context, m client.Clients) (string, error) {
	var lines []string
	add := func(message proto.Message) {
		data, _ := proto.MarshalOptions{Deterministic: true}.Marshal(message)
		lines = append(lines, fmt.Sprintf("%T %v %x", message, message, data))
	}
	services, err := m.Control.ListServices(ctx, &api.ListServicesRequest{})
	if err != nil {
		return "", err
	}
	for _, s := range services.GetServices() {
		add(s)
	}
	tasks, err := m.Control.ListTasks(ctx, &api.ListTasksRequest{})
	if err != nil {
		return "", err
	}
	for _, t := range tasks.GetTasks() {
		add(t)
	}
	configs, err := m.Control.ListConfigs(ctx, &api.ListConfigsRequest{})
	if err != nil {
		return "", err
	}
	for _, s := range configs.GetConfigs() {
		add(s)
	}
	nodes, err := m.Control.ListNodes(ctx, &api.ListNodesRequest{})
	if err != nil {
		return "", err
	}
	for _, n := range nodes.GetNodes() {
		// Reachability is what the one that answers sees.
		n = proto.CloneOf(n)
		n.ManagerStatus = nil
		add(n)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}
