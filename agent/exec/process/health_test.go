package process_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"skep/agent/exec"
	"skep/agent/exec/exectest"
	"skep/api"
	"skep/api/skep"
)

// serving returns a task that serves on a port of the node's choice.
func serving(health *skep.HealthCheck, args ...string) *api.Task {
	spec := running("serve", args...)
	spec.Health = health
	spec.StopGrace = durationpb.New(0)
	task := taskOf(newID(), spec)
	task.Endpoint = &api.Endpoint{Ports: []*api.PortConfig{{TargetPort: 80, PublishMode: api.PortConfig_HOST}}}
	return task
}

func probes() map[string]*skep.HealthCheck {
	return map[string]*skep.HealthCheck{
		"http":    {Probe: &skep.HealthCheck_Http{Http: &skep.HTTPProbe{Path: "/healthz"}}},
		"port 80": {Probe: &skep.HealthCheck_Http{Http: &skep.HTTPProbe{Path: "/healthz", Port: 80}}},
		"tcp":     {Probe: &skep.HealthCheck_Tcp{Tcp: &skep.TCPProbe{}}},
		"command": {Probe: &skep.HealthCheck_Command{Command: &skep.CommandProbe{
			Argv: []string{executable(), "workload", "environ"}, // exits with 0
		}}},
	}
}

func TestATaskHasStartedWhenItIsHealthy(t *testing.T) {
	t.Parallel()
	for name, check := range probes() {
		c := start(t, newMachine(t).open(t), serving(check), exectest.Dependencies{})
		if name != "command" { // it asks nobody who has to be ready
			response, err := http.Get(url(t, c) + "/healthz")
			if err != nil {
				t.Fatalf("%s: started, but it does not answer: %v", name, err)
			}
			if err := response.Body.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := c.Shutdown(t.Context()); err != nil {
			t.Errorf("%s: shutdown: %v", name, err)
		}
	}
}

func url(t *testing.T, c exec.Controller) string {
	t.Helper()
	status, err := c.(exec.PortStatuser).PortStatus(t.Context())
	if err != nil || len(status.GetPorts()) == 0 {
		t.Fatalf("port status: %v, %v", status, err)
	}
	return fmt.Sprint("http://127.0.0.1:", status.GetPorts()[0].GetPublishedPort())
}

func TestATaskThatBecomesUnhealthyIsStopped(t *testing.T) {
	t.Parallel()
	check := probes()["http"]
	check.Interval, check.Retries = durationpb.New(10*time.Millisecond), 2
	check.StartPeriod = durationpb.New(time.Minute)
	c := start(t, newMachine(t).open(t), serving(check), exectest.Dependencies{})
	result := make(chan error)
	go func() { result <- c.Wait(t.Context()) }()
	response, err := http.Get(url(t, c) + "/sicken")
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; err == nil || !strings.HasPrefix(err.Error(), "task: unhealthy process: ") || !strings.Contains(err.Error(), "500") {
		t.Errorf("wait: got %v, want an unhealthy process and its status 500", err)
	}
	if pid := pidOf(t, c); alive(pid) {
		t.Errorf("process %d runs on", pid)
	}
}

func TestATaskThatNeverBecomesHealthyIsStopped(t *testing.T) {
	t.Parallel()
	check := &skep.HealthCheck{
		Probe: &skep.HealthCheck_Command{Command: &skep.CommandProbe{
			Argv: []string{executable(), "workload", "exit", "1", "not today"},
		}},
		Interval: durationpb.New(10 * time.Millisecond),
		Retries:  2,
	}
	c := control(t, newMachine(t).open(t), serving(check), exectest.Dependencies{})
	if err := c.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := c.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "unhealthy process") || !strings.Contains(err.Error(), "not today") {
		t.Errorf("start: got %v, want an unhealthy process, and what the probe said", err)
	}
	if pid := pidOf(t, c); alive(pid) {
		t.Errorf("process %d runs on", pid)
	}
}

func TestATaskThatEndsBeforeItIsHealthyHasFailed(t *testing.T) {
	t.Parallel()
	spec := running("exit", "5")
	spec.Health = &skep.HealthCheck{Probe: &skep.HealthCheck_Tcp{Tcp: &skep.TCPProbe{Port: 1}}}
	c := control(t, newMachine(t).open(t), taskOf(newID(), spec), exectest.Dependencies{})
	if err := c.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantExit(t, c.Start(t.Context()), 5, "ended before it was healthy")
}

func TestAProbeThatTakesTooLongHasFailedAndIsKilled(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	script := filepath.Join(t.TempDir(), "probe")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho $$ >> "+file+"\nwhile :; do read x < /dev/tty0 || :; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	spec := running("run")
	spec.Health = &skep.HealthCheck{
		Probe:    &skep.HealthCheck_Command{Command: &skep.CommandProbe{Argv: []string{script}}},
		Timeout:  durationpb.New(50 * time.Millisecond),
		Interval: durationpb.New(time.Millisecond),
		Retries:  1,
	}
	c := control(t, newMachine(t).open(t), taskOf(newID(), spec), exectest.Dependencies{})
	if err := c.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
		t.Errorf("start: got %v, want that the probe took too long", err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var pid int
		if _, err := fmt.Sscan(line, &pid); err != nil || alive(pid) {
			t.Errorf("probe %q runs on, %v", line, err)
		}
	}
}
