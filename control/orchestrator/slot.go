package orchestrator

import (
	"cmp"
	"slices"
	"time"

	"skep/api"
	"skep/model"
)

// slot brings one slot of a service one step further.
func (p *planning) slot(k key) {
	svc, _ := p.s.Services.Get(k.id)
	if svc.GetSpec().GetReplicated() == nil {
		return // not ours, or gone: its size is dirty then
	}
	tasks := p.inSlot(k)
	var live []*api.Task
	for _, t := range tasks {
		if wanted(t) {
			live = append(live, t)
		}
	}
	switch len(live) {
	case 0:
		p.refill(svc, k, tasks)
	case 1:
		p.keep(svc, k, live[0], without(tasks, live[0]))
	default:
		best := slices.MaxFunc(live, func(a, b *api.Task) int { return p.compare(svc, a, b) })
		for _, t := range without(live, best) {
			p.stop(t, "another task has its slot")
		}
		p.out.Again(k)
	}
}

// keep looks after the one task that is wanted in a slot.
func (p *planning) keep(svc *api.Service, k key, t *api.Task, others []*api.Task) {
	node := p.nodeOf(t)
	placed := t.GetNodeId() != ""
	switch {
	case model.Outdated(svc, t, node):
		p.stop(t, "the service was updated")
		p.create(svc, k.slot, append(others, t))
	case ended(t), placed && (lost(node) || drained(node)):
		p.stop(t, whyAway(t, node))
		if mayRestart(svc, t, others) {
			p.create(svc, k.slot, append(others, t))
		}
	case t.GetDesiredState() < api.TaskState_RUNNING:
		start, known := p.startsAt(svc, others)
		switch {
		case !known: // the predecessor's end will tell
		case start.After(p.env.Now):
			p.out.WakeAt(k, start)
		default:
			p.desire(t, api.TaskState_RUNNING)
		}
	}
}

// refill decides about a slot in which nothing is wanted: what ended there may
// be replaced, or it stays as it is, as a task that has done its work does.
func (p *planning) refill(svc *api.Service, k key, tasks []*api.Task) {
	var last *api.Task
	for _, t := range tasks {
		if member(t) {
			last = t
		}
	}
	if last == nil {
		return // the slot is no member
	}
	if model.Outdated(svc, last, p.nodeOf(last)) || mayRestart(svc, last, without(tasks, last)) {
		p.create(svc, k.slot, tasks)
	}
}

// startsAt returns when the next task of a slot may run, by what else is, or was,
// in it. It is not known while one of these may still be running.
func (p *planning) startsAt(svc *api.Service, others []*api.Task) (start time.Time, known bool) {
	for _, o := range others {
		if !p.stopped(o) {
			return time.Time{}, false
		}
	}
	if len(others) == 0 {
		return p.env.Now, true // the first of its slot
	}
	last := slices.MaxFunc(others, model.ByCreation)
	node := p.nodeOf(last)
	if !ended(last) || !member(last) || lost(node) || drained(node) || model.Outdated(svc, last, node) {
		return p.env.Now, true // it did not end by itself
	}
	at, delay := model.CameToItsState(last), restartDelay(svc)
	if at.Sub(p.env.Now) > delay {
		return p.env.Now, true // the clock was set back: how long ago it ended is not known
	}
	return at.Add(delay), true
}

// compare orders tasks of one slot by how well they serve it.
func (p *planning) compare(svc *api.Service, a, b *api.Task) int {
	worth := func(t *api.Task) int {
		if ended(t) {
			return -1
		}
		return int(t.GetStatus().GetState())
	}
	current := func(t *api.Task) int {
		if model.Outdated(svc, t, p.nodeOf(t)) {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(current(a), current(b)), cmp.Compare(worth(a), worth(b)), model.ByCreation(a, b))
}

// inSlot returns the tasks of a slot, the oldest first.
func (p *planning) inSlot(k key) []*api.Task {
	tasks := slices.Collect(p.s.TasksInSlot(k.id, k.slot))
	slices.SortFunc(tasks, model.ByCreation)
	return tasks
}

func created(t *api.Task) time.Time { return t.GetMeta().GetCreatedAt().AsTime() }

func without(tasks []*api.Task, t *api.Task) []*api.Task {
	rest := make([]*api.Task, 0, len(tasks))
	for _, o := range tasks {
		if o != t {
			rest = append(rest, o)
		}
	}
	return rest
}
