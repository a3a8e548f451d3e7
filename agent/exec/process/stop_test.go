package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"skep/agent/exec"
	"skep/agent/exec/exectest"
)

func TestStoppingSendsTheStopSignalFirst(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"": "terminated", "SIGINT": "interrupt", "usr2": "user defined signal 2", "2": "interrupt",
	} {
		spec := running("signal")
		spec.StopSignal = name
		c := start(t, newMachine(t).open(t), taskOf(newID(), spec), exectest.Dependencies{})
		ready(t, c)
		if err := c.Shutdown(t.Context()); err != nil {
			t.Fatalf("shutdown: %v", err)
		}
		contains(t, lines(t, c, ""), "got "+want)
		wantExit(t, c.Wait(t.Context()), 7, "")
	}
}

func TestWhatIgnoresTheSignalIsKilledAfterItsGrace(t *testing.T) {
	t.Parallel()
	spec := running("stubborn")
	spec.StopGrace = durationpb.New(50 * time.Millisecond)
	c := start(t, newMachine(t).open(t), taskOf(newID(), spec), exectest.Dependencies{})
	ready(t, c)
	begin := time.Now()
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatalf("shutdown: %v", err)
	}
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("killed after %v, want a grace of 50 ms", took)
	}
	contains(t, lines(t, c, ""), "ignored terminated")
	wantExit(t, c.Wait(t.Context()), 137, "SIGKILL")
}

func TestTheStopDelayComesBeforeTheSignal(t *testing.T) {
	t.Parallel()
	spec := running("signal")
	spec.StopDelay = durationpb.New(60 * time.Millisecond)
	c := start(t, newMachine(t).open(t), taskOf(newID(), spec), exectest.Dependencies{})
	ready(t, c)
	begin := time.Now()
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatalf("shutdown: %v", err)
	}
	if took := time.Since(begin); took < 60*time.Millisecond {
		t.Errorf("stopped after %v, want a delay of 60 ms", took)
	}
}

func TestTerminateAsksNobody(t *testing.T) {
	t.Parallel()
	spec := running("stubborn")
	spec.StopGrace = durationpb.New(time.Hour)
	c := start(t, newMachine(t).open(t), taskOf(newID(), spec), exectest.Dependencies{})
	ready(t, c)
	if err := c.Terminate(t.Context()); err != nil {
		t.Fatalf("terminate: %v", err)
	}
	wantExit(t, c.Wait(t.Context()), 137, "SIGKILL")
}

// A shell ends at once when it is asked to; what it started has the grace too.
func TestTheWholeGroupHasTheGrace(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	spec := running("slow-child", fifo)
	spec.StopGrace = durationpb.New(time.Minute)
	c := start(t, newMachine(t).open(t), taskOf(newID(), spec), exectest.Dependencies{})
	ready(t, c)
	result := make(chan error)
	go func() { result <- c.Shutdown(t.Context()) }()
	// Opens when the child has had its signal.
	gate, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := gate.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Fatalf("shutdown: %v", err)
	}
	contains(t, lines(t, c, ""), "ended in peace")
	wantExit(t, c.Wait(t.Context()), 143, "SIGTERM")
}

func TestNothingStaysBehind(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		end  func(*testing.T, exec.Controller)
	}{
		"when it is shut down": {nil, func(t *testing.T, c exec.Controller) {
			if err := c.Shutdown(t.Context()); err != nil {
				t.Fatalf("shutdown: %v", err)
			}
		}},
		"when it ends by itself": {[]string{"3"}, func(t *testing.T, c exec.Controller) {
			wantExit(t, c.Wait(t.Context()), 3, "")
		}},
		"when it is killed": {nil, func(t *testing.T, c exec.Controller) {
			if err := syscall.Kill(pidOf(t, c), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			wantExit(t, c.Wait(t.Context()), 137, "SIGKILL")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task := start(t, newMachine(t).open(t), taskOf(newID(), running("daemons", c.args...)), exectest.Dependencies{})
			output := lines(t, task, "ready")
			pids := append(daemons(t, output), pidOf(t, task))
			c.end(t, task)
			for _, pid := range pids {
				if alive(pid) {
					t.Errorf("process %d outlived its task: %q", pid, output)
				}
			}
		})
	}
}

// daemons returns the pids that the workload printed.
func daemons(t *testing.T, output []string) []int {
	t.Helper()
	var pids []int
	for _, line := range output {
		var pid int
		if strings.HasPrefix(line, "pid ") {
			if _, err := fmt.Sscanf(line, "pid %d", &pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	if len(pids) != 2 {
		t.Fatalf("got %q, want two daemons", output)
	}
	return pids
}

func TestAKilledProcessIsNoticedAtOnce(t *testing.T) {
	t.Parallel()
	c := start(t, newMachine(t).open(t), taskOf(newID(), running("run")), exectest.Dependencies{})
	result := make(chan error)
	go func() { result <- c.Wait(t.Context()) }()
	if err := syscall.Kill(pidOf(t, c), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantExit(t, <-result, 137, "SIGKILL")
}

func TestNoTaskOutlivesItsParent(t *testing.T) {
	t.Parallel()
	c := start(t, newMachine(t).open(t), taskOf(newID(), running("run")), exectest.Dependencies{})
	pid := pidOf(t, c)
	result := make(chan error)
	go func() { result <- c.Wait(t.Context()) }()
	if err := syscall.Kill(parentOf(t, pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err == nil || !strings.Contains(err.Error(), "parent process ended without a record") {
		t.Errorf("wait: got %v, want that the parent was killed", err)
	}
	if alive(pid) {
		t.Errorf("process %d outlived its parent", pid)
	}
	status, err := c.(exec.ContainerStatuser).ContainerStatus(t.Context())
	if err != nil || status.GetExitCode() != -1 {
		t.Errorf("container status: got %v, %v; want exit code -1", status, err)
	}
}

// Children that the process left in its session are found although neither their
// parent nor the task's is there any more.
func TestWhatAKilledParentLeavesIsSwept(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	c := start(t, newMachine(t).open(t), taskOf(newID(), running("slow-child", fifo)), exectest.Dependencies{})
	ready(t, c)
	pid := pidOf(t, c)
	child := childOf(t, pid)
	if err := syscall.Kill(parentOf(t, pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(t.Context()); err == nil {
		t.Error("wait: got no error, want that the parent was killed")
	}
	if alive(child) {
		t.Errorf("process %d outlived its task", child)
	}
}

func childOf(t *testing.T, parent int) int {
	t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		var pid int
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(string(data), &pid); err == nil {
			return pid
		}
	}
	t.Fatalf("process %d has no children", parent)
	return 0
}
