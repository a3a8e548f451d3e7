package dispatch

import "time"

const (
	// resolution is the width of one slot of the wheel: how late an expired node
	// may be noticed.
	resolution = 100 * time.Millisecond
	// slots times resolution is the horizon. A later deadline waits in the last
	// slot and is looked at again there.
	slots = 512
	// stalled is how late a step may come before the wheel concludes that this
	// process, not the nodes, was away.
	stalled = time.Second
)

// Liveness watches over the deadlines of many nodes. The zero value is ready.
//
// A deadline is only noted when it moves: a node stays in the slot it was put
// in, and is moved to the right one when that slot is due. So a beat writes one
// word, and a node is moved once for each grace period, not once for each beat.
//
// Time in which this process did not run does not count against the nodes, since
// their beats were missed too: when a step is more than a second late (the
// process was stopped, the machine suspended), every deadline moves by the time
// in which neither a step nor a beat was seen.
type Liveness struct {
	nodes map[string]*watched
	wheel [slots]watched // list heads
	// Slot times count resolutions since epoch, which stalls move: at is how far
	// the wheel has turned, due the first slot that may hold a node.
	at, due int64
	epoch   time.Time
	// seen is when Beat or Step was last called.
	seen time.Time
}

// watched is one node, in the ring of its slot.
type watched struct {
	id         string
	deadline   time.Duration // since epoch
	slot       int64
	prev, next *watched
}

// Beat notes that node is alive and will be until grace from now. A node that
// was not watched is from now on.
func (l *Liveness) Beat(node string, now time.Time, grace time.Duration) {
	l.see(now)
	w := l.nodes[node]
	if w == nil {
		w = &watched{id: node}
		l.nodes[node] = w
	}
	w.deadline = now.Sub(l.epoch) + grace
	// A later deadline is found when the slot is due; only an earlier one cannot wait.
	if w.next == nil || slotOf(w.deadline) < w.slot {
		l.place(w)
	}
}

// Forget stops watching node.
func (l *Liveness) Forget(node string) {
	if w := l.nodes[node]; w != nil {
		w.unlink()
		delete(l.nodes, node)
	}
}

// Len returns how many nodes are watched.
func (l *Liveness) Len() int { return len(l.nodes) }

// Next returns when the next Step is due, zero when nothing is watched. Between
// two steps only a Beat makes it earlier: the first, or one with a shorter grace.
func (l *Liveness) Next() time.Time {
	if len(l.nodes) == 0 {
		return time.Time{}
	}
	return l.epoch.Add(time.Duration(l.due) * resolution)
}

// Step turns the wheel to now and returns the nodes whose deadline has passed.
// They are watched no longer.
func (l *Liveness) Step(now time.Time) []string {
	l.see(now)
	elapsed := now.Sub(l.epoch)
	var expired []string
	last := int64(elapsed / resolution)
	for l.at = max(l.at, last-slots); l.at < last; { // one turn looks at every slot
		l.at++
		head := &l.wheel[l.at%slots]
		for w := head.next; w != head; {
			following := w.next
			w.unlink()
			if w.deadline > elapsed {
				l.place(w)
			} else {
				delete(l.nodes, w.id)
				expired = append(expired, w.id)
			}
			w = following
		}
	}
	for l.due = l.at + 1; l.due < l.at+slots; l.due++ {
		if head := &l.wheel[l.due%slots]; head.next != head {
			break
		}
	}
	return expired
}

// see notes that this process runs at now, and forgives the nodes a time in
// which it did not.
func (l *Liveness) see(now time.Time) {
	switch {
	case l.nodes == nil:
		l.nodes = make(map[string]*watched)
		l.epoch, l.due = now, slots
		for i := range l.wheel {
			l.wheel[i].next, l.wheel[i].prev = &l.wheel[i], &l.wheel[i]
		}
	case len(l.nodes) == 0: // nobody turned it
		l.at = int64(now.Sub(l.epoch) / resolution)
		l.due = l.at + slots
	case now.Sub(l.Next()) > stalled:
		l.epoch = l.epoch.Add(now.Sub(l.seen))
	}
	l.seen = now
}

// slotOf returns the first slot time at which deadline has passed.
func slotOf(deadline time.Duration) int64 {
	return int64((deadline + resolution - 1) / resolution)
}

// place puts w into the slot of its deadline, within the horizon.
func (l *Liveness) place(w *watched) {
	w.unlink()
	w.slot = min(max(slotOf(w.deadline), l.at+1), l.at+slots-1)
	head := &l.wheel[w.slot%slots]
	w.prev, w.next = head.prev, head
	w.prev.next, head.prev = w, w
	l.due = min(l.due, w.slot)
}

func (w *watched) unlink() {
	if w.next != nil {
		w.prev.next, w.next.prev = w.next, w.prev
		w.prev, w.next = nil, nil
	}
}
