package process

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	"skep/api"
	"skep/api/skep"
	"skep/model"
)

// kind is that of a GenericRuntimeSpec that describes a process.
const kind = "process"

const defaultGrace = 10 * time.Second

// decode returns the process that a task describes, or why it describes none
// that could run anywhere.
func decode(task *api.Task) (*skep.ProcessSpec, error) {
	generic := task.GetSpec().GetGeneric()
	if generic.GetKind() != kind {
		return nil, fmt.Errorf("unsupported runtime %s: this node runs processes only; place the task on a node that runs it (node.plugins)", runtimeOf(task))
	}
	spec := &skep.ProcessSpec{}
	if err := generic.GetPayload().UnmarshalTo(spec); err != nil {
		return nil, fmt.Errorf("decode the process spec: %w", err)
	}
	if spec.GetCommand() == "" {
		return nil, fmt.Errorf("the process spec has no command; give a program to run")
	}
	for _, text := range append([]string{spec.GetCommand(), spec.GetDirectory(), spec.GetUser()}, slices.Concat(spec.GetArgs(), spec.GetEnv())...) {
		if strings.ContainsRune(text, 0) {
			return nil, fmt.Errorf("%q contains a zero byte, which no program can be given; leave it out", text)
		}
	}
	if _, err := signalOf(spec); err != nil {
		return nil, err
	}
	for name, d := range map[string]*durationpb.Duration{"stop grace": spec.GetStopGrace(), "stop delay": spec.GetStopDelay()} {
		if d != nil && (d.CheckValid() != nil || d.AsDuration() < 0) {
			return nil, fmt.Errorf("%s %v is no time to wait; give 0 or more", name, d.AsDuration())
		}
	}
	if err := checkHealth(spec.GetHealth(), hostPorts(task)); err != nil {
		return nil, err
	}
	for _, references := range [][]*skep.FileReference{spec.GetSecrets(), spec.GetConfigs()} {
		if err := checkFiles(references); err != nil {
			return nil, err
		}
	}
	return spec, nil
}

func runtimeOf(task *api.Task) string {
	switch runtime := task.GetSpec().GetRuntime().(type) {
	case *api.TaskSpec_Container:
		return "container"
	case *api.TaskSpec_Attachment:
		return "attachment"
	case *api.TaskSpec_Generic:
		return strconv.Quote(runtime.Generic.GetKind())
	}
	return "(none)"
}

func checkFiles(references []*skep.FileReference) error {
	seen := make(map[string]bool)
	for _, reference := range references {
		path := model.FileTarget(reference)
		if !filepath.IsLocal(path) || filepath.Clean(path) == "." {
			return fmt.Errorf("%s: %q is no name of a file below the task's directory; leave .. out of it and let it be relative", reference.GetName(), path)
		}
		if path = filepath.Clean(path); seen[path] {
			return fmt.Errorf("%s: another file of this task is called %q too; give one of them another target", reference.GetName(), path)
		}
		seen[path] = true
	}
	return nil
}

// signalOf returns the stop signal: a name with or without SIG, or a number.
func signalOf(spec *skep.ProcessSpec) (syscall.Signal, error) {
	text := strings.ToUpper(spec.GetStopSignal())
	if text == "" {
		return syscall.SIGTERM, nil
	}
	const highest = 64
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n <= highest {
		return syscall.Signal(n), nil
	}
	if !strings.HasPrefix(text, "SIG") {
		text = "SIG" + text
	}
	if s := unix.SignalNum(text); s != 0 {
		return s, nil
	}
	return 0, fmt.Errorf("no signal %q; give one as in SIGTERM, SIGINT or SIGQUIT", spec.GetStopSignal())
}
