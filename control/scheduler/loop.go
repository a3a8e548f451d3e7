package scheduler

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/loop"
	"skep/model"
	"skep/store"
)

// Loop returns the loop, for one runner.
func Loop() loop.Any {
	s := &scheduler{view: &view{}}
	return loop.Loop[key]{
		Name:  "scheduler",
		Keys:  s.touched,
		All:   s.everything,
		Views: []store.View{s.view},
		Plan:  s.plan,
	}
}

// key is what is planned: a class whose tasks are to be placed, or to say why
// they wait; a task that comes with a node; or, with none of these, whether what
// waits still says what is true.
type key struct {
	class string
	say   bool
	task  string
}

type scheduler struct {
	*view
	reviewed time.Time     // when reasons were last compared with what is true
	pause    time.Duration // until they may be again
}

// touched takes what the view has found while it followed the change.
func (s *scheduler) touched(_ store.Change, dirty func(key)) {
	for _, k := range s.woken {
		dirty(k)
	}
	s.woken = s.woken[:0]
	if s.changed && s.waiting > 0 {
		dirty(key{})
	}
	s.changed = false
}

func (s *scheduler) everything(_ *store.Snapshot, dirty func(key)) {
	for _, k := range s.woken { // of what the view was built from: all that is pending
		dirty(k)
	}
	s.woken, s.changed = nil, false
}

func (s *scheduler) plan(env *loop.Env, snap *store.Snapshot, keys []key, out *loop.Plan[key]) {
	s.begin(env.Now)
	p := &planning{scheduler: s, env: env, s: snap, out: out}
	for i, k := range keys {
		if out.Full() {
			out.Again(keys[i:]...)
			return
		}
		switch {
		case k.task != "":
			p.confirm(k)
		case k.class == "":
			p.review(k)
		case k.say:
			p.say(k)
		default:
			p.place(k)
		}
	}
}

// begin lets failures fade that have left the window.
func (v *view) begin(now time.Time) {
	v.now = now
	v.faults.prune(now)
	for _, b := range v.boards {
		flagged := b.flagged
		b.flagged = nil
		for _, n := range flagged {
			b.fix(v, n)
			b.flag(v, n)
		}
	}
}

// planning is one call of plan.
type planning struct {
	*scheduler
	env      *loop.Env
	s        *store.Snapshot
	out      *loop.Plan[key]
	assigned *api.TaskStatus // shared by the tasks of this call
}

// place places tasks of a class until none is left, or none fits.
func (p *planning) place(k key) {
	c, ok := p.classes[k.class]
	if !ok {
		return
	}
	for c.tasks > 0 && !c.waiting {
		if p.out.Full() {
			p.out.Again(k)
			return
		}
		g := c.first()
		id := g.tasks.first()
		t, ok := p.s.Tasks.Get(id)
		n := p.pick(c, g)
		if !ok || n == nil {
			p.wait(c)
			break
		}
		if p.assign(t, n); g.tasks.first() == id {
			p.out.Again(k) // the write was left out, which the step tells of
			return
		}
	}
	if c.waiting {
		if c.unsaid.len() < c.tasks {
			p.out.Again(key{}) // who waited before may say what was true then
		}
		p.tell(k, c)
	}
}

// pick returns the best node for the next task of a group, nil if none fits. A
// group of few tasks on many nodes rarely needs an order of its own: the best
// node is then the first by load on which none of the service runs.
func (v *view) pick(c *class, g *group) *node {
	if b := v.kept(c.pool, c.need, g.key); b != nil {
		return b.first(v)
	}
	if g.tasks.len() <= c.pool.size/scanLimit {
		s := v.services[g.key.service]
		n := v.board(c.pool, nil, groupKey{}).scan(v, scanLimit, func(n *node) bool {
			return s.on(n) == 0 && v.fits(c.need, n) && v.faults.count(g.key, n.id, v.now) < manyFailures
		})
		if n != nil {
			return n
		}
	}
	return v.board(c.pool, c.need, g.key).first(v)
}

// assign gives t, which fits, to n.
func (p *planning) assign(t *api.Task, n *node) {
	t = model.Shallow(t)
	t.NodeId = n.id
	if wanted := t.GetSpec().GetResources().GetReservations().GetGeneric(); len(wanted) > 0 {
		t.AssignedGenericResources, _ = n.generic.Claim(n.resources().GetGeneric(), wanted)
	}
	if p.assigned == nil {
		p.assigned = &api.TaskStatus{
			State:     api.TaskState_ASSIGNED,
			Timestamp: timestamppb.New(p.env.Now),
			Message:   "scheduler assigned task to node",
		}
	}
	t.Status = p.assigned
	p.out.Update(t)
}

// confirm checks a task that comes with its node.
func (p *planning) confirm(k key) {
	t, ok := p.s.Tasks.Get(k.task)
	if !ok || !pending(t) || t.GetNodeId() == "" {
		return
	}
	n, d := p.node(t.GetNodeId()), needOf(t)
	if n.object == nil || !d.suits(n.object) || !p.fits(d, n) {
		p.write(t, p.explain(d, []*node{n}))
		return
	}
	next := model.Shallow(t)
	if len(d.generic) > 0 {
		next.AssignedGenericResources, _ = n.generic.Claim(n.resources().GetGeneric(), d.generic)
	}
	next.Status = &api.TaskStatus{
		State:     api.TaskState_ASSIGNED,
		Timestamp: timestamppb.New(p.env.Now),
		Message:   "scheduler confirmed task can run on preassigned node",
	}
	p.out.Update(next)
}
