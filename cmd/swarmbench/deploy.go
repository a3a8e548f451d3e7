package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"skep/api"
)

func deployCommand() *cobra.Command {
	var socket, addr string
	var agents, replicas int
	c := &cobra.Command{
		Use: "deploy", Short: "Run one service on many simulated agents until every replica runs", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := dialSocket(socket, 1)
			if err != nil {
				return err
			}
			defer p.close()
			control := api.NewControlClient(p[0])
			f, err := startFleet(c.Context(), control, agents, addr)
			if err != nil {
				return err
			}
			defer f.end()
			d, err := measureDeploy(c.Context(), control, f, replicas)
			if err != nil {
				return err
			}
			if err := d.result(agents, replicas).print(c.OutOrStdout(), c.ErrOrStderr()); err != nil {
				return err
			}
			return d.remove(c.Context(), control) // while the agents are there
		},
	}
	c.Flags().StringVarP(&socket, "socket", "s", ".skep/swarmd.sock", "socket of the manager")
	c.Flags().StringVar(&addr, "addr", "127.0.0.1:4242", "remote address of the manager")
	c.Flags().IntVar(&agents, "agents", 100, "how many agents")
	c.Flags().IntVar(&replicas, "replicas", 1000, "how many replicas")
	return c
}

// deployment is one service and how long it took until all of it was seen running.
type deployment struct {
	service *api.Service
	took    time.Duration
}

func (d deployment) result(agents, replicas int) result {
	return result{Bench: "deploy", Params: fmt.Sprintf("agents=%d, replicas=%d", agents, replicas), Value: d.took.Seconds(), Unit: "s",
		Detail: fmt.Sprintf("%.0f tasks/s", float64(replicas)/d.took.Seconds()), Check: "every replica runs, one in a slot, spread evenly over the agents"}
}

// measureDeploy creates a service and waits until the manager says that all of
// its replicas run; then it looks where they are.
func measureDeploy(ctx context.Context, control api.ControlClient, f *fleet, replicas int) (deployment, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	start := time.Now()
	r, err := control.CreateService(ctx, &api.CreateServiceRequest{Spec: &api.ServiceSpec{
		Annotations: &api.Annotations{Name: fmt.Sprintf("bench-%d", start.UnixNano())},
		Task: &api.TaskSpec{
			Runtime:   &api.TaskSpec_Container{Container: &api.ContainerSpec{Image: "bench"}},
			Placement: &api.Placement{Constraints: []string{"node.role==worker"}},
		},
		Mode: &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: uint64(replicas)}},
	}})
	if err != nil {
		return deployment{}, err
	}
	d := deployment{service: r.Service}
	if err := awaitRunning(ctx, control, r.Service.Id, uint64(replicas)); err != nil {
		return d, err
	}
	d.took = time.Since(start)
	if err := d.check(ctx, control, f, replicas); err != nil {
		return d, fmt.Errorf("check failed: %w", err)
	}
	return d, nil
}

// awaitRunning asks for the number of running tasks until it is n.
func awaitRunning(ctx context.Context, control api.ControlClient, id string, n uint64) error {
	pause := 10 * time.Millisecond
	if n <= 10 {
		pause = 500 * time.Microsecond
	}
	for {
		r, err := control.ListServiceStatuses(ctx, &api.ListServiceStatusesRequest{Services: []string{id}})
		if err != nil {
			return err
		}
		running := r.Statuses[0].RunningTasks
		if running == n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d tasks run: %w", running, n, ctx.Err())
		case <-time.After(pause):
		}
	}
}

func (d deployment) check(ctx context.Context, control api.ControlClient, f *fleet, replicas int) error {
	r, err := control.ListTasks(ctx, &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{ServiceIds: []string{d.service.Id}}})
	if err != nil {
		return err
	}
	perNode, slots := map[string]int{}, map[uint64]bool{}
	for _, t := range r.Tasks {
		switch {
		case t.GetStatus().GetState() != api.TaskState_RUNNING:
			return fmt.Errorf("task %s is %s", t.Id, t.GetStatus().GetState())
		case !f.nodes[t.NodeId]:
			return fmt.Errorf("task %s is on node %q, which is none of the agents", t.Id, t.NodeId)
		case slots[t.Slot]:
			return fmt.Errorf("slot %d has two tasks", t.Slot)
		}
		slots[t.Slot] = true
		perNode[t.NodeId]++
	}
	if len(r.Tasks) != replicas {
		return fmt.Errorf("%d tasks instead of %d", len(r.Tasks), replicas)
	}
	least, most := replicas/len(f.nodes), (replicas+len(f.nodes)-1)/len(f.nodes)
	for node, n := range perNode {
		if n < least || n > most {
			return fmt.Errorf("node %s has %d tasks, an even spread is %d to %d", node, n, least, most)
		}
	}
	return nil
}

// remove removes the service and waits until its tasks are gone.
func (d deployment) remove(ctx context.Context, control api.ControlClient) error {
	if _, err := control.RemoveService(ctx, &api.RemoveServiceRequest{ServiceId: d.service.Id}); err != nil {
		return err
	}
	return d.awaitGone(ctx, control)
}

func (d deployment) awaitGone(ctx context.Context, control api.ControlClient) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		r, err := control.ListTasks(ctx, &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{ServiceIds: []string{d.service.Id}}})
		if err != nil || len(r.Tasks) == 0 {
			return err
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("%d tasks of a removed service are left: %w", len(r.Tasks), err)
		}
	}
}
