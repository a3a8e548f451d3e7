package raft

import (
	"sync"
	"time"
)

// proposals is the queue between whoever proposes and the raft loop. It is open while the
// state machine knows that it leads, for that term; what comes while it is closed
// is refused by the loop.
type proposals struct {
	mu      sync.Mutex
	term    uint64 // 0: closed
	queue   []proposal
	refused [][]byte
	ready   chan struct{}
}

// proposal is one entry to be.
type proposal struct {
	data []byte
	at   time.Time
}

func newProposals() *proposals { return &proposals{ready: make(chan struct{}, 1)} }

func (p *proposals) put(data [][]byte) {
	now := time.Now()
	p.mu.Lock()
	if p.term == 0 {
		p.refused = append(p.refused, data...)
	} else {
		for _, d := range data {
			p.queue = append(p.queue, proposal{d, now})
		}
	}
	p.mu.Unlock()
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

// open lets proposals in for term.
func (p *proposals) open(term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.term = term
}

// close refuses what is queued and what comes.
func (p *proposals) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.term = 0
	p.refuse()
}

func (p *proposals) refuse() {
	for _, q := range p.queue {
		p.refused = append(p.refused, q.data)
	}
	p.queue = nil
}

// take returns what is queued for term, up to limit bytes but at least one proposal if
// one is allowed, and everything that is to be refused.
func (p *proposals) take(term uint64, limit int, one bool) (taken []proposal, refused [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.term != term {
		p.refuse()
	}
	refused, p.refused = p.refused, nil
	n := 0
	for n < len(p.queue) {
		limit -= len(p.queue[n].data)
		if limit < 0 && (n > 0 || !one) {
			break
		}
		n++
	}
	taken, p.queue = p.queue[:n:n], p.queue[n:]
	if len(p.queue) == 0 {
		p.queue = nil
	}
	return taken, refused
}

// putBack returns what was taken to the head of the queue.
func (p *proposals) putBack(taken []proposal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(taken, p.queue...)
}
