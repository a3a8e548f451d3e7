package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/model"
)

// filters are what a node is asked, in order, with what is said of nodes that
// fail. Each is counted by itself, as what helps on one node may not on the next.
var filters = []struct {
	one, many string
	passes    func(v *view, d *need, n *node) bool
}{
	{"1 node not available for new tasks", "%d nodes not available for new tasks",
		func(_ *view, _ *need, n *node) bool { return available(n.object) }},
	{"insufficient resources on 1 node", "insufficient resources on %d nodes",
		func(_ *view, d *need, n *node) bool { return n.hasResources(d) }},
	{"missing plugin on 1 node", "missing plugin on %d nodes",
		func(_ *view, d *need, n *node) bool { return d.pluginsOn(n.object) }},
	{"scheduling constraints not satisfied on 1 node", "scheduling constraints not satisfied on %d nodes",
		func(_ *view, d *need, n *node) bool { return d.constraintsMet(n.object) }},
	{"unsupported platform on 1 node", "unsupported platform on %d nodes",
		func(_ *view, d *need, n *node) bool {
			return model.RunsOn(n.object.GetDescription().GetPlatform(), d.platforms)
		}},
	{"unsupported runtime on 1 node", "unsupported runtime on %d nodes",
		func(_ *view, d *need, n *node) bool { return d.runtimeOn(n.object) }},
	{"host-mode port already in use on 1 node", "host-mode port already in use on %d nodes",
		func(_ *view, d *need, n *node) bool { return n.hasPorts(d) }},
	{"max replicas per node limit exceed on 1 node", "max replicas per node limit exceed on %d nodes",
		func(v *view, d *need, n *node) bool { return v.belowMost(d, n) }},
}

// explain says why a need fits on none of these nodes: what fails on most first.
func (v *view) explain(d *need, nodes []*node) string {
	fails := make([]int, len(filters))
	for _, n := range nodes {
		if n == nil || n.object == nil && len(nodes) > 1 {
			continue
		}
		for i, f := range filters {
			if !f.passes(v, d, n) {
				fails[i]++
			}
		}
	}
	order := make([]int, 0, len(filters))
	for i, count := range fails {
		if count > 0 {
			order = append(order, i)
		}
	}
	if len(order) == 0 {
		return "no suitable node"
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(fails[b], fails[a]) })
	reasons := make([]string, len(order))
	for i, f := range order {
		if reasons[i] = filters[f].one; fails[f] > 1 {
			reasons[i] = fmt.Sprintf(filters[f].many, fails[f])
		}
	}
	return "no suitable node (" + strings.Join(reasons, "; ") + ")"
}

// tell lets those tasks of a class that fits nowhere say why that do not yet.
func (p *planning) tell(k key, c *class) {
	if c.unsaid.len() == 0 {
		return
	}
	c.said = p.explain(c.need, p.nodes)
	for _, id := range c.unsaid.all(p.out.Left()) {
		if t, ok := p.s.Tasks.Get(id); ok {
			p.write(t, c.said)
		}
	}
	if c.unsaid.len() > 0 {
		p.out.Again(k)
	}
}

// review compares what waiting tasks say with what is true, at most so often
// that neither the looking nor the writing is felt.
func (p *planning) review(k key) {
	if due := p.reviewed.Add(p.pause); due.After(p.env.Now) {
		p.out.WakeAt(k, due)
		return
	}
	tasks := 0
	for _, name := range slices.Sorted(maps.Keys(p.classes)) {
		if c := p.classes[name]; c.waiting {
			tasks += c.tasks
			if said := p.explain(c.need, p.nodes); said != c.said {
				c.said = said
				p.out.Again(key{class: name, say: true})
			}
		}
	}
	p.reviewed = p.env.Now
	p.pause = max(time.Second, time.Duration(p.waiting*len(p.byID))*time.Microsecond, time.Duration(tasks)*time.Millisecond)
}

// say lets all tasks of a waiting class say what was found last.
func (p *planning) say(k key) {
	c, ok := p.classes[k.class]
	if !ok || !c.waiting {
		return
	}
	for e := c.groups.Front(); e != nil; e = e.Next() {
		tasks := &e.Value.(*group).tasks
		for _, id := range tasks.all(tasks.len()) {
			if p.out.Full() {
				p.out.Again(k)
				return
			}
			if t, ok := p.s.Tasks.Get(id); ok {
				p.write(t, c.said)
			}
		}
	}
}

// write lets t say why it waits.
func (p *planning) write(t *api.Task, why string) {
	if t.GetStatus().GetErr() == why {
		return
	}
	t = model.Shallow(t)
	t.Status = &api.TaskStatus{
		State:     api.TaskState_PENDING,
		Timestamp: timestamppb.New(p.env.Now),
		Message:   t.GetStatus().GetMessage(),
		Err:       why,
	}
	p.out.Update(t)
}
