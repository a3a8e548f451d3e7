package exectest

import (
	"fmt"
	"testing"

	"skep/agent/exec"
	"skep/api"
	"skep/template"
)

// Machine is what the suite runs tasks on.
type Machine interface {
	// Executor returns an executor as an agent that was just started would make
	// it. What runs on the machine runs on; an executor that was returned before is
	// not used again.
	Executor(t *testing.T) exec.Executor
	// Task returns a new task, assigned to this machine, that behaves as told.
	Task(t *testing.T, b Behaviour) *api.Task
}

// Behaviour is what a task does. The zero Behaviour runs until it is asked to
// stop, and stops at once.
type Behaviour struct {
	// Ends: it ends by itself as soon as it runs, with ExitCode.
	Ends     bool
	ExitCode int
	// Unpreparable: Prepare fails, for good.
	Unpreparable bool
	// Stubborn: it does not stop when it is asked to, for longer than a test runs.
	Stubborn bool
	// Output is what it writes to stdout as soon as it behaves as told, a line each.
	Output []string
	// Port: it publishes a port in host mode and leaves the number to the node.
	Port bool
}

// Dependencies hands out what its maps hold. The zero value has nothing.
type Dependencies struct {
	On      template.Node
	Secrets map[string]*api.Secret
	Configs map[string]*api.Config
}

var _ exec.Dependencies = Dependencies{}

// Node implements exec.Dependencies.
func (d Dependencies) Node() template.Node { return d.On }

// Secret implements exec.Dependencies.
func (d Dependencies) Secret(id string) (*api.Secret, error) {
	if secret, ok := d.Secrets[id]; ok {
		return secret, nil
	}
	return nil, fmt.Errorf("secret %s is not among the task's", id)
}

// Config implements exec.Dependencies.
func (d Dependencies) Config(id string) (*api.Config, error) {
	if config, ok := d.Configs[id]; ok {
		return config, nil
	}
	return nil, fmt.Errorf("config %s is not among the task's", id)
}
