package store

import (
	"github.com/cespare/xxhash/v2"

	"skep/api"
	"skep/store/hamt"
)

// index maps a key to the IDs of the objects that have it.
type index[K comparable] struct {
	sets hamt.Map[K, ids]
}

type ids = hamt.Map[string, struct{}]

func newIndex[K comparable](hash func(K) uint64) index[K] {
	return index[K]{hamt.New[K, ids](hash)}
}

func (x *index[K]) add(e *hamt.Edit, k K, id string) {
	set, ok := x.sets.Get(k)
	if !ok {
		set = hamt.New[string, struct{}](xxhash.Sum64String)
	}
	x.sets = x.sets.Set(e, k, set.Set(e, id, struct{}{}))
}

func (x *index[K]) drop(e *hamt.Edit, k K, id string) {
	set, ok := x.sets.Get(k)
	if !ok {
		return
	}
	if set = set.Delete(e, id); set.Len() == 0 {
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

func hashSlot(s slot) uint64 {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: spreads neighbours
	h := (xxhash.Sum64String(s.service) ^ s.number) * odd
	return h ^ h>>32
}

// moveTask keeps the look-ups of tasks; a status or a desired state moves nothing.
func (s *Snapshot) moveTask(e *hamt.Edit, old, new *api.Task) {
	move(e, &s.byService, old, new, (*api.Task).GetServiceId)
	move(e, &s.byNode, old, new, (*api.Task).GetNodeId)
	move(e, &s.bySlot, old, new, func(t *api.Task) slot { return slot{t.GetServiceId(), t.GetSlot()} })
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
