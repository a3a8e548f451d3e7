package exec

import "context"

// Keeper is an Executor whose tasks outlive the agent. After a restart the agent
// removes those that it does not know of: nobody else would.
type Keeper interface {
	// Tasks returns the IDs of all tasks of which there is something on this machine.
	Tasks() ([]string, error)
	// Remove kills a task and takes away all that is left of it.
	Remove(ctx context.Context, task string) error
}
