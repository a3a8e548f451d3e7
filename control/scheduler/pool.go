package scheduler

import (
	"math"
	"slices"

	"skep/model"
)

// pool is the nodes that suit a need when nothing runs on them.
type pool struct {
	key     string
	need    *need // of one of its classes; only what depends on the node alone
	anchor  string
	member  []bool // by index of the node
	size    int
	classes int // that have tasks
	waiting []*class
	// Nothing that waits asks for less than this; it may ask for more.
	leastCPU, leastMem int64
}

// idlePools is how many pools without tasks are kept for the next ones.
const idlePools = 32

func (p *pool) has(n *node) bool { return n.index < len(p.member) && p.member[n.index] }

func (p *pool) set(n *node, member bool) {
	for len(p.member) <= n.index {
		p.member = append(p.member, false)
	}
	p.member[n.index] = member
	if member {
		p.size++
		n.pools = append(n.pools, p)
	} else {
		p.size--
		n.pools = slices.DeleteFunc(n.pools, func(o *pool) bool { return o == p })
	}
}

// wait lets c wait until a node of its pool may have room for it.
func (v *view) wait(c *class) {
	if c.waiting {
		return
	}
	p := c.pool
	v.waiting++
	if len(p.waiting) == 0 {
		p.leastCPU, p.leastMem = math.MaxInt64, math.MaxInt64
	}
	p.leastCPU, p.leastMem = min(p.leastCPU, c.need.cpu), min(p.leastMem, c.need.mem)
	c.waiting, c.place = true, len(p.waiting)
	p.waiting = append(p.waiting, c)
}

// stopWaiting lets c be placed again.
func (v *view) stopWaiting(c *class) {
	if !c.waiting {
		return
	}
	p := c.pool
	v.waiting--
	end := len(p.waiting) - 1
	moved := p.waiting[end]
	p.waiting[c.place], moved.place = moved, c.place
	p.waiting[end] = nil
	p.waiting = p.waiting[:end]
	c.waiting = false
}

// pool returns the pool for d, making it if there is none.
func (v *view) pool(d *need) *pool {
	key := d.poolKey()
	if p, ok := v.pools[key]; ok {
		if p.classes == 0 {
			v.idle = slices.DeleteFunc(v.idle, func(o *pool) bool { return o == p })
		}
		return p
	}
	p := &pool{key: key, need: d}
	v.pools[key] = p
	if anchor, ok := d.anchor(); ok {
		p.anchor = anchor
		v.anchored[anchor] = append(v.anchored[anchor], p)
	} else {
		v.open = append(v.open, p)
	}
	for _, n := range v.nodes {
		if n != nil && n.object != nil && d.suits(n.object) {
			p.set(n, true)
		}
	}
	return p
}

// release tells that a class of p has no more tasks.
func (v *view) release(p *pool) {
	if p.classes--; p.classes > 0 {
		return
	}
	v.idle = append(v.idle, p)
	if len(v.idle) > idlePools {
		v.forget(v.idle[0])
		v.idle = slices.Delete(v.idle, 0, 1)
	}
}

func (v *view) forget(p *pool) {
	isP := func(o *pool) bool { return o == p }
	for _, n := range v.nodes {
		if n != nil && p.has(n) {
			p.set(n, false)
		}
	}
	delete(v.pools, p.key)
	v.open = slices.DeleteFunc(v.open, isP)
	if p.anchor != "" {
		if v.anchored[p.anchor] = slices.DeleteFunc(v.anchored[p.anchor], isP); len(v.anchored[p.anchor]) == 0 {
			delete(v.anchored, p.anchor)
		}
	}
	v.boards = slices.DeleteFunc(v.boards, func(b *board) bool { return b.pool == p })
}

// rejoin puts n into the pools that it now suits, and out of the others. Only
// pools are asked that have a chance: an anchored one when n has its anchor.
func (v *view) rejoin(n *node) {
	for _, p := range slices.Clone(n.pools) {
		if n.object == nil || !p.need.suits(n.object) {
			p.set(n, false)
		}
	}
	if n.object == nil {
		return
	}
	join := func(p *pool) {
		if !p.has(n) && p.need.suits(n.object) {
			p.set(n, true)
		}
	}
	for _, p := range v.open {
		join(p)
	}
	if len(v.anchored) > 0 {
		model.Anchors(n.object, func(anchor string) {
			for _, p := range v.anchored[anchor] {
				join(p)
			}
		})
	}
}
