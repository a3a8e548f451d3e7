package testcluster

import (
	"context"
	"fmt"
	"maps"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"skep/api"
	"skep/api/skep"
	"skep/client"
)

// Deploy creates a service of that many processes on workers, and waits until they run.
func (c *Cluster) Deploy(name string, replicas uint64) *api.Service {
	c.t.Helper()
	return c.DeployOn("node.role==worker", name, replicas)
}

// DeployOn is Deploy on the nodes that a constraint allows.
func (c *Cluster) DeployOn(constraint, name string, replicas uint64) *api.Service {
	c.t.Helper()
	payload, err := anypb.New(&skep.ProcessSpec{Command: "/bin/" + name})
	if err != nil {
		c.t.Fatal(err)
	}
	spec := &api.ServiceSpec{
		Annotations: &api.Annotations{Name: name},
		Task: &api.TaskSpec{
			Runtime:   &api.TaskSpec_Generic{Generic: &api.GenericRuntimeSpec{Kind: "process", Payload: payload}},
			Placement: &api.Placement{Constraints: []string{constraint}},
		},
		Mode: &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: replicas}},
	}
	c.Logf("deploy %d of %s", replicas, name)
	var service *api.Service
	if err := c.Ask(func(ctx context.Context, m client.Clients) error {
		r, err := m.Control.CreateService(ctx, &api.CreateServiceRequest{Spec: spec})
		service = r.GetService()
		return err
	}); err != nil {
		c.t.Fatalf("create service %s: %v", name, err)
	}
	c.Await("the tasks of "+name, patience, func() error {
		if running := len(c.tasksOf(service.GetId())); running != int(replicas) {
			return fmt.Errorf("%d of %d tasks run", running, replicas)
		}
		return nil
	})
	return service
}

// tasksOf returns the machine of each task of a service that should run and does.
func (c *Cluster) tasksOf(service string) map[string]string {
	out := make(map[string]string)
	_ = c.Ask(func(ctx context.Context, m client.Clients) error { // none, then
		r, err := m.Control.ListTasks(ctx, &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{ServiceIds: []string{service}}})
		for _, t := range r.GetTasks() {
			if t.GetDesiredState() == api.TaskState_RUNNING && t.GetStatus().GetState() == api.TaskState_RUNNING {
				out[t.GetId()] = t.GetNodeId()
			}
		}
		return err
	})
	return out
}

// KeepsTasks returns a check that no task of a service was restarted since: the same
// tasks run where they did, and none was started again (I8).
func (c *Cluster) KeepsTasks(service *api.Service) (check func()) {
	before := c.tasksOf(service.GetId())
	started := c.starts()
	return func() {
		c.t.Helper()
		c.Await("the tasks of "+service.GetSpec().GetAnnotations().GetName()+" are known again", patience, func() error {
			if now := c.tasksOf(service.GetId()); len(now) < len(before) {
				return fmt.Errorf("%d of %d tasks run", len(now), len(before))
			}
			return nil
		})
		c.Wait(5 * time.Second)
		if now := c.tasksOf(service.GetId()); !maps.Equal(now, before) {
			c.t.Errorf("I8: tasks were %v and are %v", before, now)
		}
		if now := c.starts(); !maps.Equal(now, started) {
			c.t.Errorf("I8: tasks were started that often: %v; now that often: %v", started, now)
		}
	}
}

func (c *Cluster) starts() map[string]int {
	all := make(map[string]int)
	for _, m := range c.machines {
		for id, n := range m.Started() {
			all[id] += n
		}
	}
	return all
}
