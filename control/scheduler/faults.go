package scheduler

import (
	"time"

	"skep/api"
	"skep/model"
)

const (
	// manyFailures on a node within failureWindow make a service avoid it.
	manyFailures  = 5
	failureWindow = 5 * time.Minute
)

// faults remembers when tasks failed on which node. Unlike the view it cannot be
// built from the state alone, as records of failed tasks are reaped.
type faults struct {
	times  map[fault][]time.Time // in the order of arrival
	pruned time.Time
}

// fault is where something failed: a version of a service on a node.
type fault struct {
	service string
	version uint64
	node    string
}

func failed(t *api.Task) bool {
	s := t.GetStatus().GetState()
	return s == api.TaskState_FAILED || s == api.TaskState_REJECTED
}

// remember takes note of a task that failed on its node.
func (f *faults) remember(t *api.Task) {
	if t.GetServiceId() == "" || t.GetNodeId() == "" {
		return
	}
	if f.times == nil {
		f.times = map[fault][]time.Time{}
	}
	k := fault{t.GetServiceId(), t.GetSpecVersion().GetIndex(), t.GetNodeId()}
	f.times[k] = append(f.times[k], model.CameToItsState(t))
}

// count returns how often a group failed on a node within the window before now.
func (f *faults) count(g groupKey, node string, now time.Time) int {
	if len(f.times) == 0 || g.service == "" {
		return 0
	}
	n := 0
	for _, at := range f.times[fault{g.service, g.version, node}] {
		if now.Sub(at) < failureWindow {
			n++
		}
	}
	return n
}

// prune forgets, now and then, what has left the window.
func (f *faults) prune(now time.Time) {
	if now.Sub(f.pruned) < time.Minute {
		return
	}
	f.pruned = now
	for k, times := range f.times {
		kept := times[:0]
		for _, at := range times {
			if now.Sub(at) < failureWindow {
				kept = append(kept, at)
			}
		}
		if len(kept) == 0 {
			delete(f.times, k)
		} else {
			f.times[k] = kept
		}
	}
}
