package store

import (
	"slices"
	"sync"

	"skep/api"
)

// Key names what a subscription is about.
type Key struct {
	scope scope
	kind  Kind
	id    string
}

type scope uint8

const (
	scopeAll scope = iota
	scopeKind
	scopeObject
	scopeNodeTasks
	scopeServiceTasks
)

// AllKey is about every object.
func AllKey() Key { return Key{scope: scopeAll} }

// KindKey is about every object of a kind.
func KindKey(k Kind) Key { return Key{scope: scopeKind, kind: k} }

// ObjectKey is about one object.
func ObjectKey(k Kind, id string) Key { return Key{scope: scopeObject, kind: k, id: id} }

// NodeTasks is about the tasks of a node, those that leave it too.
func NodeTasks(nodeID string) Key { return Key{scope: scopeNodeTasks, id: nodeID} }

// ServiceTasks is about the tasks of a service.
func ServiceTasks(serviceID string) Key { return Key{scope: scopeServiceTasks, id: serviceID} }

// keysOf calls f with every key that the change concerns.
func keysOf(c Change, f func(Key)) {
	f(AllKey())
	f(KindKey(c.Kind))
	f(ObjectKey(c.Kind, c.ID()))
	if c.Kind != KindTask {
		return
	}
	was, _ := c.Old.(*api.Task)
	is, _ := c.New.(*api.Task)
	if n := was.GetNodeId(); n != "" {
		f(NodeTasks(n))
	}
	if n := is.GetNodeId(); n != "" && n != was.GetNodeId() {
		f(NodeTasks(n))
	}
	if v := was.GetServiceId(); v != "" {
		f(ServiceTasks(v))
	}
	if v := is.GetServiceId(); v != "" && v != was.GetServiceId() {
		f(ServiceTasks(v))
	}
}

// Subscription is a bounded queue of the commits that concern its keys. One
// goroutine takes from it.
type Subscription struct {
	store *Store
	keys  []Key
	limit int
	ready chan struct{}
	seen  uint64 // the last change offered; guarded by the store's lock

	mu      sync.Mutex
	queue   []Commit
	queued  int  // changes in queue
	behind  bool // it overflowed, or the state was replaced
	stopped bool
}

// Subscribe returns the committed head and a subscription to what changes after
// it, without a gap. At most limit changes wait in it: one that falls further
// behind is told to resync.
func (s *Store) Subscribe(limit int, keys ...Key) (*Snapshot, *Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed.Load(), s.subscribe(limit, keys)
}

func (s *Store) subscribe(limit int, keys []Key) *Subscription {
	keys = slices.Compact(slices.SortedFunc(slices.Values(keys), compareKeys))
	sub := &Subscription{store: s, keys: keys, limit: limit, ready: make(chan struct{}, 1)}
	s.feed.add(sub)
	return sub
}

func compareKeys(a, b Key) int {
	switch {
	case a.scope != b.scope:
		return int(a.scope) - int(b.scope)
	case a.kind != b.kind:
		return int(a.kind) - int(b.kind)
	case a.id < b.id:
		return -1
	case a.id > b.id:
		return 1
	}
	return 0
}

// Ready is readable when Take has something to say.
func (sub *Subscription) Ready() <-chan struct{} { return sub.ready }

// Take returns the commits since the last call, each with those of its changes
// that concern the subscription. With resync it has lost some: the caller starts
// again from Resync, before which nothing more arrives.
func (sub *Subscription) Take() (commits []Commit, resync bool) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	commits, sub.queue, sub.queued = sub.queue, nil, 0
	return commits, sub.behind
}

// Resync returns the committed head; changes after it arrive again, without a gap.
func (sub *Subscription) Resync() *Snapshot {
	sub.store.mu.Lock()
	defer sub.store.mu.Unlock()
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.queue, sub.queued, sub.behind = nil, 0, false
	return sub.store.committed.Load()
}

// Close ends the subscription and frees what waits in it.
func (sub *Subscription) Close() {
	sub.store.mu.Lock()
	defer sub.store.mu.Unlock()
	sub.store.feed.remove(sub)
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.queue, sub.queued, sub.stopped = nil, 0, true
}

// offer queues change i of c. It reports false when that made the queue overflow.
func (sub *Subscription) offer(c *Commit, i int) bool {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	switch {
	case sub.behind || sub.stopped:
		return true
	case sub.queued >= sub.limit:
		sub.queue, sub.queued, sub.behind = nil, 0, true
		sub.wake()
		return false
	}
	sub.push(c, i)
	sub.wake()
	return true
}

func (sub *Subscription) push(c *Commit, i int) {
	sub.queued++
	last := len(sub.queue) - 1
	if last < 0 || sub.queue[last].Index != c.Index {
		sub.queue = append(sub.queue, Commit{c.Version, c.Index, c.Changes[i : i+1 : i+1]})
		return
	}
	// A run of neighbours is a window on the commit's own list; anything else is copied.
	q := &sub.queue[last]
	if n := len(q.Changes); n <= i && &q.Changes[0] == &c.Changes[i-n] {
		q.Changes = c.Changes[i-n : i+1 : i+1]
	} else {
		q.Changes = append(q.Changes, c.Changes[i])
	}
}

// lose tells the subscriber to resync.
func (sub *Subscription) lose() {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.queue, sub.queued, sub.behind = nil, 0, true
	sub.wake()
}

func (sub *Subscription) wake() {
	select {
	case sub.ready <- struct{}{}:
	default:
	}
}
