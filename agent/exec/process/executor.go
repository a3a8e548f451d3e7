package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"skep/agent/exec"
	"skep/api"
)

// Config is what an Executor is made of. Only Dir is required.
type Config struct {
	// Dir holds a directory for each task. It is created if need be.
	Dir string
	// FilesDir holds secrets and configs of running tasks. Empty is a file system in
	// memory where there is one, else the task's own directory.
	FilesDir string
	// LogSize bounds one log file of a task in bytes; 0 is 10 MiB.
	LogSize int64
	// LogFiles is how many of them are kept; 0 is 3.
	LogFiles int
	// Hostname and Version go into the node's description. An empty Hostname is the
	// machine's.
	Hostname, Version string
	// Generic are the machine's generic resources.
	Generic []*api.GenericResource
	// Log is nil for none.
	Log *slog.Logger
}

// Executor runs tasks as processes. It is safe for concurrent use.
type Executor struct {
	config  Config
	limiter limiter
	ports   ports
	log     *slog.Logger

	// closing is closed with the executor.
	closing chan struct{}

	mu        sync.Mutex
	closed    bool
	instances map[string]*instance
	watchers  sync.WaitGroup
}

var (
	_ exec.Executor = (*Executor)(nil)
	_ exec.Keeper   = (*Executor)(nil)
)

// New returns an executor on the tasks in config.Dir. What runs there goes on
// and is adopted when its controller is made.
func New(config Config) (*Executor, error) {
	if fd, err := unix.PidfdOpen(os.Getpid(), unix.PIDFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("this kernel cannot watch processes (pidfd_open: %w); Linux 5.10 or newer is needed", err)
	} else if err := unix.Close(fd); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(config.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the directory of tasks: %w", err)
	}
	config.Dir = dir
	if config.FilesDir == "" {
		config.FilesDir = memory()
	}
	if config.LogSize == 0 {
		config.LogSize = 10 << 20
	}
	if config.LogFiles == 0 {
		config.LogFiles = 3
	}
	e := &Executor{
		config:    config,
		limiter:   newLimiter(),
		log:       config.Log,
		closing:   make(chan struct{}),
		instances: make(map[string]*instance),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	// Agents on one machine begin at different numbers.
	e.ports.next.Store(rand.Uint32())
	return e, nil
}

// Close ends the executor and leaves the tasks running. Verbs must have ended.
func (e *Executor) Close() error {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.closing)
	}
	for _, i := range e.instances {
		if i.parent != nil {
			i.parent.interrupt()
		}
	}
	e.mu.Unlock()
	e.watchers.Wait()
	for _, i := range e.instances {
		if i.parent != nil {
			i.parent.close()
		}
	}
	e.limiter.close()
	return nil
}

// Configure implements exec.Executor. A process needs to know nothing of it.
func (e *Executor) Configure(context.Context, *api.Node) error { return nil }

// SetNetworkBootstrapKeys implements exec.Executor. Processes have the node's
// own network.
func (e *Executor) SetNetworkBootstrapKeys([]*api.EncryptionKey) error { return nil }

// Controller implements exec.Executor. The error says why the task describes no
// process that could run anywhere.
func (e *Executor) Controller(task *api.Task, deps exec.Dependencies) (exec.Controller, error) {
	if id := task.GetId(); !validID(id) {
		return nil, fmt.Errorf("task ID %q cannot be the name of a directory", id)
	}
	spec, err := decode(task)
	if err != nil {
		return nil, err
	}
	return &controller{executor: e, task: task, spec: spec, deps: deps, dir: e.directory(task.GetId())}, nil
}

// Tasks implements exec.Keeper.
func (e *Executor) Tasks() ([]string, error) {
	entries, err := os.ReadDir(e.config.Dir)
	if err != nil {
		return nil, fmt.Errorf("list the tasks: %w", err)
	}
	var tasks []string
	for _, entry := range entries {
		if entry.IsDir() && validID(entry.Name()) {
			tasks = append(tasks, entry.Name())
		}
	}
	return tasks, nil
}

// Remove implements exec.Keeper.
func (e *Executor) Remove(ctx context.Context, task string) error {
	if !validID(task) {
		return fmt.Errorf("remove task %q: no such task", task)
	}
	c := &controller{executor: e, task: &api.Task{Id: task}, dir: e.directory(task)}
	return errors.Join(c.Terminate(ctx), c.Remove(ctx), c.Close())
}

func validID(id string) bool {
	return id != "" && id == filepath.Base(id) && filepath.IsLocal(id) && id != "."
}

func (e *Executor) directory(task string) directory {
	return directory(filepath.Join(e.config.Dir, task))
}

// find returns the task if it was started, nil if not.
func (e *Executor) find(task string) (*instance, error) {
	e.mu.Lock()
	i := e.instances[task]
	e.mu.Unlock()
	if i != nil {
		return i, nil
	}
	i, err := load(task, e.directory(task))
	if i == nil {
		return nil, err
	}
	if err != nil {
		e.log.Error("a task left something behind", "task.id", task, "err", err)
	}
	return e.adopt(i)
}

// adopt makes sure that the end of a task is noticed. It returns the instance
// that is watched, which is another one when somebody was faster.
func (e *Executor) adopt(i *instance) (*instance, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.instances[i.task]; known != nil || e.closed {
		if i.parent != nil {
			i.parent.close()
		}
		if known == nil {
			return nil, exec.ErrControllerClosed
		}
		return known, nil
	}
	e.instances[i.task] = i
	e.watchers.Go(func() {
		if err := i.watch(e.closing); err != nil {
			e.log.Error("a task left something behind", "task.id", i.task, "err", err)
		}
	})
	return i, nil
}

// forget removes all that is left of a task that has ended, or never started.
func (e *Executor) forget(task string) error {
	dir := e.directory(task)
	var held holdings
	if _, err := dir.read(holdingsFile, &held); err != nil {
		e.log.Warn("the record of what a task holds cannot be read", "task.id", task, "err", err)
	}
	err := held.remove()
	if err == nil {
		err = os.RemoveAll(string(dir))
	}
	if err != nil {
		return fmt.Errorf("remove what is left of task %s: %w", task, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := e.instances[task]; i != nil && i.parent != nil {
		i.parent.close()
	}
	delete(e.instances, task)
	return nil
}
