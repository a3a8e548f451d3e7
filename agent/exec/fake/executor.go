package fake

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"skep/agent/exec"
	"skep/api"
)

// Config is what an Executor is made of. The zero Config is usable.
type Config struct {
	// Description is the node's; nil is a machine that runs processes and
	// containers, with room for thousands of them.
	Description *api.NodeDescription
	// Script gives each task its part, when its controller is first made. nil is
	// the zero Script for all.
	Script func(*api.Task) Script
}

// Executor is a machine on which tasks play their scripts. It is safe for
// concurrent use.
type Executor struct {
	description *api.NodeDescription
	script      func(*api.Task) Script

	mu    sync.Mutex
	tasks map[string]*task
	node  *api.Node
	keys  []*api.EncryptionKey
	pids  int32
}

var _ exec.Executor = (*Executor)(nil)

// New returns a machine without tasks.
func New(config Config) *Executor {
	e := &Executor{
		description: config.Description,
		script:      config.Script,
		tasks:       make(map[string]*task),
	}
	if e.description == nil {
		e.description = &api.NodeDescription{
			Hostname:  "fake",
			Platform:  &api.Platform{Architecture: "x86_64", Os: "linux"},
			Resources: &api.Resources{NanoCpus: 1000e9, MemoryBytes: 1 << 44},
			Engine: &api.EngineDescription{Plugins: []*api.PluginDescription{
				{Type: "Runtime", Name: "container"},
				{Type: "Runtime", Name: "process"},
			}},
		}
	}
	return e
}

// Describe implements exec.Executor.
func (e *Executor) Describe(context.Context) (*api.NodeDescription, error) {
	return proto.CloneOf(e.description), nil
}

// Configure implements exec.Executor; Node returns what it was given.
func (e *Executor) Configure(_ context.Context, node *api.Node) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.node = node
	return nil
}

// Node returns the node of the last Configure, nil before.
func (e *Executor) Node() *api.Node {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.node
}

// SetNetworkBootstrapKeys implements exec.Executor; Keys returns what it was given.
func (e *Executor) SetNetworkBootstrapKeys(keys []*api.EncryptionKey) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keys = slices.Clone(keys)
	return nil
}

// Keys returns the keys of the last SetNetworkBootstrapKeys.
func (e *Executor) Keys() []*api.EncryptionKey {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.keys
}

// Controller implements exec.Executor.
func (e *Executor) Controller(spec *api.Task, _ exec.Dependencies) (exec.Controller, error) {
	return &controller{executor: e, id: spec.GetId(), task: e.enter(spec)}, nil
}

// enter returns the task, which is made when it is met for the first time.
func (e *Executor) enter(spec *api.Task) *task {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, ok := e.tasks[spec.GetId()]
	if !ok {
		e.pids++
		t = &task{pid: e.pids, ports: hostPorts(spec, uint32(e.pids))}
		if e.script != nil {
			t.script = e.script(spec)
		}
		e.tasks[spec.GetId()] = t
	}
	return t
}

func (e *Executor) leave(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.tasks, id)
}

// Running returns the IDs of the tasks that run, sorted.
func (e *Executor) Running() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []string
	for id, t := range e.tasks {
		if t.running() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// End makes a running task end by itself, with this exit code. It reports
// whether there was one.
func (e *Executor) End(id string, exitCode int) bool {
	e.mu.Lock()
	t, ok := e.tasks[id]
	e.mu.Unlock()
	return ok && t.end(exitCode, nil)
}

// hostPorts returns the host-mode ports of spec; those that leave the number to
// the node get one that is different for each task.
func hostPorts(spec *api.Task, n uint32) *api.PortStatus {
	ports := spec.GetEndpoint().GetPorts()
	if len(ports) == 0 {
		ports = spec.GetEndpoint().GetSpec().GetPorts()
	}
	var status *api.PortStatus
	for i, port := range ports {
		if port.GetPublishMode() != api.PortConfig_HOST {
			continue
		}
		if status == nil {
			status = &api.PortStatus{}
		}
		port = proto.CloneOf(port)
		if port.PublishedPort == 0 {
			port.PublishedPort = 1024 + (n*8+uint32(i))%64000
		}
		status.Ports = append(status.Ports, port)
	}
	return status
}
