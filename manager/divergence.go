package manager

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"skep/store"
)

const (
	// digestInterval is how many entries lie between two comparisons of states.
	digestInterval = 256
	// digestsKept bounds how many indexes are compared at a time, and how many states wait.
	digestsKept = 16
	// digestWindow is how far behind and ahead of what is applied here opinions are kept.
	digestWindow = digestsKept * digestInterval
	// digestSlice is how many objects are hashed at a time, digestRest how long nothing is then. The
	// first digest after a start is one of everything, just when agents and clients come back: it
	// takes some seconds longer and delays nobody. Later ones are of some hundred objects.
	digestSlice, digestRest = 250, 10 * time.Millisecond
	// digestPatience is how long the opinion of a third manager is waited for.
	digestPatience = 10 * time.Second
)

// divergence compares what managers hold at the same index of the log, every digestInterval
// entries, and ends the one that is wrong: the one that differs from most of the members, or,
// where there are no most, from the leader. That one's Run returns an error.
type divergence struct {
	self     func() uint64
	members  func() (ids []uint64, leader uint64)
	announce func(index uint64, hash []byte)
	log      *slog.Logger

	mu       sync.Mutex
	captured []captured // states that are to be hashed, the oldest first
	opinions map[uint64]*opinions
	applied  uint64 // the newest state that was reached here
	wake     chan struct{}
}

// captured is the state after entry index.
type captured struct {
	index uint64
	state *store.Snapshot
}

// opinions are what members hold at one index.
type opinions struct {
	of    map[uint64][]byte
	since time.Time // when the first two differed
	said  bool
}

func newDivergence(self func() uint64, members func() ([]uint64, uint64), announce func(uint64, []byte), log *slog.Logger) *divergence {
	return &divergence{
		self: self, members: members, announce: announce, log: log,
		opinions: map[uint64]*opinions{}, wake: make(chan struct{}, 1),
	}
}

// reached takes the state after entry index, one at which states are compared. It does not
// wait: a manager that falls behind leaves some out.
func (d *divergence) reached(index uint64, state *store.Snapshot) {
	d.mu.Lock()
	if len(d.captured) == digestsKept {
		d.captured = d.captured[1:]
	}
	d.captured = append(d.captured, captured{index, state})
	d.applied = max(d.applied, index)
	for i := range d.opinions {
		if !d.near(i) {
			delete(d.opinions, i)
		}
	}
	d.mu.Unlock()
	d.ring()
}

// heard takes what another member holds.
func (d *divergence) heard(from, index uint64, hash []byte) {
	d.mu.Lock()
	d.note(from, index, hash)
	d.mu.Unlock()
	d.ring()
}

func (d *divergence) ring() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// near reports whether an index is not too far from what is applied here to keep opinions of it.
func (d *divergence) near(index uint64) bool {
	if index > d.applied {
		return index-d.applied <= digestWindow
	}
	return d.applied-index < digestWindow
}

// note keeps an opinion, if it is one of an index at which states are compared and near what is
// applied here. What another member says never moves that: no index, however large, drops others.
func (d *divergence) note(from, index uint64, hash []byte) {
	if index%digestInterval != 0 || !d.near(index) {
		return
	}
	o := d.opinions[index]
	if o == nil {
		o = &opinions{of: map[uint64][]byte{}}
		d.opinions[index] = o
	}
	o.of[from] = hash
}

// Run hashes and compares until ctx ends, or until this manager is the one that is wrong.
func (d *divergence) Run(ctx context.Context) error {
	var digest store.Digest
	patience := time.NewTicker(digestPatience / 2)
	defer patience.Stop()
	for {
		select {
		case <-d.wake:
		case <-patience.C:
		case <-ctx.Done():
			return nil
		}
		for {
			c, ok := d.next()
			if !ok {
				break
			}
			if ids, _ := d.members(); len(ids) < 2 {
				continue // with nobody to compare with
			}
			next, err := digest.NextAtEase(c.state, resting(ctx))
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				return err
			}
			digest = next
			hash := digest.Bytes()
			d.announce(c.index, hash)
			d.mu.Lock()
			d.note(d.self(), c.index, hash)
			d.mu.Unlock()
		}
		if err := d.judge(); err != nil {
			return err
		}
	}
}

// resting returns what waits for digestRest at each digestSlice-th call, unless ctx ends.
func resting(ctx context.Context) func() error {
	n := 0
	return func() error {
		if n++; n%digestSlice > 0 {
			return nil
		}
		timer := time.NewTimer(digestRest)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (d *divergence) next() (c captured, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.captured) == 0 {
		return c, false
	}
	c = d.captured[0]
	d.captured = d.captured[1:]
	return c, true
}

// judge returns an error if this manager is wrong at any index.
func (d *divergence) judge() error {
	self := d.self()
	members, leader := d.members()
	d.mu.Lock()
	defer d.mu.Unlock()
	for index, o := range d.opinions {
		own, ok := o.of[self]
		if !ok {
			continue
		}
		v := weigh(members, leader, self, o.of)
		switch {
		case !v.differ:
		case v.wrong == "" && !v.settled && o.since.IsZero():
			o.since = time.Now()
		case v.wrong == "" && v.settled && !o.said:
			o.said = true
			log := d.log.With("raft.index", index, "raft.ids", fmt.Sprintf("%x", v.others))
			if v.most {
				log.Error("other managers hold another state at the same place of the log than this one and most; they stop by themselves: remove them from the swarm and let them join again")
			} else {
				log.Error("other managers hold another state at the same place of the log than this one, and no most agree: the leader's counts, and who differs from it stops by itself; keep its state directory for a report, remove it from the swarm and let it join again", "raft.leader", fmt.Sprintf("%x", leader))
			}
		case v.wrong != "" && (v.settled || time.Since(o.since) >= digestPatience && !o.since.IsZero()):
			return fmt.Errorf("this manager's state after entry %d of the raft log is %x, and %s: it stops, since what it answers may be wrong; keep its state directory for a report, remove it from the swarm and let it join again", index, own, v.wrong)
		case o.since.IsZero():
			o.since = time.Now()
		}
	}
	return nil
}

// verdict is what opinions amount to, for one manager.
type verdict struct {
	differ  bool
	others  []uint64 // who holds another state than this manager
	wrong   string   // why this manager is wrong, "" while it is not known to be
	most    bool     // most members hold what this manager does
	settled bool     // no opinion that is not there yet can change that
}

// weigh judges what members hold at one index.
func weigh(members []uint64, leader, self uint64, of map[uint64][]byte) (v verdict) {
	own := of[self]
	agree, heard := 0, 0
	count := map[string]int{}
	for _, id := range members {
		hash, ok := of[id]
		if !ok || !store.Comparable(own, hash) {
			continue
		}
		heard++
		if count[string(hash)]++; bytes.Equal(hash, own) {
			agree++
		} else {
			v.others = append(v.others, id)
		}
	}
	v.differ = len(v.others) > 0
	if !v.differ {
		return v
	}
	if agree*2 > len(members) {
		v.most, v.settled = true, true
		return v
	}
	for hash, n := range count {
		if n*2 > len(members) && hash != string(own) {
			v.wrong, v.settled = fmt.Sprintf("%d of %d managers agree that it is %x", n, len(members), hash), true
			return v
		}
	}
	// There are no most, and may never be.
	v.settled = heard == len(members)
	if lead, ok := of[leader]; ok && leader != self && store.Comparable(own, lead) && !bytes.Equal(lead, own) {
		v.wrong = fmt.Sprintf("the leader's is %x, with no other manager to tell which of them is right", lead)
	}
	return v
}
