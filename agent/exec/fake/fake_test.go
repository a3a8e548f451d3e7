package fake_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"skep/agent/exec"
	"skep/agent/exec/exectest"
	"skep/agent/exec/fake"
	"skep/api"
)

func TestKeepsThePromisesOfExec(t *testing.T) {
	t.Parallel()
	exectest.Run(t, func(*testing.T) exectest.Machine {
		m := &machine{scripts: make(map[string]fake.Script)}
		m.executor = fake.New(fake.Config{Script: func(task *api.Task) fake.Script { return m.scripts[task.GetId()] }})
		return m
	})
}

type machine struct {
	executor *fake.Executor
	scripts  map[string]fake.Script
}

func (m *machine) Executor(*testing.T) exec.Executor { return m.executor }

func (m *machine) Task(_ *testing.T, b exectest.Behaviour) *api.Task {
	script := fake.Script{Output: b.Output, ExitCode: b.ExitCode}
	if b.Ends {
		script.Run = time.Nanosecond
	}
	if b.Unpreparable {
		script.Fail = exec.Prepare
	}
	if b.Stubborn {
		script.Stopping = time.Hour
	}
	task := &api.Task{Id: "task" + strconv.Itoa(len(m.scripts)), DesiredState: api.TaskState_RUNNING}
	if b.Port {
		task.Endpoint = &api.Endpoint{Ports: []*api.PortConfig{{TargetPort: 80, PublishMode: api.PortConfig_HOST}}}
	}
	m.scripts[task.Id] = script
	return task
}

func TestAScriptTakesItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		script := fake.Script{Preparing: time.Second, Starting: 2 * time.Second, Run: time.Hour, ExitCode: 3}
		e := fake.New(fake.Config{Script: func(*api.Task) fake.Script { return script }})
		c, err := e.Controller(&api.Task{Id: "a"}, exectest.Dependencies{})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for _, s := range []struct {
			verb exec.Verb
			at   time.Duration
		}{{exec.Prepare, time.Second}, {exec.Start, 3 * time.Second}, {exec.Wait, time.Hour + 3*time.Second}} {
			exec.Do(t.Context(), c, s.verb)
			if got := time.Since(begin); got != s.at {
				t.Errorf("%v ended at %v, want %v", s.verb, got, s.at)
			}
		}
		var exit *exec.ExitError
		if err := c.Wait(t.Context()); !errors.As(err, &exit) || exit.Code != 3 {
			t.Errorf("wait: got %v, want exit code 3", err)
		}
	})
}

func TestEndMakesATaskEnd(t *testing.T) {
	t.Parallel()
	e := fake.New(fake.Config{})
	c, err := e.Controller(&api.Task{Id: "a"}, exectest.Dependencies{})
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []exec.Verb{exec.Prepare, exec.Start} {
		if out := exec.Do(t.Context(), c, verb); out.Err != nil {
			t.Fatalf("%v: %v", verb, out.Err)
		}
	}
	if got := e.Running(); len(got) != 1 || got[0] != "a" {
		t.Fatalf("running: got %v, want a", got)
	}
	if !e.End("a", 9) || e.End("a", 9) || e.End("b", 9) {
		t.Error("End reports something else than that it ended a running task")
	}
	var exit *exec.ExitError
	if err := c.Wait(t.Context()); !errors.As(err, &exit) || exit.Code != 9 {
		t.Errorf("wait: got %v, want exit code 9", err)
	}
	if got := e.Running(); len(got) != 0 {
		t.Errorf("running: got %v, want none", got)
	}
}

func TestWhatTheNodeIsToldCanBeReadBack(t *testing.T) {
	t.Parallel()
	e := fake.New(fake.Config{})
	if err := e.Configure(t.Context(), &api.Node{Id: "n"}); err != nil || e.Node().GetId() != "n" {
		t.Errorf("configure: %v, node %v", err, e.Node())
	}
	if err := e.SetNetworkBootstrapKeys([]*api.EncryptionKey{{LamportTime: 5}}); err != nil || len(e.Keys()) != 1 {
		t.Errorf("keys: %v, %v", err, e.Keys())
	}
}

func BenchmarkController(b *testing.B) {
	b.ReportAllocs()
	e := fake.New(fake.Config{})
	ctx := context.Background()
	n := 0
	for b.Loop() {
		n++
		c, err := e.Controller(&api.Task{Id: strconv.Itoa(n)}, exectest.Dependencies{})
		if err != nil {
			b.Fatal(err)
		}
		exec.Do(ctx, c, exec.Prepare)
		exec.Do(ctx, c, exec.Start)
		exec.Do(ctx, c, exec.Shutdown)
		if err := c.Remove(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
