package store

import (
	"iter"

	"github.com/cespare/xxhash/v2"

	"skep/api"
	"skep/store/hamt"
)

// Snapshot is one state of the cluster. It never changes, and neither do the
// objects in it: whoever wants another state copies the level that differs
// (model.Shallow) and writes that in a transaction.
type Snapshot struct {
	Nodes      Table[*api.Node]
	Services   Table[*api.Service]
	Tasks      Table[*api.Task]
	Networks   Table[*api.Network]
	Clusters   Table[*api.Cluster]
	Secrets    Table[*api.Secret]
	Configs    Table[*api.Config]
	Volumes    Table[*api.Volume]
	Extensions Table[*api.Extension]
	Resources  Table[*api.Resource]

	byService, byNode  index[string] // tasks
	bySlot             index[slot]   // tasks
	bySecret, byConfig index[string] // services

	version uint64
	edit    *hamt.Edit // set while this is the working state of a transaction
}

func empty() *Snapshot {
	return &Snapshot{
		Nodes:      newTable[*api.Node](),
		Services:   newTable[*api.Service](),
		Tasks:      newTable[*api.Task](),
		Networks:   newTable[*api.Network](),
		Clusters:   newTable[*api.Cluster](),
		Secrets:    newTable[*api.Secret](),
		Configs:    newTable[*api.Config](),
		Volumes:    newTable[*api.Volume](),
		Extensions: newTable[*api.Extension](),
		Resources:  newTable[*api.Resource](),
		byService:  newIndex[string](xxhash.Sum64String),
		byNode:     newIndex[string](xxhash.Sum64String),
		bySlot:     newIndex(hashSlot),
		bySecret:   newIndex[string](xxhash.Sum64String),
		byConfig:   newIndex[string](xxhash.Sum64String),
	}
}

// Version returns the version of the last transaction in this state.
func (s *Snapshot) Version() uint64 { return s.version }

// TasksOf yields the tasks of a service.
func (s *Snapshot) TasksOf(serviceID string) iter.Seq[*api.Task] {
	return lookUp(s, &s.byService, serviceID, &s.Tasks)
}

// TasksInSlot yields the tasks, live and past, of one slot of a service.
func (s *Snapshot) TasksInSlot(serviceID string, number uint64) iter.Seq[*api.Task] {
	return lookUp(s, &s.bySlot, slot{serviceID, number}, &s.Tasks)
}

// TasksOn yields the tasks that are assigned to a node.
func (s *Snapshot) TasksOn(nodeID string) iter.Seq[*api.Task] {
	return lookUp(s, &s.byNode, nodeID, &s.Tasks)
}

// ServicesUsingSecret yields the services whose spec refers to a secret.
func (s *Snapshot) ServicesUsingSecret(id string) iter.Seq[*api.Service] {
	return lookUp(s, &s.bySecret, id, &s.Services)
}

// ServicesUsingConfig yields the services whose spec refers to a config.
func (s *Snapshot) ServicesUsingConfig(id string) iter.Seq[*api.Service] {
	return lookUp(s, &s.byConfig, id, &s.Services)
}

func lookUp[K comparable, T Object](s *Snapshot, x *index[K], k K, t *Table[T]) iter.Seq[T] {
	return func(yield func(T) bool) {
		s.edit.Share()
		set, _ := x.sets.Get(k)
		objects := t.objects
		for id := range set.all() {
			if o, ok := objects.Get(id); ok && !yield(o) {
				return
			}
		}
	}
}

// Get returns the object of T's kind with the given ID.
func Get[T Object](s *Snapshot, id string) (T, bool) {
	var none T
	if t := s.table(KindOf(none)); t != nil {
		if o := t.get(id); o != nil {
			return o.(T), true
		}
	}
	return none, false
}

func (s *Snapshot) table(kind Kind) table {
	switch kind {
	case KindNode:
		return &s.Nodes
	case KindService:
		return &s.Services
	case KindTask:
		return &s.Tasks
	case KindNetwork:
		return &s.Networks
	case KindCluster:
		return &s.Clusters
	case KindSecret:
		return &s.Secrets
	case KindConfig:
		return &s.Configs
	case KindVolume:
		return &s.Volumes
	case KindExtension:
		return &s.Extensions
	case KindResource:
		return &s.Resources
	}
	return nil
}

// tables yields all of them in the order of their kinds.
func (s *Snapshot) tables() iter.Seq2[Kind, table] {
	return func(yield func(Kind, table) bool) {
		for k := KindNode; k <= KindResource; k++ {
			if !yield(k, s.table(k)) {
				return
			}
		}
	}
}

// begin returns a working copy that may be written until it is sealed.
func (s *Snapshot) begin() *Snapshot {
	next := *s
	next.allow(new(hamt.Edit))
	return &next
}

// seal ends the writing: from here on the snapshot is as immutable as any.
func (s *Snapshot) seal() { s.allow(nil) }

func (s *Snapshot) allow(e *hamt.Edit) {
	s.edit = e
	for _, t := range s.tables() {
		t.writable(e)
	}
}

// replace puts new in old's place, in the table and in the look-ups.
// Either may be nil, not both.
func (s *Snapshot) replace(kind Kind, old, new Object) {
	s.table(kind).replace(s.edit, old, new)
	switch kind {
	case KindTask:
		was, _ := old.(*api.Task)
		is, _ := new.(*api.Task)
		s.moveTask(s.edit, was, is)
	case KindService:
		was, _ := old.(*api.Service)
		is, _ := new.(*api.Service)
		s.moveService(s.edit, was, is)
	}
}
