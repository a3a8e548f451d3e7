package raft

import (
	"context"
	"encoding/binary"
	"slices"

	etcdraft "go.etcd.io/raft/v3"

	"skep/model"
)

// reads are the waiting calls of ReadIndex, in the loop's hands. All that wait are answered
// by one round.
type reads struct {
	waiting []read
	asked   map[uint64][]read // by number of the round
	round   uint64
	ticks   int // since the last round
	// epoch tells the rounds of this process from those of others and of earlier ones: the
	// leader takes two with one name for one, and answers with what was committed at
	// the first.
	epoch [8]byte
}

// read is one call of ReadIndex. Nobody takes the answer once left is closed, but there is
// always room for it.
type read struct {
	answer chan<- uint64
	left   <-chan struct{}
}

func (r read) gone() bool {
	select {
	case <-r.left:
		return true
	default:
		return false
	}
}

// ReadIndex returns an index such that a state machine that has applied up to it has
// everything which was acknowledged anywhere before the call. It waits for a leader
// until ctx ends; its error is then of kind model.Unavailable.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	if index := n.readable.Load(); index != 0 {
		return index, nil
	}
	answer := make(chan uint64, 1)
	n.events.put(event{read: &read{answer, ctx.Done()}})
	select {
	case index := <-answer:
		return index, nil
	case <-n.done:
		return 0, model.Errorf(model.Unavailable, "read from the raft log: this manager has stopped")
	case <-ctx.Done():
		return 0, model.Errorf(model.Unavailable, "read from the raft log: no leader is known: %w", context.Cause(ctx))
	}
}

// ask begins a round for the calls that wait, when there is somebody to ask.
func (l *loop) ask() {
	if len(l.reads.waiting) == 0 || l.lead == etcdraft.None {
		return
	}
	if l.leads() && l.commit < l.ownFirst {
		return // what earlier leaders committed is not known yet
	}
	l.reads.round++
	if l.reads.asked == nil {
		l.reads.asked = map[uint64][]read{}
	}
	l.reads.asked[l.reads.round] = l.reads.waiting
	l.reads.waiting = nil
	l.reads.ticks = 0
	name := binary.BigEndian.AppendUint64(nil, l.reads.round)
	name = append(binary.BigEndian.AppendUint64(name, l.id), l.reads.epoch[:]...)
	l.raw.ReadIndex(name)
}

// answer answers the rounds that raft is done with.
func (l *loop) answer(states []etcdraft.ReadState) {
	for _, s := range states {
		round := binary.BigEndian.Uint64(s.RequestCtx)
		for _, r := range l.reads.asked[round] {
			r.answer <- s.Index
		}
		delete(l.reads.asked, round)
	}
}

// askAgain begins anew with all rounds that have no answer: who was asked may be gone. It is
// called when another leads, in another term, and when the way to the leader stands again.
func (l *loop) askAgain() {
	for round, waiting := range l.reads.asked {
		l.reads.waiting = append(l.reads.waiting, waiting...)
		delete(l.reads.asked, round)
	}
}

// tickReads asks again after half the time in which a leader would be missed. It
// forgets calls that were given up: without a leader they would gather.
func (l *loop) tickReads() {
	l.reads.waiting = slices.DeleteFunc(l.reads.waiting, read.gone)
	for round, asked := range l.reads.asked {
		if l.reads.asked[round] = slices.DeleteFunc(asked, read.gone); len(l.reads.asked[round]) == 0 {
			delete(l.reads.asked, round)
		}
	}
	if l.reads.ticks++; l.reads.ticks >= max(l.cfg.ElectionTicks/2, 1) && len(l.reads.asked) > 0 {
		l.askAgain()
	}
}
