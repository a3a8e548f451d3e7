package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"skep/raft/seal"
	"skep/vfs"
)

// Config says where a log is and how it is sealed. FS, Dir and Key or Keys must be set.
type Config struct {
	FS  vfs.FS
	Dir string
	// Key is the data encryption key. Keys, if it is set, takes its place: the next
	// segment is always sealed with the current key of the ring.
	Key  seal.Key
	Keys *seal.Ring
	// SegmentBytes is the size from which on a segment is followed by a new one.
	// Default: 16 MiB.
	SegmentBytes int64
	// AheadBytes is how much is written ahead with zeros at a time. Default: 1 MiB, at
	// most SegmentBytes.
	AheadBytes int64
	// Restart tells Open that its index is that of a snapshot with this term which came
	// from another member. The log may not have got there: then the process ended before
	// [Log.Restart], and Open does what that would have done.
	Restart *uint64
}

func (c Config) withDefaults() Config {
	if c.Keys == nil {
		c.Keys = seal.NewRing(c.Key)
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = 16 << 20
	}
	if c.AheadBytes == 0 {
		c.AheadBytes = min(1<<20, c.SegmentBytes)
	}
	return c
}

// Log is an open log. One goroutine appends, flushes and closes; Release and Size may
// be called from others.
type Log struct {
	cfg Config
	// id and owner are the raft id and the node id of the member whose log it is.
	id    uint64
	owner string

	out     *writer
	batch   uint64    // number of the last batch
	last    position  // of the last entry written
	written HardState // the one that is on disk
	err     error     // of the first write or sync that failed

	// What was appended since the last Flush.
	state   HardState
	entries []*raftpb.Entry
	buf     []byte

	mu       sync.Mutex
	segments []segment
	end      uint64 // the last entry's index
}

// position is a place in the raft log.
type position struct{ index, term uint64 }

// segment is one file of the log.
type segment struct {
	number uint64
	// before is the last entry that was in the log when the segment began, as
	// far as that is known.
	before position
	size   int64
	// key is what the segment is sealed with, the zero key if it was not read.
	key seal.Key
}

// Create begins a log in cfg.Dir, which exists and has none, for the raft member id of
// node owner. State and entries are its first content: the log exists with them or not
// at all.
func Create(cfg Config, id uint64, owner string, state HardState, entries []*raftpb.Entry) (*Log, error) {
	l := &Log{cfg: cfg.withDefaults(), id: id, owner: owner, state: state, written: state}
	if err := l.begin(1, 0, entries); err != nil {
		return nil, fmt.Errorf("create the raft log in %s: %w", cfg.Dir, err)
	}
	return l, nil
}

// Append takes a new hard state, if state is not nil, and entries, which follow those
// in the log or replace them from the first one's index on. Nothing is written before
// Flush. It reports whether a Flush is called for: a new commit index alone is not worth
// a sync and goes with whatever is written next.
func (l *Log) Append(state *HardState, entries []*raftpb.Entry) (dirty bool) {
	if state != nil {
		l.state = *state
	}
	l.entries = append(l.entries, entries...)
	return len(l.entries) > 0 || l.state.Term != l.written.Term || l.state.Vote != l.written.Vote
}

// Flush writes what was appended as one batch and syncs once. It returns how many bytes
// were written. Its first error, which names the file, is final: every later Flush
// returns it again. Only after ErrFull the same may be tried again.
func (l *Log) Flush() (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	n, err := l.flush()
	l.fail(err)
	return n, err
}

// fail makes err final, unless the log is as if nothing had been tried.
func (l *Log) fail(err error) {
	if !errors.Is(err, ErrFull) {
		l.err = err
	}
}

func (l *Log) flush() (int, error) {
	if l.out.offset >= l.cfg.SegmentBytes {
		if err := l.begin(l.out.segment+1, l.out.offset, nil); err != nil {
			return 0, fmt.Errorf("begin another segment of the raft log after %s: %w", l.out.name, err)
		}
	}
	var content []byte
	if l.state != l.written {
		content = appendHardState(nil, l.state)
	}
	if err := l.out.ahead(batchSize(content, l.entries)); err != nil {
		return 0, fmt.Errorf("write ahead raft log %s: %w", l.out.name, err)
	}
	l.buf = l.out.frames(l.buf[:0], l.batch+1, content, l.entries)
	if err := l.out.write(l.buf); err != nil {
		return 0, fmt.Errorf("write raft log %s at offset %d: %w", l.out.name, l.out.offset, err)
	}
	n := len(l.buf)
	l.flushed(l.entries)
	l.written, l.entries = l.state, nil
	return n, nil
}

// flushed notes that a batch with these entries is durable.
func (l *Log) flushed(entries []*raftpb.Entry) {
	l.batch++
	if n := len(entries); n > 0 {
		l.last = position{entries[n-1].GetIndex(), entries[n-1].GetTerm()}
	}
	if cap(l.buf) > 4*frameBytes {
		l.buf = nil // a burst is over
	}
	l.mu.Lock()
	l.segments[len(l.segments)-1].size = l.out.offset
	l.end = l.last.index
	l.mu.Unlock()
}

// begin makes segment number the one that is written to. Its first batch is an origin
// and entries. What was appended and not flushed is no part of it: a crash before the
// batch that holds the entries must not leave a hard state that says they are committed.
func (l *Log) begin(number uint64, prevEnd int64, entries []*raftpb.Entry) error {
	content := appendOrigin(nil, origin{
		segment: number, prevEnd: uint64(prevEnd), prevBatch: l.batch,
		before: l.last, state: l.written, id: l.id, owner: l.owner,
	})
	out, err := newWriter(l.cfg, number, l.batch+1, content, entries)
	if err != nil {
		return err
	}
	old := l.out
	l.out = out
	l.mu.Lock()
	l.segments = append(l.segments, segment{number: number, before: l.last, size: out.offset, key: out.key})
	l.mu.Unlock()
	l.flushed(entries)
	if old != nil {
		return old.file.Close()
	}
	return nil
}

// Rekey begins a segment that is sealed with the current key of Config.Keys, unless the
// present one is. It belongs to the goroutine that appends. After it, OldKeys tells when
// no other key is needed. Its error is final like that of Flush.
func (l *Log) Rekey() error {
	if l.err != nil {
		return l.err
	}
	if l.out.key == l.cfg.Keys.Current() {
		return nil
	}
	if err := l.begin(l.out.segment+1, l.out.offset, nil); err != nil {
		err = fmt.Errorf("begin a segment of the raft log with another key after %s: %w", l.out.name, err)
		l.fail(err)
		return err
	}
	return nil
}

// OldKeys reports whether there are segments that are sealed with another key than the
// current one, and up to which entry. Once a snapshot is at least there, Release can
// remove them.
func (l *Log) OldKeys() (last uint64, any bool) {
	current := l.cfg.Keys.Current()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.segments {
		if s.key == current {
			continue
		}
		any = true
		if last = l.end; i+1 < len(l.segments) {
			last = l.segments[i+1].before.index
		}
	}
	return last, any
}

// Release removes segments that hold nothing after entry index. Those that could not be
// removed are tried again by the next call.
func (l *Log) Release(index uint64) error {
	l.mu.Lock()
	keep := 0
	for i, s := range l.segments {
		if s.before.index <= index {
			keep = i
		}
	}
	old := l.segments[:keep:keep]
	l.mu.Unlock()
	if len(old) == 0 {
		return nil
	}
	removed := 0
	for _, s := range old { // the oldest first, so that the others are one piece
		if err := l.cfg.FS.Remove(segmentPath(l.cfg.Dir, s.number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("remove an old segment of the raft log: %w", err), l.dropped(removed))
		}
		removed++
	}
	return l.dropped(removed)
}

// dropped notes that the first n segments were removed.
func (l *Log) dropped(n int) error {
	if n == 0 {
		return nil
	}
	l.mu.Lock()
	l.segments = l.segments[n:]
	l.mu.Unlock()
	if err := l.cfg.FS.SyncDir(l.cfg.Dir); err != nil {
		return fmt.Errorf("remove old segments of the raft log: %w", err)
	}
	return nil
}

// Size returns how many bytes and segments the log has.
func (l *Log) Size() (bytes int64, segments int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segments {
		bytes += s.size
	}
	return bytes, len(l.segments)
}

// Close closes the log. What was appended and not flushed is not written.
func (l *Log) Close() error {
	if err := l.out.file.Close(); err != nil {
		return fmt.Errorf("close raft log %s: %w", l.out.name, err)
	}
	return nil
}
