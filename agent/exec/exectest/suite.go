package exectest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"skep/agent/exec"
	"skep/api"
)

// Run holds the executor of each machine that boot makes to the promises of
// package exec.
func Run(t *testing.T, boot func(t *testing.T) Machine) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, Machine)
	}{
		{"a node says what it can run", describes},
		{"a task runs until it is shut down", runsUntilShutDown},
		{"every verb can be repeated", repeats},
		{"the exit code is told, as often as it is asked for", tellsExitCode},
		{"what cannot be prepared says why and leaves nothing", refuses},
		{"waiting can be cancelled and taken up again", cancelsWait},
		{"a shutdown can be cancelled and the task terminated", cancelsShutdown},
		{"no verb begins when its context has ended", honoursEndedContext},
		{"what never started can be shut down and removed", stopsWhatNeverStarted},
		{"removing a task stops it", removesWhatRuns},
		{"an update is taken at any time", updates},
		{"a closed controller does nothing, and leaves its task alone", closes},
		{"a restarted agent adopts what runs", adopts},
		{"a restarted agent adopts what was prepared", adoptsPrepared},
		{"a restarted agent learns how a task ended", adoptsEnded},
		{"the ports that a node chose are told", tellsPorts},
		{"output can be read until the task is removed", keepsOutput},
		{"the machine of Next leads through a whole life", leadsThroughLife},
		{"tasks do not get in each other's way", runsManyAtOnce},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, boot(t))
		})
	}
}

// patience bounds what should not take long at all.
const patience = 30 * time.Second

func contextOf(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// controller makes one for task, which is gone from the machine after the test.
func controller(t *testing.T, e exec.Executor, task *api.Task) exec.Controller {
	t.Helper()
	c, err := e.Controller(task, Dependencies{})
	if err != nil {
		t.Fatalf("make a controller: %v", err)
	}
	return c
}

// finally removes a task at the end of the test, through a controller of e's.
func finally(t *testing.T, e exec.Executor, task *api.Task) {
	t.Helper()
	t.Cleanup(func() {
		c := controller(t, e, task)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Terminate(ctx); err != nil {
			t.Errorf("terminate: %v", err)
		}
		if err := c.Remove(ctx); err != nil {
			t.Errorf("remove: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func started(t *testing.T, e exec.Executor, task *api.Task) exec.Controller {
	t.Helper()
	c := controller(t, e, task)
	finally(t, e, task)
	ctx := contextOf(t)
	prepared(t, c)
	if err := c.Start(ctx); err != nil && !errors.Is(err, exec.ErrTaskStarted) {
		t.Fatalf("start: %v", err)
	}
	return c
}

func prepared(t *testing.T, c exec.Controller) {
	t.Helper()
	if err := c.Prepare(contextOf(t)); err != nil && !errors.Is(err, exec.ErrTaskPrepared) {
		t.Fatalf("prepare: %v", err)
	}
}

// hear returns when the task has written something.
func hear(t *testing.T, c exec.Controller) {
	t.Helper()
	logger, ok := c.(exec.Logger)
	if !ok {
		t.Fatal("the controller is no Logger")
	}
	for _, err := range logger.Logs(contextOf(t), exec.LogOptions{Follow: true}) {
		if err != nil {
			t.Fatalf("logs: %v", err)
		}
		return
	}
	t.Fatal("the task ended and has written nothing")
}

func pid(t *testing.T, c exec.Controller) int32 {
	t.Helper()
	return status(t, c).GetPid()
}

func status(t *testing.T, c exec.Controller) *api.ContainerStatus {
	t.Helper()
	s, ok := c.(exec.ContainerStatuser)
	if !ok {
		t.Fatal("the controller is no ContainerStatuser")
	}
	status, err := s.ContainerStatus(contextOf(t))
	if err != nil {
		t.Fatalf("container status: %v", err)
	}
	return status
}

func wantExit(t *testing.T, err error, code int) {
	t.Helper()
	if code == 0 {
		if err != nil {
			t.Errorf("wait: got %v, want no error for exit code 0", err)
		}
		return
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Code != code {
		t.Errorf("wait: got %v, want exit code %d", err, code)
	}
}

func describes(t *testing.T, m Machine) {
	t.Helper()
	description, err := m.Executor(t).Describe(contextOf(t))
	if err != nil {
		t.Fatal(err)
	}
	if description.GetHostname() == "" || description.GetPlatform().GetOs() == "" || description.GetPlatform().GetArchitecture() == "" {
		t.Errorf("hostname or platform is missing: %v", description)
	}
	if r := description.GetResources(); r.GetNanoCpus() <= 0 || r.GetMemoryBytes() <= 0 {
		t.Errorf("resources are missing: %v", r)
	}
	for _, plugin := range description.GetEngine().GetPlugins() {
		if plugin.GetType() == "Runtime" {
			return
		}
	}
	t.Errorf("no plugin of type Runtime: %v", description.GetEngine().GetPlugins())
}

func runsUntilShutDown(t *testing.T, m Machine) {
	t.Helper()
	e := m.Executor(t)
	task := m.Task(t, Behaviour{})
	c := started(t, e, task)
	if pid(t, c) <= 0 {
		t.Errorf("pid %d of a running task", pid(t, c))
	}
	if err := c.Shutdown(contextOf(t)); err != nil {
		t.Fatalf("shutdown: %v", err)
	}
	if err := c.Wait(contextOf(t)); exec.IsTemporary(err) {
		t.Errorf("wait after shutdown: %v", err)
	}
}

func repeats(t *testing.T, m Machine) {
	t.Helper()
	c := started(t, m.Executor(t), m.Task(t, Behaviour{}))
	before := pid(t, c)
	prepared(t, c)
	for range 2 {
		if err := c.Start(contextOf(t)); err != nil && !errors.Is(err, exec.ErrTaskStarted) {
			t.Fatalf("start again: %v", err)
		}
	}
	if after := pid(t, c); after != before {
		t.Errorf("pid %d, then %d: it was started anew", before, after)
	}
	for _, verb := range []struct {
		name string
		do   func(context.Context) error
	}{{"shutdown", c.Shutdown}, {"terminate", c.Terminate}, {"remove", c.Remove}} {
		for n := range 2 {
			if err := verb.do(contextOf(t)); err != nil {
				t.Fatalf("%s, time %d: %v", verb.name, n+1, err)
			}
		}
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}

func tellsExitCode(t *testing.T, m Machine) {
	t.Helper()
	e := m.Executor(t)
	for _, code := range []int{0, 1, 3, 255} {
		c := started(t, e, m.Task(t, Behaviour{Ends: true, ExitCode: code}))
		for range 2 {
			wantExit(t, c.Wait(contextOf(t)), code)
		}
		if got := status(t, c).GetExitCode(); got != int32(code) {
			t.Errorf("container status: got exit code %d, want %d", got, code)
		}
		if err := c.Shutdown(contextOf(t)); err != nil {
			t.Errorf("shutdown of what has ended: %v", err)
		}
	}
}

func refuses(t *testing.T, m Machine) {
	t.Helper()
	e := m.Executor(t)
	task := m.Task(t, Behaviour{Unpreparable: true})
	c := controller(t, e, task)
	finally(t, e, task)
	for range 2 {
		err := c.Prepare(contextOf(t))
		if err == nil || exec.IsTemporary(err) || errors.Is(err, exec.ErrTaskPrepared) {
			t.Fatalf("prepare: got %v, want a final error", err)
		}
	}
	if err := c.Shutdown(contextOf(t)); err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

func cancelsWait(t *testing.T, m Machine) {
	t.Helper()
	c := started(t, m.Executor(t), m.Task(t, Behaviour{}))
	ctx, cancel := context.WithCancel(contextOf(t))
	result := make(chan error)
	go func() { result <- c.Wait(ctx) }()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Fatalf("wait: got %v, want context.Canceled", err)
	}
	go func() { result <- c.Wait(contextOf(t)) }()
	if err := c.Shutdown(contextOf(t)); err != nil {
		t.Fatalf("shutdown: %v", err)
	}
	if err := <-result; exec.IsTemporary(err) {
		t.Errorf("wait: got %v, want how it ended", err)
	}
}

func cancelsShutdown(t *testing.T, m Machine) {
	t.Helper()
	c := started(t, m.Executor(t), m.Task(t, Behaviour{Stubborn: true, Output: []string{"ready"}}))
	hear(t, c)
	ctx, cancel := context.WithCancel(contextOf(t))
	result := make(chan error)
	go func() { result <- c.Shutdown(ctx) }()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Fatalf("shutdown: got %v, want context.Canceled", err)
	}
	if err := c.Terminate(contextOf(t)); err != nil {
		t.Fatalf("terminate: %v", err)
	}
	if err := c.Wait(contextOf(t)); exec.IsTemporary(err) {
		t.Errorf("wait: got %v, want how it ended", err)
	}
}

func honoursEndedContext(t *testing.T, m Machine) {
	t.Helper()
	e := m.Executor(t)
	task := m.Task(t, Behaviour{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	first := controller(t, e, task)
	if err := first.Prepare(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("prepare: got %v, want context.Canceled", err)
	}
	prepared(t, first)
	if err := first.Start(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("start: got %v, want context.Canceled", err)
	}
	c := started(t, e, task)
	if err := c.Wait(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: got %v, want context.Canceled", err)
	}
	if err := c.Shutdown(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: got %v, want context.Canceled", err)
	}
}

func stopsWhatNeverStarted(t *testing.T, m Machine) {
	t.Helper()
	e := m.Executor(t)
	for name, prepare := range map[string]bool{"assigned": false, "prepared": true} {
		task := m.Task(t, Behaviour{})
		c := controller(t, e, task)
		if prepare {
			prepared(t, c)
		}
		for range 2 {
			if err := c.Shutdown(contextOf(t)); err != nil {
				t.Fatalf("%s: shutdown: %v", name, err)
			}
			if err := c.Terminate(contextOf(t)); err != nil {
				t.Fatalf("%s: terminate: %v", name, err)
			}
		}
		for range 2 {
			if err := c.Remove(contextOf(t)); err != nil {
				t.Fatalf("%s: remove: %v", name, err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatalf("%s: close: %v", name, err)
		}
	}
}

func removesWhatRuns(t *testing.T, m Machine) {
	t.Helper()
	e := m.Executor(t)
	task := m.Task(t, Behaviour{})
	c := started(t, e, task)
	result := make(chan error)
	go func() { result <- c.Wait(contextOf(t)) }()
	if err := c.Remove(contextOf(t)); err != nil {
		t.Fatalf("remove: %v", err)
	}
	if err := <-result; exec.IsTemporary(err) {
		t.Errorf("wait: got %v, want how it ended", err)
	}
	if err := c.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	// A task of the same ID would be a new one.
	again := started(t, e, task)
	if err := again.Shutdown(contextOf(t)); err != nil {
		t.Fatalf("shutdown: %v", err)
	}
}

func updates(t *testing.T, m Machine) {
	t.Helper()
	e := m.Executor(t)
	task := m.Task(t, Behaviour{})
	c := controller(t, e, task)
	if err := c.Update(contextOf(t), task); err != nil {
		t.Fatalf("update before prepare: %v", err)
	}
	c = started(t, e, task)
	before := pid(t, c)
	if err := c.Update(contextOf(t), task); err != nil {
		t.Fatalf("update of a running task: %v", err)
	}
	if after := pid(t, c); after != before {
		t.Errorf("pid %d, then %d: an update restarted it", before, after)
	}
}

func closes(t *testing.T, m Machine) {
	t.Helper()
	e := m.Executor(t)
	task := m.Task(t, Behaviour{})
	c := started(t, e, task)
	before := pid(t, c)
	result := make(chan error)
	go func() { result <- c.Wait(contextOf(t)) }()
	if err := c.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if err := <-result; !errors.Is(err, exec.ErrControllerClosed) {
		t.Errorf("wait: got %v, want ErrControllerClosed", err)
	}
	for name, err := range map[string]error{
		"wait":     c.Wait(contextOf(t)),
		"shutdown": c.Shutdown(contextOf(t)),
		"remove":   c.Remove(contextOf(t)),
	} {
		if !errors.Is(err, exec.ErrControllerClosed) {
			t.Errorf("%s after close: got %v, want ErrControllerClosed", name, err)
		}
	}
	again := started(t, e, task)
	if after := pid(t, again); after != before {
		t.Errorf("pid %d, then %d: closing a controller stopped its task", before, after)
	}
}

func adopts(t *testing.T, m Machine) {
	t.Helper()
	task := m.Task(t, Behaviour{})
	before := pid(t, started(t, m.Executor(t), task))

	e := m.Executor(t)
	c := controller(t, e, task)
	finally(t, e, task)
	prepared(t, c)
	if err := c.Start(contextOf(t)); err != nil && !errors.Is(err, exec.ErrTaskStarted) {
		t.Fatalf("start: %v", err)
	}
	if after := pid(t, c); after != before {
		t.Fatalf("pid %d, then %d: it was not adopted", before, after)
	}
	result := make(chan error)
	go func() { result <- c.Wait(contextOf(t)) }()
	if err := c.Shutdown(contextOf(t)); err != nil {
		t.Fatalf("shutdown: %v", err)
	}
	if err := <-result; exec.IsTemporary(err) {
		t.Errorf("wait: got %v, want how it ended", err)
	}
}

func adoptsPrepared(t *testing.T, m Machine) {
	t.Helper()
	task := m.Task(t, Behaviour{Ends: true, ExitCode: 4})
	prepared(t, controller(t, m.Executor(t), task))
	c := started(t, m.Executor(t), task)
	wantExit(t, c.Wait(contextOf(t)), 4)
}

func adoptsEnded(t *testing.T, m Machine) {
	t.Helper()
	task := m.Task(t, Behaviour{Ends: true, ExitCode: 7})
	first := started(t, m.Executor(t), task)
	wantExit(t, first.Wait(contextOf(t)), 7)
	c := controller(t, m.Executor(t), task)
	wantExit(t, c.Wait(contextOf(t)), 7)
	if got := status(t, c).GetExitCode(); got != 7 {
		t.Errorf("container status: got exit code %d, want 7", got)
	}
}

func tellsPorts(t *testing.T, m Machine) {
	t.Helper()
	task := m.Task(t, Behaviour{Port: true})
	ports := func(c exec.Controller) []*api.PortConfig {
		status, err := c.(exec.PortStatuser).PortStatus(contextOf(t))
		if err != nil {
			t.Fatalf("port status: %v", err)
		}
		return status.GetPorts()
	}
	before := ports(started(t, m.Executor(t), task))
	if len(before) != 1 || before[0].GetPublishedPort() == 0 {
		t.Fatalf("got ports %v, want one with a number", before)
	}
	after := ports(started(t, m.Executor(t), task))
	if len(after) != 1 || after[0].GetPublishedPort() != before[0].GetPublishedPort() {
		t.Errorf("adopted: got ports %v, want %v", after, before)
	}
}

func keepsOutput(t *testing.T, m Machine) {
	t.Helper()
	e := m.Executor(t)
	c := started(t, e, m.Task(t, Behaviour{Ends: true, Output: []string{"one", "two", "three"}}))
	wantExit(t, c.Wait(contextOf(t)), 0)
	logger, ok := c.(exec.Logger)
	if !ok {
		t.Fatal("the controller is no Logger")
	}
	for want, options := range map[string]exec.LogOptions{
		"one two three": {Follow: true},
		"two three":     {Tail: 2},
		"":              {Streams: []api.LogStream{api.LogStream_LOG_STREAM_STDERR}},
	} {
		var got []string
		for message, err := range logger.Logs(contextOf(t), options) {
			if err != nil {
				t.Fatalf("logs %+v: %v", options, err)
			}
			got = append(got, strings.TrimSuffix(string(message.Data), "\n"))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("logs %+v: got %q, want %q", options, got, want)
		}
	}
	if err := c.Remove(contextOf(t)); err != nil {
		t.Fatalf("remove: %v", err)
	}
}

func leadsThroughLife(t *testing.T, m Machine) {
	t.Helper()
	e := m.Executor(t)
	for _, s := range []struct {
		behaviour Behaviour
		desired   api.TaskState
		want      api.TaskState
		code      int32
	}{
		{Behaviour{Ends: true}, api.TaskState_RUNNING, api.TaskState_COMPLETE, 0},
		{Behaviour{Ends: true, ExitCode: 3}, api.TaskState_COMPLETE, api.TaskState_FAILED, 3},
		{Behaviour{Unpreparable: true}, api.TaskState_RUNNING, api.TaskState_REJECTED, 0},
		{Behaviour{}, api.TaskState_SHUTDOWN, api.TaskState_SHUTDOWN, 0},
	} {
		task := m.Task(t, s.behaviour)
		task.DesiredState = s.desired
		finally(t, e, task)
		c := controller(t, e, task)
		status := &api.TaskStatus{State: api.TaskState_ASSIGNED}
		var outcome exec.Outcome
		for {
			step := exec.Next(time.Now(), task, status, outcome)
			status, outcome = step.Status, exec.Outcome{}
			if step.Verb != exec.None {
				outcome = exec.Do(contextOf(t), c, step.Verb)
			} else if !step.Again {
				break
			}
		}
		if status.GetState() != s.want || status.GetContainer().GetExitCode() != s.code {
			t.Errorf("%+v: ended with %v, want %v, exit code %d", s.behaviour, status, s.want, s.code)
		}
	}
}

func runsManyAtOnce(t *testing.T, m Machine) {
	t.Helper()
	e := m.Executor(t)
	const tasks = 8
	pids := make([]int32, tasks)
	var wg sync.WaitGroup
	for n := range tasks {
		task := m.Task(t, Behaviour{})
		c := controller(t, e, task)
		finally(t, e, task)
		wg.Go(func() {
			for _, verb := range []exec.Verb{exec.Prepare, exec.Start} {
				if out := exec.Do(contextOf(t), c, verb); out.Err != nil {
					t.Errorf("%v: %v", verb, out.Err)
				} else if verb == exec.Start {
					pids[n] = out.Container.GetPid()
				}
			}
			if out := exec.Do(contextOf(t), c, exec.Shutdown); out.Err != nil {
				t.Errorf("shutdown: %v", out.Err)
			}
		})
	}
	wg.Wait()
	seen := make(map[string]bool)
	for _, pid := range pids {
		seen[fmt.Sprint(pid)] = true
	}
	if len(seen) != tasks {
		t.Errorf("pids %v: two tasks share a process", pids)
	}
}
