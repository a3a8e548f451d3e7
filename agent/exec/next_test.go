package exec_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"

	"skep/agent/exec"
	"skep/api"
)

// TestNextDecidesAsTheTextsSay reads testdata/next. A file is one story:
//
//	task desired=STATE state=STATE    a task as the agent finds it
//	desired STATE                     the managers change their mind; a verb under way is cancelled
//	done VERB [exit=N] [pid=N] [port=N] [error text]
//
// and the answer is each status and what is to be done next.
func TestNextDecidesAsTheTextsSay(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/next", func(t *testing.T, path string) {
		t.Parallel()
		var s story
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			switch d.Cmd {
			case "task":
				s = story{
					task:   &api.Task{DesiredState: state(t, d, "desired")},
					status: &api.TaskStatus{State: state(t, d, "state")},
				}
				return s.follow(exec.Outcome{})
			case "desired":
				s.task.DesiredState = api.TaskState(api.TaskState_value[d.CmdArgs[0].Key])
				return s.follow(exec.Outcome{})
			case "done":
				return s.follow(outcome(t, d))
			}
			d.Fatalf(t, "no such command")
			return ""
		})
	})
}

type story struct {
	task   *api.Task
	status *api.TaskStatus
	now    time.Time
}

// follow does what the agent does until a verb is to be carried out.
func (s *story) follow(outcome exec.Outcome) string {
	var out strings.Builder
	for {
		s.now = s.now.Add(time.Second)
		step := exec.Next(s.now, s.task, s.status, outcome)
		if step.Status != s.status {
			fmt.Fprintln(&out, describe(step.Status))
			s.status = step.Status
		}
		switch {
		case step.Again:
			outcome = exec.Outcome{}
			continue
		case step.Verb == exec.None:
			out.WriteString("  nothing to do\n")
		case step.After > 0:
			fmt.Fprintf(&out, "  %v in %v\n", step.Verb, step.After)
		default:
			fmt.Fprintf(&out, "  %v\n", step.Verb)
		}
		return out.String()
	}
}

func describe(status *api.TaskStatus) string {
	out := fmt.Sprintf("%v, %q", status.State, status.Message)
	if status.Err != "" {
		out += fmt.Sprintf(", error %q", status.Err)
	}
	if c := status.GetContainer(); c != nil {
		out += fmt.Sprintf(", pid %d, exit code %d", c.Pid, c.ExitCode)
	}
	for _, port := range status.GetPortStatus().GetPorts() {
		out += fmt.Sprintf(", port %d", port.PublishedPort)
	}
	return out
}

func state(t *testing.T, d *datadriven.TestData, key string) api.TaskState {
	t.Helper()
	var name string
	d.ScanArgs(t, key, &name)
	value, ok := api.TaskState_value[name]
	if !ok {
		d.Fatalf(t, "no such state: %s", name)
	}
	return api.TaskState(value)
}

func outcome(t *testing.T, d *datadriven.TestData) exec.Outcome {
	t.Helper()
	verbs := map[string]exec.Verb{"prepare": exec.Prepare, "start": exec.Start, "wait": exec.Wait, "shutdown": exec.Shutdown}
	out := exec.Outcome{Verb: verbs[d.CmdArgs[0].Key]}
	var pid, port int
	if d.MaybeScanArgs(t, "pid", &pid) {
		out.Container = &api.ContainerStatus{Pid: int32(pid)}
	}
	if d.MaybeScanArgs(t, "port", &port) {
		out.Ports = &api.PortStatus{Ports: []*api.PortConfig{{PublishedPort: uint32(port)}}}
	}
	var code int
	switch text := strings.TrimSpace(d.Input); {
	case d.MaybeScanArgs(t, "exit", &code):
		out.Err = &exec.ExitError{Code: code}
	case d.HasArg("temporary"):
		out.Err = exec.Temporary(errors.New(text))
	case d.HasArg("cancelled"):
		out.Err = fmt.Errorf("%v: %w", out.Verb, context.Canceled)
	case d.HasArg("already"):
		out.Err = fmt.Errorf("%v: %w", out.Verb, map[exec.Verb]error{
			exec.Prepare: exec.ErrTaskPrepared, exec.Start: exec.ErrTaskStarted,
		}[out.Verb])
	case text != "":
		out.Err = errors.New(text)
	}
	return out
}

func TestNextChangesNoStatusThatItWasGiven(t *testing.T) {
	t.Parallel()
	for from := range api.TaskState_name {
		for desired := range api.TaskState_name {
			for verb := exec.None; verb <= exec.Shutdown; verb++ {
				for _, err := range []error{nil, errors.New("broken"), &exec.ExitError{Code: 3}, exec.Temporary(errors.New("later"))} {
					status := &api.TaskStatus{State: api.TaskState(from), RuntimeStatus: &api.TaskStatus_Container{Container: &api.ContainerStatus{Pid: 7}}}
					before := proto.Clone(status)
					task := &api.Task{DesiredState: api.TaskState(desired)}
					step := exec.Next(time.Unix(1, 0), task, status, exec.Outcome{Verb: verb, Err: err})
					if !proto.Equal(status, before) {
						t.Fatalf("state %v, desired %v, %v: %v: the status passed in changed to %v", api.TaskState(from), api.TaskState(desired), verb, err, status)
					}
					if step.Status.GetState() < status.State {
						t.Fatalf("state %v, desired %v, %v: %v: the state went back to %v", api.TaskState(from), api.TaskState(desired), verb, err, step.Status.GetState())
					}
					if step.Again && step.Verb != exec.None {
						t.Fatalf("state %v, desired %v, %v: %v: both Again and %v", api.TaskState(from), api.TaskState(desired), verb, err, step.Verb)
					}
				}
			}
		}
	}
}

func TestNextComesToRestFromEveryState(t *testing.T) {
	t.Parallel()
	for from := range api.TaskState_name {
		for desired := range api.TaskState_name {
			task := &api.Task{DesiredState: api.TaskState(desired)}
			status := &api.TaskStatus{State: api.TaskState(from)}
			var outcome exec.Outcome
			steps := 0
			for {
				step := exec.Next(time.Unix(1, 0), task, status, outcome)
				if !step.Again && step.Verb == exec.None {
					break
				}
				status, outcome = step.Status, exec.Outcome{Verb: step.Verb}
				if steps++; steps > 20 {
					t.Fatalf("state %v, desired %v: no rest after %d steps, now at %v", api.TaskState(from), api.TaskState(desired), steps, status.State)
				}
			}
		}
	}
}

func TestDoOfACancelledVerbHasNoOutcome(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := exec.Do(ctx, waits{}, exec.Wait); got.Verb != exec.None || got.Err != nil {
		t.Fatalf("got %+v, want the zero outcome", got)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 0)
	defer cancel()
	if got := exec.Do(ctx, waits{}, exec.Wait); got.Verb != exec.Wait || !exec.IsTemporary(got.Err) {
		t.Fatalf("got %+v, want a temporary error of wait", got)
	}
}

// waits is a task that runs until its context ends.
type waits struct{ exec.Controller }

func (waits) Wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
