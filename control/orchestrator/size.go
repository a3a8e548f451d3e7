package orchestrator

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
)

// size gives a service as many slots as it has replicas, or none when it is gone.
func (p *planning) size(k key) {
	svc, exists := p.s.Services.Get(k.id)
	slots := p.view.of(k.id)
	if !exists {
		p.removeSlots(k, slots.members())
		return
	}
	replicated := svc.GetSpec().GetReplicated()
	if replicated == nil {
		return
	}
	switch replicas, have := replicated.GetReplicas(), slots.size(); {
	case have < replicas:
		for range replicas - have {
			if p.out.Full() {
				p.out.Again(k)
				return
			}
			p.fill(svc, slots.missing())
			slots = p.view.of(k.id) // there was none before its first task
		}
	case have > replicas:
		p.removeSlots(k, p.surplus(k, slots, replicas))
	}
}

// fill creates a task in a slot that is no member. What is left of an earlier
// one, which is to be removed, has to stop first.
func (p *planning) fill(svc *api.Service, slot uint64) {
	var others []*api.Task
	if p.view.of(svc.GetId()).count(slot).all > 0 {
		others = p.inSlot(key{aspectSlot, svc.GetId(), slot})
	}
	p.create(svc, slot, others)
}

// removeSlots wants every task of these slots removed.
func (p *planning) removeSlots(k key, slots []uint64) {
	for _, slot := range slots {
		if p.out.Full() {
			p.out.Again(k)
			return
		}
		for _, t := range slices.Collect(p.s.TasksInSlot(k.id, slot)) {
			if member(t) {
				p.desire(t, api.TaskState_REMOVE)
			}
		}
	}
}

// spec hands on the slots that an update of the service may concern. Tasks share
// their specs, so that each spec is compared once, not once for each task.
func (p *planning) spec(k key) {
	svc, _ := p.s.Services.Get(k.id)
	if svc.GetSpec().GetReplicated() == nil {
		return
	}
	want := svc.GetSpec()
	sameTask := remember(func(have *api.TaskSpec) bool { return proto.Equal(have, want.GetTask()) })
	sameEndpoint := remember(func(have *api.EndpointSpec) bool { return proto.Equal(have, want.GetEndpoint()) })
	for t := range p.s.TasksOf(k.id) {
		if !member(t) || sameTask(t.GetSpec()) && sameEndpoint(t.GetEndpoint().GetSpec()) {
			continue
		}
		if !wanted(t) || model.Outdated(svc, t, p.nodeOf(t)) {
			p.out.Again(key{aspectSlot, k.id, t.GetSlot()})
		}
	}
}

// remember returns f, which asks only once about each pointer.
func remember[T any](f func(*T) bool) func(*T) bool {
	answers := map[*T]bool{}
	return func(v *T) bool {
		answer, known := answers[v]
		if !known {
			answer = f(v)
			answers[v] = answer
		}
		return answer
	}
}

// candidate is a slot when a service shrinks.
type candidate struct {
	slot    uint64
	node    string
	running bool
	copy    int // how many candidates before it are on its node; last for what is nowhere
}

const last = int(^uint(0) >> 1)

// surplus returns the slots that go when a service shrinks: first those that are
// nowhere yet or hold more than one task, then, so that the rest stays spread,
// the ones on the nodes that have most, and among these what does not run
// before what does and high numbers before low ones.
func (p *planning) surplus(k key, slots *slots, keep uint64) []uint64 {
	if keep == 0 {
		return slots.members()
	}
	candidates := p.candidates(k, slots)
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(compareBool(b.running, a.running), cmp.Compare(a.slot, b.slot))
	})
	copies := map[string]int{}
	for i := range candidates {
		c := &candidates[i]
		if c.node == "" {
			c.copy = last
			continue
		}
		c.copy = copies[c.node]
		copies[c.node]++
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(a.copy, b.copy) })
	var surplus []uint64
	for _, c := range slices.Backward(candidates[keep:]) {
		surplus = append(surplus, c.slot)
	}
	return surplus
}

func (p *planning) candidates(k key, slots *slots) []candidate {
	bySlot := make(map[uint64]*api.Task, slots.size())
	several := map[uint64]bool{}
	for t := range p.s.TasksOf(k.id) {
		if !member(t) {
			continue
		}
		o, seen := bySlot[t.GetSlot()]
		if seen && wanted(o) && wanted(t) {
			several[t.GetSlot()] = true
		}
		if !seen || wanted(t) && !wanted(o) || wanted(t) == wanted(o) && model.ByCreation(t, o) > 0 {
			bySlot[t.GetSlot()] = t
		}
	}
	candidates := make([]candidate, 0, len(bySlot))
	for slot, t := range bySlot {
		c := candidate{slot: slot, node: t.GetNodeId(), running: t.GetStatus().GetState() == api.TaskState_RUNNING}
		if several[slot] {
			c.node = ""
		}
		candidates = append(candidates, c)
	}
	return candidates
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
