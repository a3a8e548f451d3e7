package store

import (
	"slices"

	"skep/model"
)

// feed gives the committed changes to subscribers, by key, and keeps the last
// ones for those who resume. The store's lock guards it.
type feed struct {
	subscribers map[Key][]*Subscription
	offered     uint64 // changes offered so far
	resyncs     int    // subscriptions that overflowed so far

	past       []past // the last commits, oldest first
	pastBytes  int
	maxEntries int
	maxBytes   int
	floor      uint64 // everything after this index is in past
	floorKnown bool   // false after the state was replaced, until an index is known
}

type past struct {
	Commit
	size int
}

func newFeed(entries, bytes int) feed {
	return feed{
		subscribers: map[Key][]*Subscription{},
		maxEntries:  entries, maxBytes: bytes,
		floorKnown: true,
	}
}

func (f *feed) add(sub *Subscription) {
	for _, k := range sub.keys {
		f.subscribers[k] = append(f.subscribers[k], sub)
	}
}

func (f *feed) remove(sub *Subscription) {
	for _, k := range sub.keys {
		subs := slices.DeleteFunc(f.subscribers[k], func(x *Subscription) bool { return x == sub })
		if len(subs) == 0 {
			delete(f.subscribers, k)
			continue
		}
		f.subscribers[k] = subs
	}
}

// publish offers every change to those it concerns, once each.
func (f *feed) publish(c Commit, size int) {
	if !f.floorKnown {
		f.floor, f.floorKnown = c.Index-1, true
	}
	f.past = append(f.past, past{c, size})
	f.pastBytes += size
	for len(f.past) > f.maxEntries || f.pastBytes > f.maxBytes {
		f.floor = f.past[0].Index
		f.pastBytes -= f.past[0].size
		f.past[0] = past{}
		f.past = f.past[1:]
	}
	for i := range c.Changes {
		f.offered++
		keysOf(c.Changes[i], func(k Key) {
			for _, sub := range f.subscribers[k] {
				if sub.seen != f.offered {
					sub.seen = f.offered
					if !sub.offer(&c, i) {
						f.resyncs++
					}
				}
			}
		})
	}
}

// replaced tells that the state became another one: there is no way from what
// anybody has to it.
func (f *feed) replaced() {
	f.past, f.pastBytes = nil, 0
	f.floorKnown = false
	for _, subs := range f.subscribers {
		for _, sub := range subs {
			sub.lose()
		}
	}
}

// reached tells the index that the state has.
func (f *feed) reached(index uint64) {
	if !f.floorKnown {
		f.floor, f.floorKnown = index, true
	}
}

// since returns the commits after version, which may be an entry's index or a
// transaction's version: a version is never above its entry's index, so what
// comes after the index is at least what comes after the version.
func (f *feed) since(version uint64) ([]past, error) {
	if !f.floorKnown || version < f.floor {
		return nil, model.Errorf(model.Precondition,
			"version %d is compacted: the oldest that can be resumed from is %d; list again and watch from there", version, f.floor)
	}
	i, _ := slices.BinarySearchFunc(f.past, version, func(p past, v uint64) int {
		if p.Index <= v {
			return -1
		}
		return 1
	})
	return f.past[i:], nil
}

// Since returns what happened after version, which is an entry's index or a
// transaction's version, and a subscription to what follows, without a gap. The
// commits have only the changes that concern the keys. If that reaches back
// further than is kept, the error is of kind Precondition, and the caller has to
// list again.
func (s *Store) Since(version uint64, limit int, keys ...Key) ([]Commit, *Subscription, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version > s.applied {
		return nil, nil, model.Errorf(model.Unavailable,
			"version %d is newer than this manager's state, which is at %d; try again", version, s.applied)
	}
	after, err := s.feed.since(version)
	if err != nil {
		return nil, nil, err
	}
	sub := s.subscribe(limit, keys)
	var commits []Commit
	for _, p := range after {
		if c, ok := sub.concerned(p.Commit); ok {
			commits = append(commits, c)
		}
	}
	return commits, sub, nil
}

// concerned returns the part of c that the subscription's keys ask for.
func (sub *Subscription) concerned(c Commit) (Commit, bool) {
	var changes []Change
	for _, ch := range c.Changes {
		hit := false
		keysOf(ch, func(k Key) { hit = hit || slices.Contains(sub.keys, k) })
		if hit {
			changes = append(changes, ch)
		}
	}
	c.Changes = changes
	return c, len(changes) > 0
}
