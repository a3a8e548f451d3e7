package process_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	osexec "os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"skep/agent/exec"
	"skep/agent/exec/exectest"
	"skep/agent/exec/process"
	"skep/api"
	"skep/api/skep"
	"skep/template"
)

// The test binary plays three parts besides its own: the parent of a task, what
// a task runs, and an agent that dies.
func TestMain(m *testing.M) {
	// syscall.Exit, since with the race detector os.Exit takes a second.
	if process.IsParent() {
		syscall.Exit(process.ParentMain())
	}
	if len(os.Args) > 1 && os.Args[1] == "workload" {
		if err := workload(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			syscall.Exit(1)
		}
		syscall.Exit(0)
	}
	code := m.Run()
	if left := leftBehind(); len(left) > 0 {
		fmt.Fprintln(os.Stderr, "processes of tasks were left behind:", left)
		code = 1
	}
	os.Exit(code)
}

// workload is what tasks of the tests run.
func workload(name string, args []string) error {
	switch name {
	case "run":
		fmt.Println("ready")
		return syscall.Pause()
	case "exit":
		for _, line := range args[1:] {
			fmt.Println(line)
		}
		code, err := strconv.Atoi(args[0])
		if err == nil {
			syscall.Exit(code)
		}
		return err
	case "stubborn":
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM)
		fmt.Println("ready")
		for _, line := range args {
			fmt.Println(line)
		}
		for s := range signals {
			fmt.Println("ignored", s)
		}
	case "signal": // says which signal it gets, and ends with 7
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR2)
		fmt.Println("ready")
		fmt.Println("got", <-signals)
		syscall.Exit(7)
	case "slow-child": // ends at once when asked, its child a little later
		child := osexec.Command(os.Args[0], "workload", "grace", args[0])
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			return err
		}
		return syscall.Pause()
	case "grace": // waits for a file after it was asked to end
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM)
		fmt.Println("ready")
		<-signals
		fifo, err := os.Open(args[0])
		if err != nil {
			return err
		}
		_, err = io.ReadAll(fifo)
		fmt.Println("ended in peace")
		return err
	case "daemons": // leaves a daemon that forked twice and has its own session
		for range 2 {
			child := osexec.Command(os.Args[0], "workload", "detach")
			child.Stdout = os.Stdout
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := child.Run(); err != nil {
				return err
			}
		}
		fmt.Println("ready")
		if len(args) > 0 {
			return workload("exit", args)
		}
		return syscall.Pause()
	case "detach":
		child := osexec.Command(os.Args[0], "workload", "pause")
		child.Stdout = os.Stdout
		child.Env = []string{} // it hides where it comes from
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			return err
		}
		fmt.Println("pid", child.Process.Pid)
	case "pause":
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
		return syscall.Pause()
	case "print": // both streams, in turn
		for n := range 3 {
			fmt.Fprintln(os.Stdout, "out", n)
			fmt.Fprintln(os.Stderr, "err", n)
		}
		fmt.Print("no newline")
	case "flood":
		lines, err := strconv.Atoi(args[0])
		for n := range lines {
			fmt.Printf("line %06d %s\n", n, strings.Repeat("x", 100))
		}
		return err
	case "environ":
		fmt.Println(strings.Join(args, " "))
		dir, err := os.Getwd()
		fmt.Println("cwd=" + dir)
		fmt.Printf("uid=%d gid=%d\n", os.Getuid(), os.Getgid())
		for _, entry := range os.Environ() {
			fmt.Println(entry)
		}
		return err
	case "files":
		for _, name := range []string{"SKEP_SECRETS_DIR", "SKEP_CONFIGS_DIR"} {
			err := filepath.WalkDir(os.Getenv(name), func(path string, entry os.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := entry.Info()
				if err != nil {
					return err
				}
				if entry.IsDir() {
					fmt.Printf("%v %s\n", info.Mode(), path)
					return nil
				}
				content, err := os.ReadFile(path)
				fmt.Printf("%v %s %s\n", info.Mode(), filepath.Base(path), content)
				return err
			})
			if err != nil {
				return err
			}
		}
		fmt.Println("ready")
		return syscall.Pause()
	case "serve":
		return serve()
	case "hog":
		var kept [][]byte
		for {
			block := make([]byte, 1<<20)
			for i := range block {
				block[i] = 1
			}
			kept = append(kept, block)
			if len(kept) > 4096 {
				return errors.New("nobody stopped it")
			}
		}
	case "agent": // starts a task and waits to be killed
		return agent(args[0], args[1], &skep.ProcessSpec{Command: os.Args[0], Args: args[2:]})
	case "probing": // as an agent that waits for a probe, which hangs
		spec := running("run")
		spec.Health = &skep.HealthCheck{Probe: &skep.HealthCheck_Command{Command: &skep.CommandProbe{
			Argv: []string{executable(), "workload", "hang", args[2]},
		}}}
		return agent(args[0], args[1], spec)
	case "hang": // says its pid in a file
		if err := os.WriteFile(args[0]+".new", []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			return err
		}
		if err := os.Rename(args[0]+".new", args[0]); err != nil {
			return err
		}
		return syscall.Pause()
	default:
		return fmt.Errorf("no workload %q", name)
	}
	return nil
}

// serve answers on its port, as healthy as it is told to be.
func serve() error {
	var sick atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			http.Error(w, "sick", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/sicken", func(http.ResponseWriter, *http.Request) { sick.Store(true) })
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return http.Serve(listener, mux)
}

func agent(dir, id string, spec *skep.ProcessSpec) error {
	e, err := process.New(process.Config{Dir: dir})
	if err != nil {
		return err
	}
	c, err := e.Controller(taskOf(id, spec), exectest.Dependencies{})
	if err != nil {
		return err
	}
	for _, verb := range []exec.Verb{exec.Prepare, exec.Start} {
		if out := exec.Do(context.Background(), c, verb); out.Err != nil {
			return out.Err
		}
	}
	fmt.Println("started")
	return syscall.Pause()
}

// prefix is that of the IDs of all tasks of this run of the tests.
var prefix = "test" + strconv.Itoa(os.Getpid()) + "x"

var ids atomic.Int64

func newID() string { return prefix + strconv.FormatInt(ids.Add(1), 10) }

// leftBehind returns what of any task of this run is still alive.
func leftBehind() []string {
	var left []string
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		environ, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(environ), "SKEP_TASK_ID="+prefix) {
			left = append(left, filepath.Base(filepath.Dir(path)))
		}
		args, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err == nil && strings.HasPrefix(string(args), "skep-task\x00"+prefix) {
			left = append(left, filepath.Base(filepath.Dir(path)))
		}
	}
	return left
}

// taskOf returns a task that runs spec.
func taskOf(id string, spec *skep.ProcessSpec) *api.Task {
	payload, err := anypb.New(spec)
	if err != nil {
		panic(err) // a message of ours that cannot be encoded
	}
	return &api.Task{
		Id: id, ServiceId: "service1", NodeId: "node1", Slot: 2,
		ServiceAnnotations: &api.Annotations{Name: "web"},
		DesiredState:       api.TaskState_RUNNING,
		Spec: &api.TaskSpec{Runtime: &api.TaskSpec_Generic{
			Generic: &api.GenericRuntimeSpec{Kind: "process", Payload: payload},
		}},
	}
}

// running returns a spec that runs a workload.
func running(name string, args ...string) *skep.ProcessSpec {
	return &skep.ProcessSpec{Command: executable(), Args: append([]string{"workload", name}, args...)}
}

func executable() string {
	path, err := os.Executable()
	if err != nil {
		panic(err) // a test that does not know itself
	}
	return path
}

// node is where the tasks of the tests run.
var node = template.Node{ID: "node1", Hostname: "host1", Platform: template.Platform{Architecture: "x86_64", OS: "linux"}}

// machine is a directory in which executors follow each other.
type machine struct{ config process.Config }

func newMachine(t testing.TB) *machine {
	t.Helper()
	return &machine{process.Config{Dir: filepath.Join(t.TempDir(), "tasks")}}
}

func (m *machine) open(t testing.TB) *process.Executor {
	t.Helper()
	e, err := process.New(m.config)
	if err != nil {
		t.Fatalf("make an executor: %v", err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close the executor: %v", err)
		}
	})
	return e
}

func (m *machine) Executor(t *testing.T) exec.Executor { return m.open(t) }

func (m *machine) Task(_ *testing.T, b exectest.Behaviour) *api.Task {
	spec := running("run")
	switch {
	case b.Ends:
		spec = running("exit", append([]string{strconv.Itoa(b.ExitCode)}, b.Output...)...)
	case b.Unpreparable:
		spec.Command = "/no/such/command"
	case b.Stubborn:
		spec = running("stubborn", b.Output...)
	}
	task := taskOf(newID(), spec)
	if b.Port {
		task.Endpoint = &api.Endpoint{Ports: []*api.PortConfig{{TargetPort: 80, PublishMode: api.PortConfig_HOST}}}
	}
	return task
}

func TestKeepsThePromisesOfExec(t *testing.T) {
	t.Parallel()
	exectest.Run(t, func(t *testing.T) exectest.Machine { return newMachine(t) })
}

// control returns a controller of task, which is gone after the test.
func control(t testing.TB, e *process.Executor, task *api.Task, deps exectest.Dependencies) exec.Controller {
	t.Helper()
	deps.On = node
	c, err := e.Controller(task, deps)
	if err != nil {
		t.Fatalf("make a controller: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), e.Remove(context.Background(), task.GetId())); err != nil {
			t.Errorf("remove the task: %v", err)
		}
	})
	return c
}

func start(t testing.TB, e *process.Executor, task *api.Task, deps exectest.Dependencies) exec.Controller {
	t.Helper()
	c := control(t, e, task, deps)
	for _, verb := range []exec.Verb{exec.Prepare, exec.Start} {
		if out := exec.Do(t.Context(), c, verb); out.Err != nil && !errors.Is(out.Err, exec.ErrTaskPrepared) {
			t.Fatalf("%v: %v", verb, out.Err)
		}
	}
	return c
}

// lines returns what the task writes, up to the line until, or to its end when
// that is empty.
func lines(t testing.TB, c exec.Controller, until string) []string {
	t.Helper()
	var out []string
	for message, err := range c.(exec.Logger).Logs(t.Context(), exec.LogOptions{Follow: true}) {
		if err != nil {
			t.Fatalf("logs: %v", err)
		}
		line := strings.TrimSuffix(string(message.Data), "\n")
		out = append(out, line)
		if until != "" && line == until {
			return out
		}
	}
	if until != "" {
		t.Fatalf("the task ended and never said %q, but %q", until, out)
	}
	return out
}

func ready(t testing.TB, c exec.Controller) { t.Helper(); lines(t, c, "ready") }

func pidOf(t testing.TB, c exec.Controller) int {
	t.Helper()
	status, err := c.(exec.ContainerStatuser).ContainerStatus(t.Context())
	if err != nil || status.GetPid() <= 0 {
		t.Fatalf("container status: %v, %v; want a pid", status, err)
	}
	return int(status.GetPid())
}

// alive reports whether a process exists and is no zombie.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func parentOf(t testing.TB, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	parent, err := strconv.Atoi(strings.Fields(rest)[1])
	if err != nil {
		t.Fatal(err)
	}
	return parent
}

func wantExit(t testing.TB, err error, code int, text string) {
	t.Helper()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Code != code || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want exit code %d and %q", err, code, text)
	}
}

func contains(t testing.TB, got []string, want ...string) {
	t.Helper()
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("%q is not among %q", line, got)
		}
	}
}
