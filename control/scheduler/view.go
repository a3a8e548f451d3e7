package scheduler

import (
	"slices"
	"time"

	"skep/api"
	"skep/store"
)

// view is what the scheduler knows: of nodes what is taken of them, of services
// where their tasks are, and which tasks are pending.
type view struct {
	nodes    []*node // by index; nil where one was forgotten
	byID     map[string]*node
	vacant   []int              // indexes to be used again
	services map[string]*spread // of the active tasks
	groups   map[groupKey]*group
	classes  map[string]*class

	// Caches over it.
	pools    map[string]*pool
	anchored map[string][]*pool
	open     []*pool // without an anchor
	idle     []*pool // without a class, the one to be forgotten first in front
	boards   []*board
	lastSpec *api.TaskSpec // whose class was looked up last
	lastEnd  *api.Endpoint
	last     *class

	waiting int // classes that nothing fits now

	// What happened since it was asked last.
	woken   []key
	changed bool // a node, or what is taken of one: reasons may differ now

	faults faults
	now    time.Time // of the current plan
}

// Build implements store.View.
func (v *view) Build(s *store.Snapshot) {
	*v = view{
		byID:     map[string]*node{},
		services: map[string]*spread{},
		groups:   map[groupKey]*group{},
		classes:  map[string]*class{},
		pools:    map[string]*pool{},
		anchored: map[string][]*pool{},
		now:      v.now,
	}
	for n := range s.Nodes.All() {
		v.applyNode(nil, n)
	}
	for t := range s.Tasks.All() {
		v.applyTask(nil, t)
	}
}

// Apply implements store.View.
func (v *view) Apply(c store.Change) {
	switch c.Kind {
	case store.KindTask:
		was, _ := c.Old.(*api.Task)
		is, _ := c.New.(*api.Task)
		v.applyTask(was, is)
	case store.KindNode:
		was, _ := c.Old.(*api.Node)
		is, _ := c.New.(*api.Node)
		v.applyNode(was, is)
	}
}

func (v *view) applyNode(was, is *api.Node) {
	id := is.GetId()
	if is == nil {
		id = was.GetId()
	}
	n := v.node(id)
	n.describe(is)
	v.rejoin(n)
	v.touched(n, true)
	v.forgetUnknown(n)
}

func (v *view) applyTask(was, is *api.Task) {
	if is != nil && failed(is) && (was == nil || !failed(was)) {
		v.faults.remember(is)
		if n, ok := v.byID[is.GetNodeId()]; ok {
			for _, b := range v.boards {
				b.flag(v, n)
			}
		}
	}
	if was == nil || is == nil || !sameHold(was, is) {
		v.rehold(was, is)
	}
	queued, queues := was != nil && pending(was), is != nil && pending(is)
	if queued && queues && alike(was, is) {
		v.says(is)
		return
	}
	if queued {
		v.unqueue(was)
	}
	if queues {
		v.enqueue(is)
	}
}

// rehold counts what a task holds now in place of what it held.
func (v *view) rehold(was, is *api.Task) {
	from, to := v.hold(was, -1), v.hold(is, 1)
	if from != nil {
		v.touched(from, true)
		v.forgetUnknown(from)
	}
	if to != nil && to != from {
		v.touched(to, false)
	}
}

// hold counts t on its node and for its service, or no more. It returns the
// node, nil if t holds nothing.
func (v *view) hold(t *api.Task, sign int32) *node {
	if t == nil || !holds(t) {
		return nil
	}
	n := v.node(t.GetNodeId())
	n.take(t, sign)
	if id := t.GetServiceId(); id != "" && active(t) {
		s, ok := v.services[id]
		if !ok {
			s = &spread{}
			v.services[id] = s
		}
		if s.add(n, sign); s.empty() {
			delete(v.services, id)
		}
	}
	return n
}

// node returns what is known of a node, an empty one if nothing is.
func (v *view) node(id string) *node {
	if n, ok := v.byID[id]; ok {
		return n
	}
	n := &node{id: id, index: len(v.nodes)}
	if last := len(v.vacant) - 1; last >= 0 {
		n.index, v.vacant = v.vacant[last], v.vacant[:last]
		v.nodes[n.index] = n
	} else {
		v.nodes = append(v.nodes, n)
	}
	v.byID[id] = n
	return n
}

func (v *view) forgetUnknown(n *node) {
	if n.unknown() {
		delete(v.byID, n.id)
		v.nodes[n.index] = nil
		v.vacant = append(v.vacant, n.index)
		for _, b := range v.boards {
			b.flagged = slices.DeleteFunc(b.flagged, func(o *node) bool { return o == n })
		}
	}
}

// touched brings the boards up to a change of n, and, if n may have room that it
// had not, wakes what waits for it.
func (v *view) touched(n *node, mayFit bool) {
	v.changed = true
	for _, b := range v.boards {
		if b.pool.has(n) || n.index < len(b.at) && b.at[n.index] > 0 {
			b.fix(v, n)
		}
	}
	if !mayFit {
		return
	}
	if n.pinned.len() > 0 {
		for _, id := range n.pinned.all(n.pinned.len()) {
			v.woken = append(v.woken, key{task: id})
		}
	}
	for _, p := range n.pools {
		if len(p.waiting) == 0 || n.freeCPU() < p.leastCPU && p.leastCPU > 0 || n.freeMem() < p.leastMem && p.leastMem > 0 {
			continue
		}
		for i := len(p.waiting) - 1; i >= 0; i-- {
			if c := p.waiting[i]; v.fits(c.need, n) {
				v.stopWaiting(c)
				v.woken = append(v.woken, key{class: c.key})
			}
		}
	}
}

// fits reports whether n, which suits d, has room for it.
func (v *view) fits(d *need, n *node) bool {
	return n.hasResources(d) && n.hasPorts(d) && v.belowMost(d, n)
}

func (v *view) belowMost(d *need, n *node) bool {
	return d.perNode == 0 || uint64(v.services[d.service].on(n)) < d.perNode
}

// enqueue adds a pending task to those to be placed, or, if it comes with a node, to
// those to be checked there.
func (v *view) enqueue(t *api.Task) {
	if t.GetNodeId() != "" {
		v.node(t.GetNodeId()).pinned.push(t.GetId())
		v.woken = append(v.woken, key{task: t.GetId()})
		return
	}
	k := groupOf(t)
	g, ok := v.groups[k]
	if !ok {
		g = &group{key: k, class: v.classFor(t)}
		g.place = g.class.groups.PushBack(g)
		v.groups[k] = g
	}
	c := g.class
	g.tasks.push(t.GetId())
	c.tasks++
	v.woken = append(v.woken, key{class: c.key})
	if t.GetStatus().GetErr() == "" {
		c.unsaid.push(t.GetId())
	}
}

// says takes note that a task that waits says why.
func (v *view) says(t *api.Task) {
	if g, ok := v.groups[groupOf(t)]; ok && t.GetNodeId() == "" && t.GetStatus().GetErr() != "" {
		g.class.unsaid.remove(t.GetId())
	}
}

func (v *view) unqueue(t *api.Task) {
	if t.GetNodeId() != "" {
		n := v.node(t.GetNodeId())
		n.pinned.remove(t.GetId())
		v.forgetUnknown(n)
		return
	}
	g, ok := v.groups[groupOf(t)]
	if !ok {
		return
	}
	c := g.class
	g.tasks.remove(t.GetId())
	c.unsaid.remove(t.GetId())
	c.tasks--
	if g.tasks.len() > 0 {
		return
	}
	delete(v.groups, g.key)
	c.groups.Remove(g.place)
	if c.tasks > 0 {
		return
	}
	v.stopWaiting(c)
	delete(v.classes, c.key)
	if v.last == c {
		v.last, v.lastSpec, v.lastEnd = nil, nil, nil
	}
	v.release(c.pool)
}

// classFor returns the class of a task, making it if there is none.
func (v *view) classFor(t *api.Task) *class {
	if v.last != nil && v.lastSpec == t.GetSpec() && v.lastEnd == t.GetEndpoint() && v.last.need.service == "" && t.GetLogDriver() == nil {
		return v.last
	}
	d := needOf(t)
	p := v.pool(d)
	k := d.classKey(p.key)
	c, ok := v.classes[k]
	if !ok {
		c = &class{key: k, need: d, pool: p}
		v.classes[k] = c
		p.classes++
	}
	v.last, v.lastSpec, v.lastEnd = c, t.GetSpec(), t.GetEndpoint()
	if t.GetLogDriver() != nil {
		v.last = nil
	}
	return c
}
