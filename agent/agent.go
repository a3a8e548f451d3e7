package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"skep/agent/exec"
	"skep/api"
	"skep/model"
	"skep/template"
)

// Config is what an agent is made of.
type Config struct {
	// NodeID is this node's. Required.
	NodeID string
	// Executor runs the tasks. Required.
	Executor exec.Executor
	// Storage keeps the tasks; nil is a Memory. Its owner closes it after Run.
	Storage Storage
	// Connect returns a connection to a manager for one session. The session calls
	// done once, with what ended it. Required.
	Connect func(ctx context.Context) (conn grpc.ClientConnInterface, done func(error), err error)
	// Notify is called with each message of a session, one at a time; the first of
	// a session says that the node is registered. Messages are complete: node,
	// managers, network keys and root CA. Nil ignores them.
	Notify func(*api.SessionMessage)
	// Hostname is what the node calls itself; empty is what the executor says.
	Hostname string
	// TLSInfo is what the description says of the node's certificate. Nil is nothing.
	TLSInfo func() *api.NodeTLSInfo
	// FIPS is what the description says of it.
	FIPS bool
	// Now stamps statuses; nil is time.Now.
	Now func() time.Time
	// Random, in [0, 1), spreads the attempts of many agents; nil is math/rand.
	Random func() float64
	// Log takes what an operator wants to know; nil discards.
	Log *slog.Logger
}

const (
	// rpcTimeout bounds a heartbeat, and the wait for a session's first message.
	rpcTimeout = 5 * time.Second
	// describeEvery is how often the node's description is looked at.
	describeEvery = 20 * time.Second
)

// Agent makes this machine a node. Make one with New.
type Agent struct {
	cfg     Config
	worker  *worker
	refresh chan struct{}

	// What the last session left; only Run's goroutine and those of the session it
	// runs use them, one after the other.
	sessionID string
	node      *api.Node
	keys      []*api.EncryptionKey
}

// New returns an agent that does nothing until Run.
func New(cfg Config) (*Agent, error) {
	switch {
	case cfg.NodeID == "":
		return nil, errors.New("new agent: no node ID")
	case cfg.Executor == nil:
		return nil, errors.New("new agent: no executor")
	case cfg.Connect == nil:
		return nil, errors.New("new agent: no way to connect")
	}
	if cfg.Storage == nil {
		cfg.Storage = &Memory{}
	}
	if cfg.Notify == nil {
		cfg.Notify = func(*api.SessionMessage) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Agent{cfg: cfg, worker: newWorker(cfg), refresh: make(chan struct{}, 1)}, nil
}

// Run adopts the tasks of the storage and holds sessions until ctx ends. The
// tasks run on after it. It fails when the storage cannot be read. Call it once.
func (a *Agent) Run(ctx context.Context) error {
	description, err := a.describe(ctx)
	if err != nil {
		// The tasks of a machine that cannot be described go on all the same.
		a.cfg.Log.Warn("node cannot be described yet", "node.id", a.cfg.NodeID, "error", err)
		a.worker.vault.setNode(template.NodeOf(a.cfg.NodeID, &api.NodeDescription{Hostname: a.cfg.Hostname}))
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var group, writer sync.WaitGroup
	a.worker.spawn = func(f func(context.Context)) { group.Go(func() { f(life) }) }
	if err := a.worker.resume(); err != nil {
		return fmt.Errorf("resume tasks: %w", err)
	}
	written, endWriter := context.WithCancel(context.WithoutCancel(ctx))
	defer endWriter()
	writer.Go(func() { a.worker.journal.run(written) })

	a.worker.removeUnknown(ctx)
	a.holdSessions(ctx, description)

	end()
	group.Wait()
	endWriter()
	writer.Wait()
	if err := a.worker.journal.write(); err != nil {
		return fmt.Errorf("stop the agent: %w", err)
	}
	return nil
}

// Leave stops all tasks as their specs want it, removes what is left of them and
// takes no new ones; the sessions go on. When ctx ends it terminates the rest.
// It works while Run does.
func (a *Agent) Leave(ctx context.Context) error {
	if err := a.worker.leave(ctx); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

// Refresh has the node's description looked at now, because the certificate is
// another.
func (a *Agent) Refresh() {
	select {
	case a.refresh <- struct{}{}:
	default:
	}
}

// TaskLogs calls send with what a task of this machine wrote, oldest first: the
// last tail messages of what there is, or all for 0, and with follow what is
// written from now on, until the task or ctx ends or send fails.
func (a *Agent) TaskLogs(ctx context.Context, taskID string, follow bool, tail int, send func(exec.LogMessage) error) error {
	controller, err := a.worker.controller(taskID)
	if err != nil {
		return err
	}
	logger, ok := controller.(exec.Logger)
	if !ok {
		return model.Errorf(model.Precondition, "logs of task %s: its runtime keeps none", taskID)
	}
	for message, err := range logger.Logs(ctx, exec.LogOptions{Follow: follow, Tail: tail}) {
		if err != nil {
			return fmt.Errorf("logs of task %s: %w", taskID, err)
		}
		if err := send(message); err != nil {
			return err
		}
	}
	return nil
}

// holdSessions holds one session after the other until ctx ends.
func (a *Agent) holdSessions(ctx context.Context, description *api.NodeDescription) {
	var wait backoff
	for ctx.Err() == nil {
		began, registered := time.Now(), false
		err := errors.New("the node cannot be described")
		if description == nil {
			description, _ = a.describe(ctx) // said at the start
		}
		if description != nil {
			registered, err = a.holdSession(ctx, description)
		}
		if ctx.Err() != nil {
			return
		}
		var changed descriptionChanged
		if errors.As(err, &changed) {
			description = changed.to
			continue
		}
		if registered && time.Since(began) > wait.bound { // one that fails at once is no success
			wait = backoff{}
		}
		delay := wait.next(a.cfg.Random())
		a.cfg.Log.Warn("session with the managers ended", "node.id", a.cfg.NodeID, "registered", registered, "retry", delay, "error", err)
		pause(ctx, delay)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// descriptionChanged ends a session, since only a new one can say what the node
// is now.
type descriptionChanged struct{ to *api.NodeDescription }

func (descriptionChanged) Error() string { return "the node's description changed" }

// describe asks the executor what the node is and has.
func (a *Agent) describe(ctx context.Context) (*api.NodeDescription, error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	said, err := a.cfg.Executor.Describe(ctx)
	if err != nil {
		return nil, fmt.Errorf("describe the node: %w", err)
	}
	description := &api.NodeDescription{}
	if said != nil {
		description = model.Shallow(said)
	}
	if a.cfg.Hostname != "" {
		description.Hostname = a.cfg.Hostname
	}
	if a.cfg.TLSInfo != nil {
		description.TlsInfo = a.cfg.TLSInfo()
	}
	description.Fips = a.cfg.FIPS
	a.worker.vault.setNode(template.NodeOf(a.cfg.NodeID, description))
	return description, nil
}

// configure hands the executor what is new in a session message.
func (a *Agent) configure(ctx context.Context, message *api.SessionMessage) error {
	if node := message.GetNode(); node != nil && !model.SameToItself(node, a.node) {
		if err := a.cfg.Executor.Configure(ctx, node); err != nil {
			return fmt.Errorf("configure the executor: %w", err)
		}
		a.node = node
	}
	if keys := message.GetNetworkBootstrapKeys(); !sameKeys(keys, a.keys) {
		if err := a.cfg.Executor.SetNetworkBootstrapKeys(keys); err != nil {
			return fmt.Errorf("set network keys: %w", err)
		}
		a.keys = keys
	}
	return nil
}

func sameKeys(a, b []*api.EncryptionKey) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !proto.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}
