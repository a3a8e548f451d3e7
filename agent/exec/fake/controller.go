package fake

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"skep/agent/exec"
	"skep/api"
)

type controller struct {
	executor *Executor
	id       string
	task     *task
	life     exec.Lifetime
}

var (
	_ exec.ContainerStatuser = (*controller)(nil)
	_ exec.PortStatuser      = (*controller)(nil)
	_ exec.Logger            = (*controller)(nil)
)

// killed is the exit code of a task that is stopped: 128 + SIGTERM.
const killed = 143

func (c *controller) Update(ctx context.Context, _ *api.Task) error {
	_, leave, err := c.life.Enter(ctx)
	if err != nil {
		return err
	}
	leave()
	return nil
}

func (c *controller) Prepare(ctx context.Context) error {
	if c.task.isPrepared() {
		return exec.ErrTaskPrepared
	}
	if err := c.act(ctx, exec.Prepare, c.task.script.Preparing); err != nil {
		return err
	}
	c.task.prepare()
	return nil
}

func (c *controller) Start(ctx context.Context) error {
	if c.task.isStarted() {
		return exec.ErrTaskStarted
	}
	if !c.task.isPrepared() {
		return fmt.Errorf("start task %s: it is not prepared", c.id)
	}
	if err := c.act(ctx, exec.Start, c.task.script.Starting); err != nil {
		return err
	}
	c.task.start(time.Now())
	return nil
}

func (c *controller) Wait(ctx context.Context) error {
	ctx, leave, err := c.life.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	t := c.task
	if !t.isStarted() {
		return fmt.Errorf("wait for task %s: it was not started", c.id)
	}
	var over <-chan time.Time
	if t.script.Run > 0 || t.script.Fail == exec.Wait {
		timer := time.NewTimer(time.Until(t.startedAt.Add(t.script.Run)))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-t.done:
	case <-over:
		t.end(t.script.ExitCode, c.failure(exec.Wait))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	switch {
	case t.err != nil:
		return t.err
	case t.exitCode != 0:
		return &exec.ExitError{Code: t.exitCode}
	}
	return nil
}

func (c *controller) Shutdown(ctx context.Context) error {
	if !c.task.running() {
		_, leave, err := c.life.Enter(ctx)
		if err == nil {
			leave()
		}
		return err
	}
	if err := c.act(ctx, exec.Shutdown, c.task.script.Stopping); err != nil {
		return err
	}
	c.task.end(killed, nil)
	return nil
}

func (c *controller) Terminate(ctx context.Context) error {
	_, leave, err := c.life.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	c.task.end(killed, nil)
	return nil
}

func (c *controller) Remove(ctx context.Context) error {
	if err := c.Terminate(ctx); err != nil {
		return err
	}
	c.executor.leave(c.id)
	return nil
}

func (c *controller) Close() error {
	c.life.End()
	return nil
}

func (c *controller) ContainerStatus(context.Context) (*api.ContainerStatus, error) {
	c.task.mu.Lock()
	defer c.task.mu.Unlock()
	if c.task.phase < started {
		return nil, nil
	}
	return &api.ContainerStatus{Pid: c.task.pid, ExitCode: int32(c.task.exitCode)}, nil
}

func (c *controller) PortStatus(context.Context) (*api.PortStatus, error) {
	if !c.task.isStarted() {
		return nil, nil
	}
	return c.task.ports, nil
}

func (c *controller) Logs(ctx context.Context, options exec.LogOptions) iter.Seq2[exec.LogMessage, error] {
	return func(yield func(exec.LogMessage, error) bool) {
		if !c.task.isStarted() {
			return
		}
		lines := c.task.script.Output
		if n := options.Tail; n != 0 && n < len(lines) {
			lines = lines[len(lines)-max(n, 0):]
		}
		if len(options.Streams) > 0 && !slices.Contains(options.Streams, api.LogStream_LOG_STREAM_STDOUT) {
			lines = nil
		}
		if c.task.startedAt.Before(options.Since) {
			lines = nil
		}
		for _, line := range lines {
			message := exec.LogMessage{
				Time:   c.task.startedAt,
				Stream: api.LogStream_LOG_STREAM_STDOUT,
				Data:   []byte(line + "\n"),
			}
			if !yield(message, nil) {
				return
			}
		}
		if !options.Follow {
			return
		}
		ctx, leave, err := c.life.Enter(ctx)
		if err != nil {
			yield(exec.LogMessage{}, err)
			return
		}
		defer leave()
		select {
		case <-c.task.done:
		case <-ctx.Done():
			yield(exec.LogMessage{}, context.Cause(ctx))
		}
	}
}

// act takes the time that verb takes, and fails if the script says so.
func (c *controller) act(ctx context.Context, verb exec.Verb, takes time.Duration) error {
	ctx, leave, err := c.life.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if takes > 0 {
		timer := time.NewTimer(takes)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return c.failure(verb)
}

func (c *controller) failure(verb exec.Verb) error {
	switch {
	case c.task.script.Fail != verb:
		return nil
	case c.task.script.Err != nil:
		return c.task.script.Err
	}
	return errors.New("the script says that this fails")
}
