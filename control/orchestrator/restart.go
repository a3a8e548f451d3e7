package orchestrator

import (
	"time"

	"skep/api"
	"skep/model"
)

// defaultDelay is how long a restart waits when the service does not say.
const defaultDelay = 5 * time.Second

func restartDelay(svc *api.Service) time.Duration {
	if d := svc.GetSpec().GetTask().GetRestart().GetDelay(); d != nil {
		return d.AsDuration()
	}
	return defaultDelay
}

// mayRestart reports whether the restart policy lets t be replaced. others are
// the other tasks of its slot, which are the memory of earlier attempts; the
// reaper keeps as many as this needs.
func mayRestart(svc *api.Service, t *api.Task, others []*api.Task) bool {
	policy := svc.GetSpec().GetTask().GetRestart()
	if policy == nil {
		return true
	}
	switch policy.GetCondition() {
	case api.RestartPolicy_NONE:
		return false
	case api.RestartPolicy_ON_FAILURE:
		if t.GetStatus().GetState() == api.TaskState_COMPLETE {
			return false
		}
	}
	return policy.GetMaxAttempts() == 0 || attempts(policy, t, others) < policy.GetMaxAttempts()
}

// attempts counts the restarts that led to t: all tasks of its version in its
// slot but the first, with a window only those created within it before t ended.
func attempts(policy *api.RestartPolicy, t *api.Task, others []*api.Task) uint64 {
	version := t.GetSpecVersion().GetIndex()
	first := t
	for _, o := range others {
		if o.GetSpecVersion().GetIndex() == version && model.ByCreation(o, first) < 0 {
			first = o
		}
	}
	var n uint64
	since := model.CameToItsState(t).Add(-policy.GetWindow().AsDuration())
	count := func(o *api.Task) {
		if o == first || o.GetSpecVersion().GetIndex() != version {
			return
		}
		if policy.GetWindow().AsDuration() == 0 || created(o).After(since) {
			n++
		}
	}
	count(t)
	for _, o := range others {
		count(o)
	}
	return n
}
