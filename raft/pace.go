package raft

import "time"

const (
	// paceBytes is how much of a snapshot is worked on at a time, paceRest how long nothing is
	// then, at most.
	paceBytes = 128 << 10
	paceRest  = 5 * time.Millisecond
)

// pace makes whoever works on a snapshot rest as long as it works: nobody waits for that work, and
// it would have all the processors and the disk for longer than a write may take. Where the
// network or the disk is what takes long, the rest is short beside it.
type pace struct {
	stop  <-chan struct{} // ends a rest
	bytes int
	since time.Time
}

// on is called before n bytes are worked on.
func (p *pace) on(n int) {
	switch {
	case p.since.IsZero():
		p.since = time.Now()
	case p.bytes >= paceBytes:
		rest := time.NewTimer(min(time.Since(p.since), paceRest))
		select {
		case <-rest.C:
		case <-p.stop:
			rest.Stop()
		}
		p.bytes, p.since = 0, time.Now()
	}
	p.bytes += n
}
