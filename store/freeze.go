package store

import (
	"fmt"
	"hash/fnv"
	"sync"

	"google.golang.org/protobuf/proto"
)

// frozen knows what each stored object looked like when it was stored. A nil
// *frozen knows nothing and checks nothing.
type frozen struct {
	mu     sync.Mutex
	hashes map[Object]uint64
}

func newFrozen(on bool) *frozen {
	if !on {
		return nil
	}
	return &frozen{hashes: map[Object]uint64{}}
}

// took checks what a transaction replaced and remembers what it wrote.
func (f *frozen) took(changes []Change) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range changes {
		if c.Old != nil {
			f.check(c.Old)
		}
		if c.New != nil {
			f.hashes[c.New] = hashOf(c.New)
		}
	}
}

// check panics if o is not what it was. It knows nothing of objects that were
// stored before the state was replaced.
func (f *frozen) check(o Object) {
	if want, ok := f.hashes[o]; ok && want != hashOf(o) {
		panic(fmt.Sprintf("store: %s %s was changed after it was stored: copy what you change", KindOf(o), o.GetId()))
	}
}

func hashOf(o Object) uint64 {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("store: %s %s cannot be encoded: %v", KindOf(o), o.GetId(), err))
	}
	h := fnv.New64a()
	h.Write(data)
	return h.Sum64()
}

// CheckFrozen panics with the ID of an object that was changed after it was
// stored. Without Config.Freeze it does nothing.
func (s *Store) CheckFrozen() {
	if s.frozen == nil {
		return
	}
	head := s.Proposed()
	s.frozen.mu.Lock()
	defer s.frozen.mu.Unlock()
	for _, t := range head.tables() {
		for o := range t.all() {
			s.frozen.check(o)
		}
	}
}
