package process_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skep/agent/exec"
	"skep/agent/exec/exectest"
)

// deadAgent runs an agent in a process of its own until it has started a task,
// kills it with -9 and returns the task's ID.
func deadAgent(t *testing.T, m *machine, workload ...string) string {
	t.Helper()
	id := newID()
	agent := osexec.Command(executable(), append([]string{"workload", "agent", m.config.Dir, id, "workload"}, workload...)...)
	agent.Stderr = os.Stderr
	stdout, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "started\n" {
		t.Fatalf("the agent says %q, %v", line, err)
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err == nil {
		t.Fatal("the agent ended by itself")
	}
	return id
}

func TestANewAgentAdoptsWhatAKilledOneStarted(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	id := deadAgent(t, m, "run")
	e := m.open(t)
	c := control(t, e, taskOf(id, running("run")), exectest.Dependencies{})
	if err := c.Prepare(t.Context()); !errors.Is(err, exec.ErrTaskPrepared) {
		t.Errorf("prepare: got %v, want ErrTaskPrepared", err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Errorf("start: %v", err)
	}
	pid := pidOf(t, c)
	if !alive(pid) {
		t.Fatalf("process %d did not survive the agent", pid)
	}
	ready(t, c)
	result := make(chan error)
	go func() { result <- c.Wait(t.Context()) }()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantExit(t, <-result, 137, "SIGKILL")
}

func TestANewAgentStopsWhatAKilledOneStarted(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	c := control(t, m.open(t), taskOf(deadAgent(t, m, "daemons"), running("daemons")), exectest.Dependencies{})
	pids := append(daemons(t, lines(t, c, "ready")), pidOf(t, c))
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatalf("shutdown: %v", err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d outlived its task", pid)
		}
	}
}

func TestAProbeEndsWithTheAgentThatAsked(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	id, said := newID(), filepath.Join(t.TempDir(), "probe")
	agent := osexec.Command(executable(), "workload", "probing", m.config.Dir, id, said)
	agent.Stderr = os.Stderr
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	waitForFile(t, said)
	text, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	probe, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(probe) }()
	if err := errors.Join(agent.Process.Kill(), agent.Wait()); err == nil {
		t.Fatal("the agent ended by itself")
	}
	const patience = 5000 // ms
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(probe), Events: unix.POLLIN}}, patience); n == 0 {
		t.Errorf("probe %d outlived the agent (%v)", pid, err)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err := control(t, m.open(t), taskOf(id, running("run")), exectest.Dependencies{}).Terminate(t.Context()); err != nil {
		t.Errorf("terminate the task: %v", err)
	}
}

func TestATaskThatEndedWhileNobodyWatchedTellsCodeAndTime(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	begin := time.Now()
	id := deadAgent(t, m, "exit", "9", "last words")
	// Its output goes on until the end, without an executor.
	waitForFile(t, filepath.Join(m.config.Dir, id, "exit.json"))

	c := control(t, m.open(t), taskOf(id, running("run")), exectest.Dependencies{})
	wantExit(t, c.Wait(t.Context()), 9, "")
	status, err := c.(exec.ContainerStatuser).ContainerStatus(t.Context())
	if err != nil || status.GetExitCode() != 9 || status.GetPid() <= 0 {
		t.Errorf("container status: got %v, %v; want pid and exit code 9", status, err)
	}
	contains(t, lines(t, c, ""), "last words")
	var record struct {
		Code int
		Time time.Time
	}
	data, err := os.ReadFile(filepath.Join(m.config.Dir, id, "exit.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &record); err != nil || record.Code != 9 || record.Time.Before(begin) || record.Time.After(time.Now()) {
		t.Errorf("exit.json: got %s, %v; want code 9 and the time of its end", data, err)
	}
}

func TestAPidThatWasUsedAgainIsNotTakenForTheTask(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	task := taskOf(newID(), running("run"))
	c := start(t, m.open(t), task, exectest.Dependencies{})
	pid := pidOf(t, c)
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The machine restarted, so no exit record, and our own pid stands in the file.
	dir := filepath.Join(m.config.Dir, task.GetId())
	record := map[string]any{
		"parent":  map[string]any{"pid": os.Getpid(), "start": 1},
		"process": map[string]any{"pid": pid, "start": 1 << 62},
	}
	data, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "exit.json")), os.WriteFile(filepath.Join(dir, "run.json"), data, 0o600)); err != nil {
		t.Fatal(err)
	}
	again := control(t, m.open(t), task, exectest.Dependencies{})
	if err := again.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "machine restarted") {
		t.Errorf("wait: got %v, want that the record is missing", err)
	}
}

func TestTasksThatNobodyKnowsAreListedAndRemoved(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	id := deadAgent(t, m, "stubborn")
	e := m.open(t)
	tasks, err := e.Tasks()
	if err != nil || len(tasks) != 1 || tasks[0] != id {
		t.Fatalf("tasks: got %q, %v; want %s", tasks, err, id)
	}
	for range 2 {
		if err := e.Remove(t.Context(), id); err != nil {
			t.Fatalf("remove: %v", err)
		}
	}
	if tasks, err := e.Tasks(); err != nil || len(tasks) != 0 {
		t.Errorf("tasks: got %q, %v; want none", tasks, err)
	}
	if err := e.Remove(t.Context(), "../"+id); err == nil {
		t.Error("remove: a path passed for an ID")
	}
}

// waitForFile returns when path exists.
func waitForFile(t *testing.T, path string) {
	t.Helper()
	fd, err := syscall.InotifyInit()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	if _, err := syscall.InotifyAddWatch(fd, filepath.Dir(path), syscall.IN_MOVED_TO); err != nil {
		t.Fatal(err)
	}
	var events [4096]byte
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if _, err := syscall.Read(fd, events[:]); err != nil && !errors.Is(err, syscall.EINTR) {
			t.Fatal(err)
		}
	}
}

// A power cut may leave a record that was renamed but never written.
func TestATornRecordIsATaskThatIsGone(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, file := range []string{"run.json", "exit.json", "holdings.json"} {
		task := m.Task(t, exectest.Behaviour{Ends: true, ExitCode: 3, Port: true})
		if err := start(t, m.open(t), task, exectest.Dependencies{}).Wait(t.Context()); err == nil {
			t.Fatal("wait: got no error")
		}
		dir := filepath.Join(m.config.Dir, task.GetId())
		if err := os.Truncate(filepath.Join(dir, file), 0); err != nil {
			t.Fatal(err)
		}
		if file == "run.json" {
			if err := os.Remove(filepath.Join(dir, "exit.json")); err != nil {
				t.Fatal(err)
			}
		}
		e := m.open(t)
		c := control(t, e, task, exectest.Dependencies{})
		if err := c.Wait(t.Context()); err == nil {
			t.Errorf("%s: wait: got no error, want how it ended", file)
		}
		if err := c.Remove(t.Context()); err != nil {
			t.Errorf("%s: remove: %v", file, err)
		}
		if tasks, err := e.Tasks(); err != nil || len(tasks) != 0 {
			t.Errorf("%s: tasks: got %q, %v; want none", file, tasks, err)
		}
	}
}
