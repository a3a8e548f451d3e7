package store

import (
	"iter"

	"github.com/cespare/xxhash/v2"

	"skep/api"
	"skep/store/hamt"
)

// index maps a key to the IDs of the objects that have it.
type index[K comparable] struct {
	sets hamt.Map[K, ids]
}

// ids is a set of IDs: most often of one, as that of the tasks in a slot.
type ids struct {
	one  string // "" if there is none, or many
	many *hamt.Map[string, struct{}]
}

func (s ids) with(e *hamt.Edit, id string) ids {
	switch {
	case s.many != nil:
		many := s.many.Set(e, id, struct{}{})
		return ids{many: &many}
	case s.one == "" || s.one == id:
		return ids{one: id}
	}
	many := hamt.New[string, struct{}](xxhash.Sum64String).Set(e, s.one, struct{}{}).Set(e, id, struct{}{})
	return ids{many: &many}
}

func (s ids) without(e *hamt.Edit, id string) ids {
	if s.many == nil {
		if s.one == id {
			return ids{}
		}
		return s
	}
	many := s.many.Delete(e, id)
	if many.Len() == 1 {
		for id := range many.All() {
			return ids{one: id}
		}
	}
	return ids{many: &many}
}

// all yields them, in an order that depends on them only.
func (s ids) all() iter.Seq[string] {
	return func(yield func(string) bool) {
		if s.many == nil {
			_ = s.one == "" || yield(s.one)
			return
		}
		for id := range s.many.All() {
			if !yield(id) {
				return
			}
		}
	}
}

func newIndex[K comparable](hash func(K) uint64) index[K] {
	return index[K]{hamt.New[K, ids](hash)}
}

// collect returns the index of many objects, which costs a fraction of adding each.
func collect[K comparable, T Object](hash func(K) uint64, objects []T, key func(T) K) index[K] {
	var none K
	found := map[K][]string{}
	for _, o := range objects {
		if k := key(o); k != none {
			found[k] = append(found[k], o.GetId())
		}
	}
	return index[K]{hamt.Collect(hash, len(found), func(yield func(K, ids) bool) {
		for k, members := range found {
			if !yield(k, idsOf(members)) {
				return
			}
		}
	})}
}

func idsOf(members []string) ids {
	if len(members) == 1 {
		return ids{one: members[0]}
	}
	many := hamt.Collect(xxhash.Sum64String, len(members), func(yield func(string, struct{}) bool) {
		for _, id := range members {
			if !yield(id, struct{}{}) {
				return
			}
		}
	})
	return ids{many: &many}
}

func (x *index[K]) add(e *hamt.Edit, k K, id string) {
	set, _ := x.sets.Get(k)
	x.sets = x.sets.Set(e, k, set.with(e, id))
}

func (x *index[K]) drop(e *hamt.Edit, k K, id string) {
	set, ok := x.sets.Get(k)
	if !ok {
		return
	}
	if set = set.without(e, id); set == (ids{}) {
		x.sets = x.sets.Delete(e, k)
		return
	}
	x.sets = x.sets.Set(e, k, set)
}

// slot is a place of a replicated service.
type slot struct {
	service string
	number  uint64
}

func slotOf(t *api.Task) slot { return slot{t.GetServiceId(), t.GetSlot()} }

func hashSlot(s slot) uint64 {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: spreads neighbours
	h := (xxhash.Sum64String(s.service) ^ s.number) * odd
	return h ^ h>>32
}

// moveTask keeps the look-ups of tasks; a status or a desired state moves nothing.
func (s *Snapshot) moveTask(e *hamt.Edit, old, new *api.Task) {
	move(e, &s.byService, old, new, (*api.Task).GetServiceId)
	move(e, &s.byNode, old, new, (*api.Task).GetNodeId)
	move(e, &s.bySlot, old, new, slotOf)
}

func move[K comparable](e *hamt.Edit, x *index[K], old, new *api.Task, key func(*api.Task) K) {
	var none K
	was, is := key(old), key(new)
	if old != nil && new != nil && was == is {
		return
	}
	if was != none {
		x.drop(e, was, old.GetId())
	}
	if is != none {
		x.add(e, is, new.GetId())
	}
}

// moveService keeps the look-ups of services by what their tasks need.
func (s *Snapshot) moveService(e *hamt.Edit, old, new *api.Service) {
	if old.GetSpec() == new.GetSpec() {
		return
	}
	for kind, id := range references(old.GetSpec().GetTask()) {
		s.references(kind).drop(e, id, old.GetId())
	}
	for kind, id := range references(new.GetSpec().GetTask()) {
		s.references(kind).add(e, id, new.GetId())
	}
}

func (s *Snapshot) references(kind Kind) *index[string] {
	if kind == KindSecret {
		return &s.bySecret
	}
	return &s.byConfig
}

// references yields the secrets and configs that tasks of this spec need.
func references(spec *api.TaskSpec) func(yield func(Kind, string) bool) {
	return func(yield func(Kind, string) bool) {
		for _, r := range spec.GetContainer().GetSecrets() {
			if !yield(KindSecret, r.GetSecretId()) {
				return
			}
		}
		for _, r := range spec.GetContainer().GetConfigs() {
			if !yield(KindConfig, r.GetConfigId()) {
				return
			}
		}
		for _, r := range spec.GetResourceReferences() {
			switch r.GetResourceType() {
			case api.ResourceType_SECRET:
				if !yield(KindSecret, r.GetResourceId()) {
					return
				}
			case api.ResourceType_CONFIG:
				if !yield(KindConfig, r.GetResourceId()) {
					return
				}
			}
		}
	}
}
