package testcluster

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/api/skep"
	"skep/client"
)

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
