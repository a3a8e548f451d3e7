package exec

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/model"
)

// RetryAfter is how long a verb that failed for a time waits for its next try.
const RetryAfter = time.Second

// Step is one decision of Next.
type Step struct {
	// Status is the task's status from now on: the pointer that was passed in when
	// nothing changed.
	Status *api.TaskStatus
	// Verb is to be carried out, None if there is none.
	Verb Verb
	// After is how long Verb waits before it begins.
	After time.Duration
	// Again asks for another call at once, with no outcome. It is never set
	// together with Verb.
	Again bool
}

// Next decides what becomes of a task whose status is status after outcome,
// and which verb is to be carried out. task's own status is not read. now
// stamps a changed status; nothing else depends on it.
//
// The state never goes back. An outcome that does not fit the state (of a verb
// that was under way when the task changed) is judged where it still means
// something and ignored where it does not.
func Next(now time.Time, task *api.Task, status *api.TaskStatus, outcome Outcome) Step {
	m := machine{now: now, desired: task.GetDesiredState(), status: status}
	if outcome.Verb != None {
		if step, done := m.judge(outcome); done {
			return step
		}
	}
	return m.proceed()
}

type machine struct {
	now     time.Time
	desired api.TaskState
	status  *api.TaskStatus
}

func (m machine) state() api.TaskState { return m.status.GetState() }

func (m machine) stopping() bool { return m.desired >= api.TaskState_SHUTDOWN }

// proceed decides where no verb is under way.
func (m machine) proceed() Step {
	switch state := m.state(); {
	case m.stopping():
		if model.Terminal(state) {
			return Step{Status: m.status}
		}
		return Step{Status: m.status, Verb: Shutdown}
	case state > m.desired:
		return Step{Status: m.status}
	case state <= api.TaskState_ASSIGNED:
		return Step{Status: m.move(api.TaskState_ACCEPTED, "accepted"), Again: true}
	case state == api.TaskState_ACCEPTED:
		return Step{Status: m.move(api.TaskState_PREPARING, "preparing"), Verb: Prepare}
	case state == api.TaskState_PREPARING:
		return Step{Status: m.status, Verb: Prepare}
	case state == api.TaskState_READY && m.desired > api.TaskState_READY:
		return Step{Status: m.move(api.TaskState_STARTING, "starting"), Verb: Start}
	case state == api.TaskState_STARTING:
		return Step{Status: m.status, Verb: Start}
	case state == api.TaskState_RUNNING:
		return Step{Status: m.status, Verb: Wait}
	}
	return Step{Status: m.status}
}

// judge decides what outcome means. It reports false when that is nothing, and
// the state alone decides.
func (m machine) judge(outcome Outcome) (Step, bool) {
	success, message, expected := m.expect(outcome.Verb)
	if !expected {
		return Step{}, false
	}
	err := outcome.Err
	if errors.Is(err, ErrTaskPrepared) || errors.Is(err, ErrTaskStarted) {
		err = nil
	}
	switch {
	case err == nil:
		status := m.move(success, message)
		m.attach(status, outcome)
		return Step{Status: status, Again: true}, true
	case IsTemporary(err) && m.stopping() && outcome.Verb != Shutdown:
		return Step{}, false // not worth another try: the task is to stop
	case IsTemporary(err):
		status := model.Shallow(m.status)
		status.Err = err.Error()
		m.attach(status, outcome)
		if proto.Equal(status, m.status) {
			status = m.status
		} else {
			status.Timestamp = timestamppb.New(m.now)
		}
		return Step{Status: status, Verb: outcome.Verb, After: RetryAfter}, true
	}
	// A failure: rejected before it was to start, failed after.
	failure := api.TaskState_FAILED
	if m.state() < api.TaskState_STARTING {
		failure = api.TaskState_REJECTED
	}
	status := m.move(failure, m.status.GetMessage())
	status.Err = err.Error()
	m.attach(status, outcome)
	return Step{Status: status}, true
}

// expect says which state the success of verb leads to, and whether verb is one
// that this state asks for.
func (m machine) expect(verb Verb) (success api.TaskState, message string, expected bool) {
	switch verb {
	case Prepare:
		return api.TaskState_READY, "prepared", m.state() == api.TaskState_PREPARING
	case Start:
		return api.TaskState_RUNNING, "started", m.state() == api.TaskState_STARTING
	case Wait:
		return api.TaskState_COMPLETE, "finished", m.state() == api.TaskState_RUNNING
	case Shutdown:
		return api.TaskState_SHUTDOWN, "shutdown", m.stopping() && !model.Terminal(m.state())
	}
	return 0, "", false
}

// move returns the status in another state.
func (m machine) move(state api.TaskState, message string) *api.TaskStatus {
	status := &api.TaskStatus{}
	if m.status != nil {
		status = model.Shallow(m.status)
	}
	status.State = state
	status.Message = message
	status.Err = ""
	status.Timestamp = timestamppb.New(m.now)
	return status
}

// attach adds what the controller knows. Before STARTING there is no process
// and nothing to know.
func (m machine) attach(status *api.TaskStatus, outcome Outcome) {
	if m.state() < api.TaskState_STARTING {
		return
	}
	container := outcome.Container
	if code, ok := outcome.exitCode(); ok && int(container.GetExitCode()) != code {
		if container == nil {
			container = status.GetContainer()
		}
		if container == nil {
			container = &api.ContainerStatus{}
		}
		container = model.Shallow(container)
		container.ExitCode = int32(code)
	}
	if container != nil {
		status.RuntimeStatus = &api.TaskStatus_Container{Container: container}
	}
	if outcome.Ports != nil {
		status.PortStatus = outcome.Ports
	}
}
