package orchestrator

import (
	"maps"
	"slices"

	"skep/api"
	"skep/store"
)

// view knows which slots each service has, so that neither a count nor the next
// free number costs more than what changes.
type view struct{ services map[string]*slots }

// slots are the slots of one service, in blocks: numbers are dense in practice
// and must not be able to cost memory when they are not.
type slots struct {
	blocks map[uint64]*[blockSize]count
	tasks  int
	filled uint64 // members other than slot 0, which replicated services have not
	free   uint64 // no number from 1 to below it is free
}

// count is what one slot holds.
type count struct {
	members int32 // tasks that are not to be removed
	all     int32
}

const blockSize = 64

// Build implements store.View.
func (v *view) Build(s *store.Snapshot) {
	v.services = map[string]*slots{}
	for t := range s.Tasks.All() {
		v.add(t, 1)
	}
}

// Apply implements store.View.
func (v *view) Apply(c store.Change) {
	was, _ := c.Old.(*api.Task)
	is, _ := c.New.(*api.Task)
	if was != nil && is != nil && member(was) == member(is) && was.GetServiceId() == is.GetServiceId() && was.GetSlot() == is.GetSlot() {
		return
	}
	if was != nil {
		v.add(was, -1)
	}
	if is != nil {
		v.add(is, 1)
	}
}

func (v *view) add(t *api.Task, sign int32) {
	id := t.GetServiceId()
	if id == "" {
		return
	}
	s, ok := v.services[id]
	if !ok {
		s = &slots{blocks: map[uint64]*[blockSize]count{}, free: 1}
		v.services[id] = s
	}
	if s.add(t.GetSlot(), sign, member(t)); s.tasks == 0 {
		delete(v.services, id)
	}
}

// of returns the slots of a service, nil if it has none.
func (v *view) of(service string) *slots { return v.services[service] }

func (s *slots) add(slot uint64, sign int32, member bool) {
	s.tasks += int(sign)
	block, ok := s.blocks[slot/blockSize]
	if !ok {
		block = new([blockSize]count)
		s.blocks[slot/blockSize] = block
	}
	c := &block[slot%blockSize]
	c.all += sign
	if member {
		before := c.members
		c.members += sign
		switch {
		case slot == 0:
		case before == 0:
			s.filled++
		case c.members == 0:
			s.filled--
			s.free = min(s.free, slot)
		}
	}
	if *block == ([blockSize]count{}) {
		delete(s.blocks, slot/blockSize)
	}
}

// count returns what a slot holds.
func (s *slots) count(slot uint64) count {
	if s == nil || s.blocks[slot/blockSize] == nil {
		return count{}
	}
	return s.blocks[slot/blockSize][slot%blockSize]
}

// size returns how many slots from 1 on are members.
func (s *slots) size() uint64 {
	if s == nil {
		return 0
	}
	return s.filled
}

// missing returns the lowest number from 1 on that is no member.
func (s *slots) missing() uint64 {
	if s == nil {
		return 1
	}
	for s.count(s.free).members > 0 {
		s.free++
	}
	return s.free
}

// members returns the numbers of all members, ascending.
func (s *slots) members() []uint64 {
	if s == nil {
		return nil
	}
	var numbers []uint64
	for _, b := range slices.Sorted(maps.Keys(s.blocks)) {
		for i, c := range s.blocks[b] {
			if c.members > 0 {
				numbers = append(numbers, b*blockSize+uint64(i))
			}
		}
	}
	return numbers
}
