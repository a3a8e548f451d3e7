package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"sync"
	"syscall"
	"time"

	"skep/agent/exec"
	"skep/api"
	"skep/api/skep"
)

// controller carries out the verbs for one task.
type controller struct {
	executor *Executor
	dir      directory
	deps     exec.Dependencies
	life     exec.Lifetime

	mu   sync.Mutex
	task *api.Task
	spec *skep.ProcessSpec
}

var (
	_ exec.ContainerStatuser = (*controller)(nil)
	_ exec.PortStatuser      = (*controller)(nil)
	_ exec.Logger            = (*controller)(nil)
)

func (c *controller) id() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.task.GetId()
}

func (c *controller) described() (*api.Task, *skep.ProcessSpec) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.task, c.spec
}

// Update takes over what a later start would use.
func (c *controller) Update(ctx context.Context, task *api.Task) error {
	_, leave, err := c.life.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	spec, err := decode(task)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.task, c.spec = task, spec
	return nil
}

func (c *controller) Prepare(ctx context.Context) error {
	_, leave, err := c.life.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	i, err := c.executor.find(c.id())
	if err != nil {
		return err
	}
	if i != nil {
		return exec.ErrTaskPrepared
	}
	return c.prepare()
}

func (c *controller) Start(ctx context.Context) error {
	ctx, leave, err := c.life.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	i, err := c.executor.find(c.id())
	if err != nil {
		return err
	}
	if i == nil {
		if i, err = c.launch(); err != nil {
			return err
		}
	}
	return c.becomeHealthy(ctx, i)
}

// becomeHealthy waits until the task serves, and stops it when it does not.
func (c *controller) becomeHealthy(ctx context.Context, i *instance) error {
	check, err := c.health()
	if err != nil || check == nil {
		return err
	}
	probing, cancel := whileRuns(ctx, i)
	defer cancel()
	err = check.until(probing)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errEnded):
		if failed := i.exit.err(); failed != nil {
			return fmt.Errorf("ended before it was healthy: %w", failed)
		}
		return nil // it did what it had to, faster than it was asked about it
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	}
	return errors.Join(err, c.stop(ctx, i))
}

func (c *controller) Wait(ctx context.Context) error {
	ctx, leave, err := c.life.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	i, err := c.executor.find(c.id())
	if err != nil {
		return err
	}
	if i == nil {
		return fmt.Errorf("wait for task %s: it was not started on this machine, or its directory %s is gone", c.id(), c.dir)
	}
	check, err := c.health()
	if err != nil {
		c.executor.log.Warn("the health of a task cannot be checked", "task.id", c.id(), "err", err)
	}
	if check != nil {
		probing, cancel := whileRuns(ctx, i)
		defer cancel()
		err := check.while(probing)
		if !errors.Is(err, errEnded) && context.Cause(ctx) == nil {
			return errors.Join(err, c.stop(ctx, i))
		}
	}
	select {
	case <-i.ended:
		return i.exit.err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errEnded ends the context of what is of use only while the task runs.
var errEnded = errors.New("the task has ended")

func whileRuns(ctx context.Context, i *instance) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-i.ended:
			cancel(errEnded)
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel(nil)
		wg.Wait()
	}
}

func (c *controller) Shutdown(ctx context.Context) error {
	return c.end(ctx, c.stop)
}

func (c *controller) Terminate(ctx context.Context) error {
	return c.end(ctx, func(ctx context.Context, i *instance) error { return i.terminate(ctx) })
}

// end ends the task, if there is anything to end.
func (c *controller) end(ctx context.Context, how func(context.Context, *instance) error) error {
	ctx, leave, err := c.life.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	i, err := c.executor.find(c.id())
	if err != nil || i == nil {
		return err
	}
	return how(ctx, i)
}

// stop stops the task as its spec wants it. Its parent does that; should it not
// be able to, it is done without it.
func (c *controller) stop(ctx context.Context, i *instance) error {
	_, spec := c.described()
	patience := spec.GetStopDelay().AsDuration() + durationOr(spec.GetStopGrace(), defaultGrace) + parentTime
	return i.stop(ctx, patience)
}

// Remove stops the task as Shutdown does, then takes away what is left.
func (c *controller) Remove(ctx context.Context) error {
	if err := c.Shutdown(ctx); err != nil {
		return err
	}
	_, leave, err := c.life.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return c.executor.forget(c.id())
}

func (c *controller) Close() error {
	c.life.End()
	return nil
}

func (c *controller) ContainerStatus(context.Context) (*api.ContainerStatus, error) {
	i, err := c.executor.find(c.id())
	if err != nil || i == nil {
		return nil, err
	}
	status := &api.ContainerStatus{Pid: int32(i.run.Process.Pid)}
	select {
	case <-i.ended:
		status.ExitCode = int32(i.exit.Code)
		if i.exit.Lost {
			status.ExitCode = -1
		}
	default:
	}
	return status, nil
}

func (c *controller) PortStatus(context.Context) (*api.PortStatus, error) {
	task, _ := c.described()
	ports := hostPorts(task)
	var held holdings
	_, err := c.dir.read(holdingsFile, &held)
	if err != nil || len(ports) == 0 || len(held.Ports) == 0 {
		return nil, err
	}
	return &api.PortStatus{Ports: numbered(ports, held.Ports)}, nil
}

func (c *controller) Logs(ctx context.Context, options exec.LogOptions) iter.Seq2[exec.LogMessage, error] {
	return func(yield func(exec.LogMessage, error) bool) {
		ctx, leave, err := c.life.Enter(ctx)
		if err != nil {
			yield(exec.LogMessage{}, err)
			return
		}
		defer leave()
		readLogs(ctx, c.dir, options, c.over)(yield)
	}
}

// over reports whether the task writes no more.
func (c *controller) over() (bool, error) {
	if _, err := os.Stat(string(c.dir)); errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	_, err := os.Stat(c.dir.path(exitFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// parentTime is how long a parent may take for its own part of stopping a task.
const parentTime = 10 * time.Second

// stop asks the parent to stop the task, and terminates it when that has not
// been done after patience.
func (i *instance) stop(ctx context.Context, patience time.Duration) error {
	if i.over() {
		return nil
	}
	if i.parent == nil {
		return i.wait(ctx, patience) // for the watcher, which will say how it ended
	}
	if err := i.parent.signal(signalStop); err != nil {
		return fmt.Errorf("ask the parent of task %s to stop it: %w", i.task, err)
	}
	if err := i.wait(ctx, patience); !errors.Is(err, errPatience) {
		return err
	}
	return i.terminate(ctx)
}

// terminate kills the task, if need be together with its parent.
func (i *instance) terminate(ctx context.Context) error {
	if i.over() {
		return nil
	}
	if i.parent == nil {
		return i.wait(ctx, sweepTime+parentTime)
	}
	if err := i.parent.signal(signalKill); err != nil {
		return fmt.Errorf("ask the parent of task %s to kill it: %w", i.task, err)
	}
	if err := i.wait(ctx, parentTime); !errors.Is(err, errPatience) {
		return err
	}
	if err := i.parent.signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill the parent of task %s: %w", i.task, err)
	}
	return i.wait(ctx, sweepTime+parentTime)
}

func (i *instance) over() bool {
	select {
	case <-i.ended:
		return true
	default:
		return false
	}
}

// errPatience says that something takes too long.
var errPatience = errors.New("a task does not end")

func (i *instance) wait(ctx context.Context, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-i.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return fmt.Errorf("task %s: %w after %v", i.task, errPatience, patience)
	}
}
