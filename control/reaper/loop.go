package reaper

import (
	"slices"

	"skep/api"
	"skep/loop"
	"skep/model"
	"skep/store"
)

// defaultRetention is how many records of a slot stay if the cluster says nothing.
const defaultRetention = 5

// Loop returns the loop, for one runner.
func Loop() loop.Any {
	return loop.Loop[key]{
		Name: "reaper",
		Keys: touched,
		All:  everything,
		Plan: plan,
	}
}

// key is a slot of a service, a task of no service, or, with neither, all slots.
type key struct {
	service string
	slot    uint64
	task    string
}

func keyOf(t *api.Task) key {
	if t.GetServiceId() == "" {
		return key{task: t.GetId()}
	}
	return key{service: t.GetServiceId(), slot: t.GetSlot()}
}

func touched(c store.Change, dirty func(key)) {
	switch is := c.New.(type) {
	case *api.Task:
		// A slot has more to reap only when it gets one more record, when one of its
		// records becomes history, or when one is not waited on any more.
		was, _ := c.Old.(*api.Task)
		if was == nil || past(is) || waits(was) && !waits(is) {
			dirty(keyOf(is))
		}
	case *api.Cluster:
		was, _ := c.Old.(*api.Cluster)
		if retention(was) != retention(is) {
			dirty(key{})
		}
	}
}

func everything(s *store.Snapshot, dirty func(key)) {
	for t := range s.Tasks.All() {
		dirty(keyOf(t))
	}
}

func plan(_ *loop.Env, s *store.Snapshot, keys []key, out *loop.Plan[key]) {
	for i, k := range keys {
		if out.Full() {
			out.Again(keys[i:]...)
			return
		}
		switch {
		case k.service != "":
			reapSlot(s, k, out)
		case k.task != "":
			if t, ok := s.Tasks.Get(k.task); ok && (done(t) || t.GetStatus().GetState() >= api.TaskState_ORPHANED) {
				out.Delete(t)
			}
		default:
			everything(s, func(k key) { out.Again(k) })
		}
	}
}

func reapSlot(s *store.Snapshot, k key, out *loop.Plan[key]) {
	var kept []*api.Task
	for t := range s.TasksInSlot(k.service, k.slot) {
		kept = append(kept, t)
	}
	for _, t := range kept {
		if done(t) {
			out.Delete(t)
		}
	}
	kept = slices.DeleteFunc(kept, done)
	svc, _ := s.Services.Get(k.service)
	if svc.GetSpec().GetReplicated() == nil {
		return // a job's tasks are its memory; a service that is gone has its tasks removed
	}
	surplus := len(kept) - limit(s, svc)
	if surplus <= 0 || limit(s, svc) < 0 {
		return
	}
	slices.SortFunc(kept, model.ByCreation)
	needed := kept[len(kept)-1]
	if waits(needed) && len(kept) > 1 {
		needed = kept[len(kept)-2]
	}
	for _, t := range kept {
		if surplus > 0 && past(t) && t != needed {
			out.Delete(t)
			surplus--
		}
	}
}

// done reports whether t is to be removed and nothing of it runs.
func done(t *api.Task) bool {
	state := t.GetStatus().GetState()
	return t.GetDesiredState() == api.TaskState_REMOVE && (state < api.TaskState_ASSIGNED || state >= api.TaskState_COMPLETE)
}

// waits reports whether t waits to be run, which it may after what it replaces.
func waits(t *api.Task) bool { return t.GetDesiredState() < api.TaskState_RUNNING }

// past reports whether t ended or never will run.
func past(t *api.Task) bool {
	state := t.GetStatus().GetState()
	return model.Terminal(state) || state < api.TaskState_ASSIGNED && t.GetDesiredState() > api.TaskState_COMPLETE
}

// limit returns how many records a slot of svc keeps, negative for all.
func limit(s *store.Snapshot, svc *api.Service) int {
	cluster, _ := s.Clusters.Named("default")
	keep := retention(cluster)
	if attempts := svc.GetSpec().GetTask().GetRestart().GetMaxAttempts(); keep >= 0 && attempts > 0 {
		keep = int64(min(attempts, 1<<30)) + 1
	}
	return int(keep)
}

func retention(cluster *api.Cluster) int64 {
	orchestration := cluster.GetSpec().GetOrchestration()
	if orchestration == nil {
		return defaultRetention
	}
	return orchestration.GetTaskHistoryRetentionLimit()
}
