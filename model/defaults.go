package model

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"skep/api"
)

// What holds where a spec says nothing.
const (
	DefaultStopGrace        = 10 * time.Second
	DefaultRestartDelay     = 5 * time.Second
	DefaultRestartCondition = api.RestartPolicy_ANY
	DefaultUpdateMonitor    = 5 * time.Second
	// DefaultUpdateParallelism holds where there is no update block; in one that
	// there is, 0 means all at once.
	DefaultUpdateParallelism = 1
)

// WithDefaults returns spec with every default written out, for people who want
// to see them. spec itself stays as it is; what did not change is shared.
func WithDefaults(spec *api.ServiceSpec) *api.ServiceSpec {
	full := &api.ServiceSpec{}
	if spec != nil {
		full = Shallow(spec)
	}
	full.Task = taskWithDefaults(full.GetTask())
	if !Job(full) {
		full.Update = updateWithDefaults(full.GetUpdate())
		full.Rollback = updateWithDefaults(full.GetRollback())
	}
	if full.Endpoint == nil {
		full.Endpoint = &api.EndpointSpec{Mode: api.EndpointSpec_VIP}
	}
	return full
}

func taskWithDefaults(spec *api.TaskSpec) *api.TaskSpec {
	full := &api.TaskSpec{}
	if spec != nil {
		full = Shallow(spec)
	}
	if c := full.GetContainer(); c != nil && c.GetStopGracePeriod() == nil {
		c = Shallow(c)
		c.StopGracePeriod = durationpb.New(DefaultStopGrace)
		full.Runtime = &api.TaskSpec_Container{Container: c}
	}
	restart := &api.RestartPolicy{Condition: DefaultRestartCondition}
	if full.GetRestart() != nil {
		restart = Shallow(full.GetRestart())
	}
	if restart.Delay == nil {
		restart.Delay = durationpb.New(DefaultRestartDelay)
	}
	full.Restart = restart
	return full
}

func updateWithDefaults(u *api.UpdateConfig) *api.UpdateConfig {
	full := &api.UpdateConfig{Parallelism: DefaultUpdateParallelism}
	if u != nil {
		full = Shallow(u)
	}
	if full.Monitor == nil {
		full.Monitor = durationpb.New(DefaultUpdateMonitor)
	}
	return full
}
