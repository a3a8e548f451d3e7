package exec

import (
	"context"
	"iter"
	"time"

	"skep/api"
	"skep/template"
)

// Executor runs tasks on one machine. Its methods may be called concurrently.
type Executor interface {
	// Describe says what the machine has and what it can run. A runtime that it
	// offers is a plugin of type "Runtime".
	Describe(ctx context.Context) (*api.NodeDescription, error)
	// Configure hands over the node as the managers see it, at each change.
	Configure(ctx context.Context, node *api.Node) error
	// Controller returns the controller of one task. It does not touch the task:
	// an error means that this executor can never run it.
	Controller(task *api.Task, deps Dependencies) (Controller, error)
	// SetNetworkBootstrapKeys hands over the keys of the node's overlay networks.
	SetNetworkBootstrapKeys(keys []*api.EncryptionKey) error
}

// Dependencies is what one task may see of its node and its cluster. Only what
// the task's spec refers to is found.
type Dependencies interface {
	// Node is where the task runs, for its templates.
	Node() template.Node
	// Secret returns a secret of the task by ID. The error is Temporary while it
	// may still arrive.
	Secret(id string) (*api.Secret, error)
	// Config returns a config of the task by ID, as Secret does.
	Config(id string) (*api.Config, error)
}

// Controller carries out the verbs for one task. One verb runs at a time,
// except that Close, Logs and the status methods may be called at any moment.
//
// Every verb is idempotent: what is already so is a success, or one of
// ErrTaskPrepared and ErrTaskStarted. Every verb returns soon after its context
// ends, and leaves the task as it is then. An error is final unless it is
// Temporary or the context's own.
type Controller interface {
	// Update hands over a new version of the task. What of its spec is already
	// in use stays as it is.
	Update(ctx context.Context, task *api.Task) error
	// Prepare gets everything that the task needs to start.
	Prepare(ctx context.Context) error
	// Start starts the task and returns when it serves.
	Start(ctx context.Context) error
	// Wait returns when the task has ended by itself: nil for exit code 0, else an
	// error that wraps an ExitError when there is a code.
	Wait(ctx context.Context) error
	// Shutdown stops the task as its spec wants it, first politely. It returns when
	// nothing of it is left running. A task that never started is a success.
	Shutdown(ctx context.Context) error
	// Terminate is Shutdown without courtesy.
	Terminate(ctx context.Context) error
	// Remove stops the task if need be and takes away all that is left of it, logs
	// included. A task of which there is nothing is a success.
	Remove(ctx context.Context) error
	// Close ends the controller and cancels its verbs, and leaves the task alone.
	Close() error
}

// ContainerStatuser is a Controller that knows process ID and exit code.
type ContainerStatuser interface {
	// ContainerStatus returns nil when there is nothing to tell yet.
	ContainerStatus(ctx context.Context) (*api.ContainerStatus, error)
}

// PortStatuser is a Controller that publishes ports on its node.
type PortStatuser interface {
	// PortStatus returns the ports in use, nil when there are none.
	PortStatus(ctx context.Context) (*api.PortStatus, error)
}

// Logger is a Controller that keeps what the task writes.
type Logger interface {
	// Logs yields what the task wrote, oldest first. With Follow it goes on until
	// the task has ended or ctx ends. Logs of a task that has ended can be read
	// until it is removed. An error is yielded once, as the last pair.
	Logs(ctx context.Context, options LogOptions) iter.Seq2[LogMessage, error]
}

// LogOptions choose a part of a task's logs.
type LogOptions struct {
	// Follow goes on with what is written from now on.
	Follow bool
	// Tail keeps only the last Tail messages of what is there; 0 is all. With
	// Follow and a negative Tail nothing of what is there is kept.
	Tail int
	// Since leaves out what is older; zero is all.
	Since time.Time
	// Streams keeps only these; empty is all.
	Streams []api.LogStream
}

// LogMessage is one line, or a piece of a line too long to be kept whole.
type LogMessage struct {
	Time   time.Time
	Stream api.LogStream
	// Data ends in a newline if the line ends with it.
	Data []byte
}
