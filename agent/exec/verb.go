package exec

import (
	"context"
	"errors"

	"skep/api"
)

// Verb is one of a Controller's operations that Next asks for.
type Verb uint8

// The verbs of Next. The others of Controller are the agent's own decision:
// Terminate when it is itself told to stop, Remove when the task is no longer
// assigned to the node.
const (
	None Verb = iota
	Prepare
	Start
	Wait
	Shutdown
)

// String returns the verb in lower case.
func (v Verb) String() string {
	switch v {
	case Prepare:
		return "prepare"
	case Start:
		return "start"
	case Wait:
		return "wait"
	case Shutdown:
		return "shutdown"
	}
	return "none"
}

// Outcome is what came of a verb. The zero Outcome says that no verb has ended
// since the last call of Next.
type Outcome struct {
	Verb Verb
	Err  error
	// Container and Ports are the controller's status after the verb, nil when it
	// has none.
	Container *api.ContainerStatus
	Ports     *api.PortStatus
}

// Do carries out verb and collects its outcome. A verb that ended because the
// caller cancelled ctx has none: Do returns the zero Outcome, so that Next
// decides anew without the pause that follows a failure.
func Do(ctx context.Context, c Controller, verb Verb) Outcome {
	out := Outcome{Verb: verb}
	switch verb {
	case Prepare:
		out.Err = c.Prepare(ctx)
	case Start:
		out.Err = c.Start(ctx)
	case Wait:
		out.Err = c.Wait(ctx)
	case Shutdown:
		out.Err = c.Shutdown(ctx)
	}
	if errors.Is(ctx.Err(), context.Canceled) && errors.Is(out.Err, context.Canceled) {
		return Outcome{}
	}
	// What cannot be told about the task is no reason to fail the verb.
	ctx = context.WithoutCancel(ctx)
	if s, ok := c.(ContainerStatuser); ok {
		if status, err := s.ContainerStatus(ctx); err == nil {
			out.Container = status
		}
	}
	if s, ok := c.(PortStatuser); ok {
		if status, err := s.PortStatus(ctx); err == nil {
			out.Ports = status
		}
	}
	return out
}

// exitCode returns the exit code that the outcome tells of.
func (o Outcome) exitCode() (int, bool) {
	var exit *ExitError
	if errors.As(o.Err, &exit) {
		return exit.Code, true
	}
	return 0, false
}
