package scheduler

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// board keeps nodes in the order in which they are taken: a heap that knows where
// each node is. With a need it holds the nodes that a group fits on, in the
// group's order; without one all of its pool, in the order of load alone.
type board struct {
	pool    *pool
	need    *need
	group   groupKey
	entries []entry
	at      []int32 // by index of the node: its entry + 1, 0 if it has none
	flagged []*node // that had failures when last looked at
}

// entry is a node with what orders it, side by side in memory.
type entry struct {
	load  uint64 // failures that count, tasks of the service, tasks in all
	cpu   int64  // free
	mem   int64
	id    uint64 // the beginning of the node's ID
	index int32
}

const (
	poolBoards  = 4  // kept at once, of pools
	groupBoards = 4  // and of groups
	scanLimit   = 32 // nodes looked at before a board is made for a group

	arity = 4 // children of an entry: few levels, and siblings side by side

	loadBits     = 28
	mostLoad     = 1<<loadBits - 1
	mostFailures = 1<<(64-2*loadBits) - 1
)

func (v *view) entryOf(b *board, n *node) entry {
	e := entry{cpu: n.freeCPU(), mem: n.freeMem(), id: prefix(n.id), index: int32(n.index)}
	e.load = uint64(min(n.active, mostLoad))
	if b.need != nil {
		e.load |= uint64(min(v.services[b.group.service].on(n), mostLoad)) << loadBits
		if f := v.faults.count(b.group, n.id, v.now); f >= manyFailures {
			e.load |= uint64(min(f, mostFailures)) << (2 * loadBits)
		}
	}
	return e
}

// prefix returns the first bytes of an ID, which order as the ID does.
func prefix(id string) uint64 {
	var b [8]byte
	copy(b[:], id)
	return binary.BigEndian.Uint64(b[:])
}

func (v *view) compare(a, b *entry) int {
	switch {
	case a.load != b.load:
		return cmp.Compare(a.load, b.load)
	case a.cpu != b.cpu:
		return cmp.Compare(b.cpu, a.cpu)
	case a.mem != b.mem:
		return cmp.Compare(b.mem, a.mem)
	case a.id != b.id:
		return cmp.Compare(a.id, b.id)
	}
	return strings.Compare(v.nodes[a.index].id, v.nodes[b.index].id)
}

// board returns the board of a group, or of a pool if d is nil, making it if
// there is none. The one that was used least recently makes room.
func (v *view) board(p *pool, d *need, g groupKey) *board {
	if b := v.kept(p, d, g); b != nil {
		return b
	}
	v.makeRoom(d == nil)
	b := &board{pool: p, need: d, group: g, at: make([]int32, len(v.nodes))}
	b.entries = make([]entry, 0, p.size)
	for _, n := range v.nodes {
		if n != nil && v.belongs(b, n) {
			b.at[n.index] = int32(len(b.entries)) + 1
			b.entries = append(b.entries, v.entryOf(b, n))
			b.flag(v, n)
		}
	}
	for i := (len(b.entries) - 2) / arity; i >= 0; i-- {
		b.down(v, i)
	}
	v.boards = append(v.boards, b)
	return b
}

// makeRoom drops the board of a pool, or of a group, that was used least recently,
// if there are as many as are kept.
func (v *view) makeRoom(ofPool bool) {
	most := groupBoards
	if ofPool {
		most = poolBoards
	}
	oldest := -1
	for i, b := range v.boards {
		if (b.need == nil) == ofPool {
			if most--; oldest < 0 {
				oldest = i
			}
		}
	}
	if most <= 0 {
		v.boards = slices.Delete(v.boards, oldest, oldest+1)
	}
}

// kept returns a board if there is one, and keeps it for longer.
func (v *view) kept(p *pool, d *need, g groupKey) *board {
	for i, b := range v.boards {
		if b.pool == p && b.need == d && b.group == g {
			copy(v.boards[i:], v.boards[i+1:])
			v.boards[len(v.boards)-1] = b
			return b
		}
	}
	return nil
}

// belongs reports whether a board is to hold n.
func (v *view) belongs(b *board, n *node) bool {
	return b.pool.has(n) && (b.need == nil || v.fits(b.need, n))
}

// fix brings n to its place, or in or out.
func (b *board) fix(v *view, n *node) {
	for len(b.at) <= n.index {
		b.at = append(b.at, 0)
	}
	i := int(b.at[n.index]) - 1
	switch belongs := v.belongs(b, n); {
	case belongs && i < 0:
		b.entries = append(b.entries, v.entryOf(b, n))
		b.at[n.index] = int32(len(b.entries))
		b.up(v, len(b.entries)-1)
		b.flag(v, n)
	case belongs:
		b.entries[i] = v.entryOf(b, n)
		b.down(v, b.up(v, i))
	case i >= 0:
		last := len(b.entries) - 1
		b.swap(i, last)
		b.entries = b.entries[:last]
		b.at[n.index] = 0
		if i < last {
			b.down(v, b.up(v, i))
		}
	}
}

// flag remembers a node whose failures will be forgotten.
func (b *board) flag(v *view, n *node) {
	if b.need != nil && v.faults.count(b.group, n.id, v.now) > 0 && !slices.Contains(b.flagged, n) {
		b.flagged = append(b.flagged, n)
	}
}

// first returns the best node, nil if there is none.
func (b *board) first(v *view) *node {
	if len(b.entries) == 0 {
		return nil
	}
	return v.nodes[b.entries[0].index]
}

// scan returns the first node in order that ok accepts, among the first so many.
func (b *board) scan(v *view, most int, ok func(*node) bool) *node {
	if len(b.entries) == 0 {
		return nil
	}
	var buf [arity * scanLimit]int
	frontier := append(buf[:0], 0) // entries whose parents have been looked at
	for range most {
		if len(frontier) == 0 {
			return nil
		}
		best := 0
		for i := range frontier {
			if v.compare(&b.entries[frontier[i]], &b.entries[frontier[best]]) < 0 {
				best = i
			}
		}
		i := frontier[best]
		if n := v.nodes[b.entries[i].index]; ok(n) {
			return n
		}
		frontier[best] = frontier[len(frontier)-1]
		frontier = frontier[:len(frontier)-1]
		for child := arity*i + 1; child <= arity*i+arity && child < len(b.entries); child++ {
			frontier = append(frontier, child)
		}
	}
	return nil
}

func (b *board) swap(i, j int) {
	b.entries[i], b.entries[j] = b.entries[j], b.entries[i]
	b.at[b.entries[i].index], b.at[b.entries[j].index] = int32(i)+1, int32(j)+1
}

func (b *board) up(v *view, i int) int {
	for i > 0 {
		parent := (i - 1) / arity
		if v.compare(&b.entries[i], &b.entries[parent]) >= 0 {
			break
		}
		b.swap(i, parent)
		i = parent
	}
	return i
}

func (b *board) down(v *view, i int) {
	for {
		best := i
		for child := arity*i + 1; child <= arity*i+arity && child < len(b.entries); child++ {
			if v.compare(&b.entries[child], &b.entries[best]) < 0 {
				best = child
			}
		}
		if best == i {
			return
		}
		b.swap(i, best)
		i = best
	}
}
