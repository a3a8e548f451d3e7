package manager

import (
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
