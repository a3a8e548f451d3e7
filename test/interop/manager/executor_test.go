package manager

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/moby/swarmkit/v2/agent"
	"github.com/moby/swarmkit/v2/agent/exec"
	"github.com/moby/swarmkit/v2/api"
)

// executor runs tasks in memory, with the library's own stores of secrets and
// configs. Whoever waits for it is told of each change.
type executor struct {
	exec.DependencyManager
	hostname string
	mu       sync.Mutex
	cpus     int64         // billionths of a processor that the node has
	changed  chan struct{} // closed at the next change
	runs     map[string]*run
	node     *api.Node // as it was configured last
}

func newExecutor(hostname string) *executor {
	return &executor{
		DependencyManager: agent.NewDependencyManager(nil),
		hostname:          hostname, cpus: 4e9, changed: make(chan struct{}), runs: map[string]*run{},
	}
}

// change runs f and then wakes those who wait.
func (e *executor) change(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
	close(e.changed)
	e.changed = make(chan struct{})
}

// until waits until what holds of the executor; holds may read its fields.
func (e *executor) until(ctx context.Context, t *testing.T, what string, holds func() bool) {
	t.Helper()
	for {
		e.mu.Lock()
		done, changed := holds(), e.changed
		e.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("it is not so that %s: %v", what, ctx.Err())
		}
	}
}

// Describe implements exec.Executor.
func (e *executor) Describe(context.Context) (*api.NodeDescription, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &api.NodeDescription{
		Hostname:  e.hostname,
		Platform:  &api.Platform{OS: "linux", Architecture: "x86_64"},
		Resources: &api.Resources{NanoCPUs: e.cpus, MemoryBytes: 8 << 30},
		Engine:    &api.EngineDescription{EngineVersion: "28.2.2"},
	}, nil
}

// Configure implements exec.Executor.
func (e *executor) Configure(_ context.Context, n *api.Node) error {
	e.change(func() { e.node = n })
	return nil
}

// SetNetworkBootstrapKeys implements exec.Executor.
func (*executor) SetNetworkBootstrapKeys([]*api.EncryptionKey) error { return nil }

// Controller implements exec.Executor.
func (e *executor) Controller(task *api.Task) (exec.Controller, error) {
	r := &run{executor: e, task: task, ended: make(chan struct{})}
	e.change(func() { e.runs[task.ID] = r })
	return r, nil
}

// Secrets implements exec.SecretsProvider.
func (e *executor) Secrets() exec.SecretsManager {
	return toldSecrets{e.DependencyManager.Secrets(), e}
}

// toldSecrets tells when secrets are withdrawn.
type toldSecrets struct {
	exec.SecretsManager
	executor *executor
}

func (s toldSecrets) Remove(ids []string) {
	s.executor.change(func() { s.SecretsManager.Remove(ids) })
}

// hasSecret reports whether the node holds a secret; for until.
func (e *executor) hasSecret(id string) bool {
	secret, err := e.DependencyManager.Secrets().Get(id)
	return err == nil && secret != nil
}

// hasConfig reports whether the node holds a config; for until.
func (e *executor) hasConfig(id string) bool {
	config, err := e.DependencyManager.Configs().Get(id)
	return err == nil && config != nil
}

// fail ends a running task as a process does that exits with status 1.
func (e *executor) fail(id string) {
	e.mu.Lock()
	r := e.runs[id]
	e.mu.Unlock()
	r.end(errors.New("task: non-zero exit (1)"))
}

// run is a task on the executor.
type run struct {
	executor *executor
	task     *api.Task
	// secret and config are what the task found when it was prepared.
	secret, config string
	started        bool
	removed        bool
	once           sync.Once
	ended          chan struct{}
	err            error
}

func (r *run) end(err error) {
	r.once.Do(func() {
		r.err = err
		close(r.ended)
	})
}

// Update implements exec.Controller.
func (*run) Update(context.Context, *api.Task) error { return nil }

// Prepare implements exec.Controller: it reads what the task may read.
func (r *run) Prepare(context.Context) error {
	may := agent.Restrict(r.executor.DependencyManager, r.task)
	var secret, config string
	for _, ref := range r.task.Spec.GetContainer().Secrets {
		s, err := may.Secrets().Get(ref.SecretID)
		if err != nil {
			return err
		}
		secret = string(s.Spec.Data)
	}
	for _, ref := range r.task.Spec.GetContainer().Configs {
		c, err := may.Configs().Get(ref.ConfigID)
		if err != nil {
			return err
		}
		config = string(c.Spec.Data)
	}
	r.executor.change(func() { r.secret, r.config = secret, config })
	return nil
}

// Start implements exec.Controller.
func (r *run) Start(context.Context) error {
	r.executor.change(func() { r.started = true })
	return nil
}

// Wait implements exec.Controller.
func (r *run) Wait(ctx context.Context) error {
	select {
	case <-r.ended:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Shutdown implements exec.Controller.
func (r *run) Shutdown(context.Context) error {
	r.end(nil)
	return nil
}

// Terminate implements exec.Controller.
func (r *run) Terminate(context.Context) error {
	r.end(nil)
	return nil
}

// Remove implements exec.Controller.
func (r *run) Remove(context.Context) error {
	r.executor.change(func() { r.removed = true })
	return nil
}

// Close implements exec.Controller.
func (*run) Close() error { return nil }

// ContainerStatus implements exec.ContainerStatuser.
func (r *run) ContainerStatus(context.Context) (*api.ContainerStatus, error) {
	return &api.ContainerStatus{ContainerID: "container-of-" + r.task.ID, PID: 4242}, nil
}
