package manager

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moby/swarmkit/v2/api"
)

func TestAStockWorkerRunsTasksWithTheirSecretsAndConfigs(t *testing.T) {
	t.Parallel()
	m := start(t)
	w := m.worker(t, "worker")
	m.until(t, "the worker is ready", func() bool { return m.node(t, w.id).Status.State == api.NodeStatus_READY })
	if n := m.node(t, w.id); n.Description.Hostname != "worker" || n.Status.Addr != "127.0.0.1" || n.Role != api.NodeRoleWorker {
		t.Errorf("the worker is shown as %v", n)
	}
	secret, config := m.createSecret(t, "password", "hunter2"), m.createConfig(t, "web.conf", "listen 80")
	web := m.create(t, withFiles(service("web", 2), secret, config))
	m.until(t, "two tasks run", func() bool { return len(m.running(t, web.ID)) == 2 })
	for _, task := range m.running(t, web.ID) {
		if task.NodeID != w.id || task.Status.GetContainer().ContainerID != "container-of-"+task.ID || task.Status.GetContainer().PID != 4242 {
			t.Errorf("the task that runs is shown as %v", task)
		}
		if task.Status.AppliedBy != m.own || task.Status.AppliedAt == nil {
			t.Errorf("its status was applied by %q at %v, want the manager %s and a time", task.Status.AppliedBy, task.Status.AppliedAt, m.own)
		}
		w.executor.mu.Lock()
		if r := w.executor.runs[task.ID]; r == nil || r.secret != "hunter2" || r.config != "listen 80" {
			t.Errorf("the task runs as %+v, want it with its secret and config", r)
		}
		w.executor.mu.Unlock()
	}
	if got := must(m.ListServiceStatuses(m.ctx, &api.ListServiceStatusesRequest{Services: []string{web.ID}}))(t).Statuses[0]; got.RunningTasks != 2 || got.DesiredTasks != 2 {
		t.Errorf("service status is %v, want 2 of 2", got)
	}

	// Scaled to one: the other is stopped, then forgotten by manager and node.
	m.update(t, web.ID, func(s *api.ServiceSpec) { s.GetReplicated().Replicas = 1 })
	m.until(t, "one task is left", func() bool { return len(m.tasks(t, web.ID)) == 1 })
	left := m.tasks(t, web.ID)[0]
	w.executor.until(m.ctx, t, "the node has removed the other task", func() bool {
		for id, r := range w.executor.runs {
			if id != left.ID && !r.removed {
				return false
			}
		}
		return !w.executor.runs[left.ID].removed
	})
	w.executor.until(m.ctx, t, "the secret stays for the one that runs", func() bool { return w.executor.hasSecret(secret.ID) })

	// The last one gone, nothing of it stays on the node.
	must(m.RemoveService(m.ctx, &api.RemoveServiceRequest{ServiceID: web.ID}))(t)
	w.executor.until(m.ctx, t, "secret and config are withdrawn", func() bool {
		return !w.executor.hasSecret(secret.ID) && !w.executor.hasConfig(config.ID)
	})
	m.until(t, "the tasks of the removed service are gone", func() bool { return len(m.tasks(t, web.ID)) == 0 })
	w.undisturbed(t)
}

func TestATaskThatFailsIsReplacedAndItsEndIsKept(t *testing.T) {
	t.Parallel()
	m := start(t)
	w := m.worker(t, "worker")
	web := m.create(t, service("web", 1))
	m.until(t, "a task runs", func() bool { return len(m.running(t, web.ID)) == 1 })
	first := m.running(t, web.ID)[0]
	w.executor.fail(first.ID)
	m.until(t, "another task runs in its slot", func() bool {
		tasks := m.running(t, web.ID)
		return len(tasks) == 1 && tasks[0].ID != first.ID && tasks[0].Slot == first.Slot
	})
	ended := must(m.GetTask(m.ctx, &api.GetTaskRequest{TaskID: first.ID}))(t).Task
	if ended.Status.State != api.TaskStateFailed || ended.Status.Err != "task: non-zero exit (1)" {
		t.Errorf("the task that failed is shown with %v, want FAILED and why", ended.Status)
	}
	w.undisturbed(t)
}

func TestADrainedNodeShutsItsTasksDown(t *testing.T) {
	t.Parallel()
	m := start(t)
	one := m.worker(t, "one")
	web := m.create(t, service("web", 3))
	m.until(t, "three tasks run", func() bool { return len(m.running(t, web.ID)) == 3 })
	two := m.worker(t, "two")
	n := m.node(t, one.id)
	n.Spec.Availability = api.NodeAvailabilityDrain
	must(m.UpdateNode(m.ctx, &api.UpdateNodeRequest{NodeID: n.ID, NodeVersion: &n.Meta.Version, Spec: &n.Spec}))(t)
	m.until(t, "all three run on the other node", func() bool {
		tasks := m.running(t, web.ID)
		for _, task := range tasks {
			if task.NodeID != two.id {
				return false
			}
		}
		return len(tasks) == 3
	})
	m.until(t, "those on the drained node have shut down", func() bool {
		for _, task := range m.tasks(t, web.ID) {
			if task.NodeID == one.id && (task.DesiredState < api.TaskStateShutdown || task.Status.State != api.TaskStateShutdown) {
				return false
			}
		}
		return true
	})
	one.executor.until(m.ctx, t, "the executor of the drained node knows it", func() bool {
		return one.executor.node.Spec.Availability == api.NodeAvailabilityDrain
	})
	one.undisturbed(t)
	two.undisturbed(t)
}

func TestAnUpdateReplacesRunningTasks(t *testing.T) {
	t.Parallel()
	m := start(t)
	w := m.worker(t, "worker")
	web := m.create(t, service("web", 2))
	m.until(t, "two tasks run", func() bool { return len(m.running(t, web.ID)) == 2 })
	m.update(t, web.ID, func(s *api.ServiceSpec) { s.Task.GetContainer().Image = "example.com/web:2" })
	m.until(t, "two tasks run the new image", func() bool {
		tasks := m.running(t, web.ID)
		for _, task := range tasks {
			if task.Spec.GetContainer().Image != "example.com/web:2" {
				return false
			}
		}
		return len(tasks) == 2
	})
	w.undisturbed(t)
}

func TestTasksAreListedByEveryFilter(t *testing.T) {
	t.Parallel()
	m := start(t)
	w := m.worker(t, "worker")
	web, unplaced := m.create(t, service("web", 2)), service("proc", 1)
	unplaced.Task.Runtime = &api.TaskSpec_Generic{Generic: processRuntime("/bin/true")}
	unplaced.Task.Placement = &api.Placement{Constraints: []string{"node.hostname==nowhere"}}
	unplaced.Annotations.Labels = map[string]string{"tier": "back"}
	proc := m.create(t, unplaced)
	m.until(t, "web runs and proc waits", func() bool { return len(m.running(t, web.ID)) == 2 && len(m.tasks(t, proc.ID)) == 1 })
	ran, waits := m.running(t, web.ID), m.tasks(t, proc.ID)
	for _, test := range []struct {
		name    string
		filters *api.ListTasksRequest_Filters
		want    []*api.Task
	}{
		{"none", nil, append(waits, ran...)},
		{"service", &api.ListTasksRequest_Filters{ServiceIDs: []string{web.ID, "unknown"}}, ran},
		{"node", &api.ListTasksRequest_Filters{NodeIDs: []string{w.id}}, ran},
		{"another node", &api.ListTasksRequest_Filters{NodeIDs: []string{m.own}}, nil},
		{"ID", &api.ListTasksRequest_Filters{IDPrefixes: []string{ran[0].ID[:20]}}, ran[:1]},
		{"name prefix", &api.ListTasksRequest_Filters{NamePrefixes: []string{"web.1."}}, inSlot(ran, 1)},
		{"label of the service", &api.ListTasksRequest_Filters{Labels: map[string]string{"tier": "back"}}, waits},
		{"desired state", &api.ListTasksRequest_Filters{DesiredStates: []api.TaskState{api.TaskStateShutdown}}, nil},
		{"runtime", &api.ListTasksRequest_Filters{Runtimes: []string{"process"}}, waits},
		{"up to date", &api.ListTasksRequest_Filters{UpToDate: true, ServiceIDs: []string{web.ID}}, ran},
		{"service and node", &api.ListTasksRequest_Filters{ServiceIDs: []string{proc.ID}, NodeIDs: []string{w.id}}, nil},
	} {
		got := must(m.ListTasks(m.ctx, &api.ListTasksRequest{Filters: test.filters}))(t).Tasks
		if !sameIDs(got, test.want) {
			t.Errorf("by %s: got %v, want %v", test.name, got, test.want)
		}
	}
	for _, task := range ran {
		if full := must(m.ListTasks(m.ctx, &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{Names: []string{
			fmt.Sprintf("web.%d.%s", task.Slot, task.ID),
		}}}))(t).Tasks; !sameIDs(full, []*api.Task{task}) {
			t.Errorf("by its name: got %v, want %s", full, task.ID)
		}
	}
}

func inSlot(tasks []*api.Task, slot uint64) (out []*api.Task) {
	for _, task := range tasks {
		if task.Slot == slot {
			out = append(out, task)
		}
	}
	return out
}

func TestAPublishedHostPortIsTakenOncePerNode(t *testing.T) {
	t.Parallel()
	m := start(t)
	one, two := m.worker(t, "one"), m.worker(t, "two")
	spec := service("web", 3)
	spec.Endpoint = &api.EndpointSpec{Ports: []*api.PortConfig{{
		Name: "http", Protocol: api.ProtocolTCP, TargetPort: 80, PublishedPort: 8080, PublishMode: api.PublishModeHost,
	}}}
	web := m.create(t, spec)
	m.until(t, "two of three run and one says why it does not", func() bool {
		for _, task := range m.tasks(t, web.ID) {
			if task.Status.State == api.TaskStatePending && strings.Contains(task.Status.Err, "port") {
				return len(m.running(t, web.ID)) == 2
			}
		}
		return false
	})
	ran := m.running(t, web.ID)
	if ran[0].NodeID == ran[1].NodeID || ran[0].NodeID != one.id && ran[0].NodeID != two.id {
		t.Errorf("the two run on %s and %s, want %s and %s", ran[0].NodeID, ran[1].NodeID, one.id, two.id)
	}
	for _, task := range ran {
		if task.Endpoint == nil || len(task.Endpoint.Ports) != 1 || task.Endpoint.Ports[0].PublishedPort != 8080 {
			t.Errorf("task %s has the endpoint %v, want port 8080", task.ID, task.Endpoint)
		}
	}
}
