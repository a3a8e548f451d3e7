package orchestrator

import (
	"skep/api"
	"skep/loop"
	"skep/store"
)

// Loop returns the loop, for one runner.
func Loop() loop.Any {
	o := &orchestrator{view: &view{}}
	return loop.Loop[key]{
		Name:  "orchestrator",
		Keys:  touched,
		All:   everything,
		Views: []store.View{o.view},
		Plan:  o.plan,
	}
}

// key is what is reconciled: one status change costs one slot, not a service.
type key struct {
	aspect aspect
	id     string // of a node for aspectNode, of a service otherwise
	slot   uint64 // aspectSlot only
}

// aspect is which question about an object is open.
type aspect uint8

const (
	aspectSize aspect = iota // has the service as many slots as replicas?
	aspectSpec               // which of its slots are outdated?
	aspectSlot               // does the slot run what it should?
	aspectNode               // which slots does a node take down with it?
)

type orchestrator struct{ view *view }

func touched(c store.Change, dirty func(key)) {
	switch c.Kind {
	case store.KindTask:
		was, _ := c.Old.(*api.Task)
		is, _ := c.New.(*api.Task)
		touchedByTask(was, is, dirty)
	case store.KindService:
		was, _ := c.Old.(*api.Service)
		is, _ := c.New.(*api.Service)
		if was.GetSpec() != is.GetSpec() {
			dirty(key{aspectSize, c.ID(), 0})
			if was != nil && is != nil {
				dirty(key{aspectSpec, c.ID(), 0})
			}
		}
	case store.KindNode:
		was, _ := c.Old.(*api.Node)
		is, _ := c.New.(*api.Node)
		if lost(is) && !lost(was) || drained(is) && !drained(was) {
			dirty(key{aspectNode, c.ID(), 0})
		}
	}
}

// touchedByTask leaves out what most changes are: a task that moves on towards
// RUNNING, and one that was made to run.
func touchedByTask(was, is *api.Task, dirty func(key)) {
	t := is
	if t == nil {
		t = was
	}
	if t.GetServiceId() == "" {
		return
	}
	created, removed := was == nil, is == nil
	slot := key{aspectSlot, t.GetServiceId(), t.GetSlot()}
	switch {
	case created:
		if t.GetDesiredState() != api.TaskState_RUNNING {
			dirty(slot)
		}
	case removed, was.GetDesiredState() != is.GetDesiredState(), ended(was) != ended(is):
		dirty(slot)
		if member(was) && (removed || !member(is)) {
			dirty(key{aspectSize, t.GetServiceId(), 0})
		}
	}
}

func everything(s *store.Snapshot, dirty func(key)) {
	for svc := range s.Services.All() {
		dirty(key{aspectSize, svc.GetId(), 0})
	}
	for t := range s.Tasks.All() {
		if t.GetServiceId() != "" {
			dirty(key{aspectSize, t.GetServiceId(), 0}) // its service may be gone
			dirty(key{aspectSlot, t.GetServiceId(), t.GetSlot()})
		}
	}
}

func (o *orchestrator) plan(env *loop.Env, s *store.Snapshot, keys []key, out *loop.Plan[key]) {
	p := &planning{orchestrator: o, env: env, s: s, out: out}
	for i, k := range keys {
		if out.Full() {
			out.Again(keys[i:]...)
			return
		}
		switch k.aspect {
		case aspectSize:
			p.size(k)
		case aspectSpec:
			p.spec(k)
		case aspectSlot:
			p.slot(k)
		case aspectNode:
			p.node(k)
		}
	}
}

// planning is one call of plan.
type planning struct {
	*orchestrator
	env    *loop.Env
	s      *store.Snapshot
	out    *loop.Plan[key]
	status *api.TaskStatus // shared by the tasks that this call creates
}

// node hands on what a node that is down, drained or gone concerns.
func (p *planning) node(k key) {
	for t := range p.s.TasksOn(k.id) {
		if t.GetServiceId() != "" && !ended(t) {
			p.out.Again(key{aspectSlot, t.GetServiceId(), t.GetSlot()})
		}
	}
}
