package wal

import "fmt"

// Restart forgets all entries and goes on after entry index, which is that of a snapshot
// that came from another member and is durable. State is the hard state from then on, nil if
// it stays. What was appended and not flushed is dropped. It is done when it returns nil: a
// crash before leaves the log as it was, see [Config.Restart]. Its error is final like that
// of Flush; after ErrFull the same may be tried again.
func (l *Log) Restart(index, term uint64, state *HardState) error {
	if l.err != nil {
		return l.err
	}
	written, last := l.written, l.last
	if state != nil {
		l.state = *state
	}
	l.state = l.state.including(index, term)
	l.written, l.last = l.state, position{index, term}
	if err := l.begin(l.out.segment+1, l.out.offset, nil); err != nil {
		l.written, l.last = written, last
		err = fmt.Errorf("begin the raft log anew after entry %d: %w", index, err)
		l.fail(err)
		return err
	}
	l.entries = nil
	return nil
}

// including returns a hard state as it is at least, once an entry with this term is known to be
// committed.
func (s HardState) including(index, term uint64) HardState {
	s.Commit = max(s.Commit, index)
	if s.Term < term {
		s.Term, s.Vote = term, 0
	}
	return s
}
