package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"

	"skep/raft/seal"
	"skep/vfs"
)

// Recovered is what a log holds.
type Recovered struct {
	// ID and Owner are the raft id and the node id of the member whose log it is.
	ID    uint64
	Owner string
	State HardState
	// Entries are those after the index that was asked for.
	Entries []*raftpb.Entry
	// LastIndex and LastTerm are those of the last entry that was ever in the log.
	LastIndex, LastTerm uint64
	// Cut is the unfinished batch that was cut off, if there was one.
	Cut *Cut
}

// Cut says where a crash left an unfinished batch.
type Cut struct {
	File string
	// Offset is where the batch began, Bytes how much followed.
	Offset, Bytes int64
}

// Open opens the log in cfg.Dir and returns it with its hard state and the entries after
// index after, which is that of a snapshot, or zero. It cuts off an unfinished batch and
// begins a new segment. Its error is ErrNone if there is no log, a *seal.DamageError if
// there is one that is not as it was written, or which does not reach back to after.
func Open(cfg Config, after uint64) (*Log, *Recovered, error) {
	cfg = cfg.withDefaults()
	scan, err := read(cfg, after)
	if err != nil {
		return nil, nil, err
	}
	if err := tidy(cfg, scan); err != nil {
		return nil, nil, fmt.Errorf("open the raft log in %s: %w", cfg.Dir, err)
	}
	r := &scan.Recovered
	l := &Log{
		cfg: cfg, id: r.ID, owner: r.Owner, batch: scan.batch, last: scan.last,
		state: r.State, written: r.State, segments: scan.segments,
	}
	if scan.behind { // the segment that begins now is the one that Restart would have begun
		l.last = position{r.LastIndex, r.LastTerm}
	}
	if err := l.begin(scan.segments[len(scan.segments)-1].number+1, scan.end, nil); err != nil {
		return nil, nil, fmt.Errorf("begin a segment of the raft log in %s: %w", cfg.Dir, err)
	}
	return l, r, nil
}

// tidy removes what an earlier process left unfinished.
func tidy(cfg Config, s *scan) error {
	for _, name := range s.unfinished {
		if err := cfg.FS.Remove(cfg.Dir + "/" + name); err != nil {
			return err
		}
	}
	file, err := cfg.FS.OpenReadWrite(s.file)
	if err != nil {
		return err
	}
	// If the process ended because a sync failed, the last batch may be in the page
	// cache, clean, and not on the disk. Written again, this sync covers it. Not only an
	// unfinished batch is cut off, the zeros written ahead are too.
	_, err = file.WriteAt(s.tail, s.end-int64(len(s.tail)))
	return errors.Join(err, file.Truncate(s.end), file.Sync(), file.Close())
}

// scan reads a log from front to back.
type scan struct {
	Recovered
	after      uint64
	segments   []segment
	unfinished []string

	// Where reading is.
	file    string
	end     int64  // of the last complete batch in file
	tail    []byte // that batch, as it is in the file
	room    []byte // what the file is read to, one after the other
	batch   uint64 // the last complete one
	last    position
	pending items // of the batch that is not complete
	open    bool  // there is such a batch
	// term is that of entry after, 0 if it is not known.
	term   uint64
	behind bool // the log has no such entry, or another, and may
}

func read(cfg Config, after uint64) (*scan, error) {
	s := &scan{after: after}
	if err := s.list(cfg); err != nil {
		return nil, err
	}
	first, err := s.first(cfg)
	if err != nil {
		return nil, err
	}
	for i := first; i < len(s.segments); i++ {
		if err := s.segment(cfg, i, i == first, i == len(s.segments)-1); err != nil {
			return nil, err
		}
	}
	if cfg.Restart != nil && (s.last.index < after || s.term != 0 && s.term != *cfg.Restart) {
		s.behind = true
		s.Entries, s.State = nil, s.State.including(after, *cfg.Restart)
		s.LastIndex, s.LastTerm = after, *cfg.Restart
		return s, nil
	}
	if s.last.index < after {
		return nil, damage(s.file, s.end, "the log ends with entry %d, before the snapshot at %d", s.last.index, after)
	}
	if s.State.Commit > s.last.index {
		return nil, damage(s.file, s.end, "the log ends with entry %d and says that %d is committed", s.last.index, s.State.Commit)
	}
	s.LastIndex, s.LastTerm = s.last.index, s.last.term
	return s, nil
}

// list finds the segments.
func (s *scan) list(cfg Config) error {
	names, err := cfg.FS.List(cfg.Dir)
	if err != nil {
		return fmt.Errorf("list the raft log: %w", err)
	}
	for _, name := range names {
		if n, ok := segmentNumber(name); ok {
			info, err := cfg.FS.Stat(cfg.Dir + "/" + name)
			if err != nil {
				return fmt.Errorf("list the raft log: %w", err)
			}
			s.segments = append(s.segments, segment{number: n, size: info.Size()})
		} else if strings.HasSuffix(name, suffix+unfinished) {
			s.unfinished = append(s.unfinished, name)
		}
	}
	slices.SortFunc(s.segments, func(a, b segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	if len(s.segments) == 0 {
		return ErrNone
	}
	return nil
}

// first finds, from the newest segment backwards, the one from which on all entries
// after s.after are found. What is before it is neither read nor missed.
func (s *scan) first(cfg Config) (int, error) {
	for i := len(s.segments) - 1; ; i-- {
		seg := &s.segments[i]
		name := segmentPath(cfg.Dir, seg.number)
		o, key, err := readOrigin(cfg, name, seg.number)
		if err != nil {
			return 0, err
		}
		seg.before, seg.key = o.before, key
		if o.before.index <= s.after {
			s.start(o)
			return i, nil
		}
		if seg.number == 1 {
			return 0, damage(name, seal.HeaderSize, "the first segment begins after entry %d", o.before.index)
		}
		if i == 0 || s.segments[i-1].number != seg.number-1 {
			return 0, damage(segmentPath(cfg.Dir, seg.number-1), 0,
				"the segment is missing; those after it begin after entry %d, and entries after %d are needed", o.before.index, s.after)
		}
	}
}

// start takes over what was true when a segment began.
func (s *scan) start(o origin) {
	s.ID, s.Owner, s.State, s.last, s.batch = o.id, o.owner, o.state, o.before, o.prevBatch
	if s.last.index == s.after {
		s.term = s.last.term
	}
}

// readOrigin reads the beginning of a segment, which is there since its name is.
func readOrigin(cfg Config, name string, number uint64) (origin, seal.Key, error) {
	const enough = 4096
	data, err := readFile(cfg.FS, name, enough, nil)
	if err != nil {
		return origin{}, seal.Key{}, err
	}
	box, key, err := openBox(cfg, name, data)
	if err != nil {
		return origin{}, seal.Key{}, err
	}
	frame, err := box.Next(data[seal.HeaderSize:])
	if errors.Is(err, seal.ErrShort) && frame.Size > 0 {
		if data, err = readFile(cfg.FS, name, int64(seal.HeaderSize+frame.Size), nil); err != nil {
			return origin{}, seal.Key{}, err
		}
		frame, err = box.Next(data[seal.HeaderSize:])
	}
	var content items
	if err == nil {
		content, err = parse(frame.Plain)
	}
	switch {
	case err != nil:
		return origin{}, seal.Key{}, damage(name, seal.HeaderSize, "the record is damaged: %w", err)
	case content.origin == nil:
		return origin{}, seal.Key{}, damage(name, seal.HeaderSize, "the record is not the beginning of a segment")
	case content.origin.segment != number:
		return origin{}, seal.Key{}, damage(name, seal.HeaderSize, "the file is segment %016x under another name", content.origin.segment)
	}
	return *content.origin, key, nil
}

// readFile reads at most limit bytes of a file, or all if limit is negative, to the place of
// room as far as that goes.
func readFile(fsys vfs.FS, name string, limit int64, room []byte) ([]byte, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the raft log: %w", err)
	}
	info, err := file.Stat()
	var data []byte
	if err == nil {
		size := info.Size()
		if limit >= 0 {
			size = min(size, limit)
		}
		data = slices.Grow(room[:0], int(size))[:size]
		_, err = io.ReadFull(file, data)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read raft log %s: %w", name, err)
	}
	return data, nil
}

func openBox(cfg Config, name string, data []byte) (*seal.Box, seal.Key, error) {
	box, key, err := cfg.Keys.Open(kind(), data[:min(len(data), seal.HeaderSize)])
	if err != nil {
		return nil, key, damage(name, 0, "%w", err)
	}
	return box, key, nil
}

// segment reads all of segment i.
func (s *scan) segment(cfg Config, i int, first, last bool) error {
	number, prev, prevEnd := s.segments[i].number, s.file, s.end
	s.file = segmentPath(cfg.Dir, number)
	data, err := readFile(cfg.FS, s.file, -1, s.room)
	if err != nil {
		return err
	}
	s.room = data
	box, _, err := openBox(cfg, s.file, data)
	if err != nil {
		return err
	}
	s.end, s.tail = seal.HeaderSize, nil
	at := seal.HeaderSize // end of the last frame, which may be within a batch
	for next := uint32(0); ; next++ {
		frame, err := box.Next(data[at:])
		if err != nil {
			return s.stop(box, data, at, frame.Size, err, last)
		}
		content, err := parse(frame.Plain)
		if err == nil && next == 0 {
			if err := s.chain(content.origin, first, prev, prevEnd); err != nil {
				return err
			}
			content.origin = nil
		}
		if err == nil {
			err = s.take(frame, next, content)
		}
		if err != nil {
			return damage(s.file, int64(at), "%w", err)
		}
		at += frame.Size
		if !s.open {
			s.tail, s.end = data[s.end:at], int64(at)
		}
	}
}

// chain checks that a segment goes on where the one before it ended.
func (s *scan) chain(o *origin, first bool, prev string, prevEnd int64) error {
	switch {
	case o == nil:
		return damage(s.file, seal.HeaderSize, "the record is not the beginning of a segment")
	case first:
		return nil
	case o.id != s.ID || o.owner != s.Owner:
		return damage(s.file, seal.HeaderSize, "%w: the segment is of raft member %x of node %s, those before it of %x of %s", seal.ErrForeign, o.id, o.owner, s.ID, s.Owner)
	case o.prevEnd != uint64(prevEnd) || o.prevBatch != s.batch:
		return damage(prev, prevEnd, "records up to offset %d are gone (batch %d, found %d)", o.prevEnd, o.prevBatch, s.batch)
	case o.before != s.last:
		return damage(s.file, seal.HeaderSize, "the segment follows entry %d of term %d, the one before it ends with %d of term %d",
			o.before.index, o.before.term, s.last.index, s.last.term)
	}
	s.State = o.state
	return nil
}

// take takes the next frame.
func (s *scan) take(f seal.Frame, number uint32, content items) error {
	batch, end := f.Tag>>1, f.Tag&1 == 1
	switch {
	case f.Number != number:
		return fmt.Errorf("the record is number %d of its file, want %d", f.Number, number)
	case batch != s.batch+1:
		return fmt.Errorf("the record is of batch %d, want %d", batch, s.batch+1)
	case content.origin != nil:
		return fmt.Errorf("%w: an origin within the segment", errItem)
	}
	if content.state != nil {
		s.pending.state = content.state
	}
	s.pending.entries = append(s.pending.entries, content.entries...)
	s.open = !end
	if !end {
		return nil
	}
	if s.pending.state != nil {
		s.State = *s.pending.state
	}
	for _, e := range s.pending.entries {
		if err := s.entry(e); err != nil {
			return err
		}
	}
	s.pending = items{}
	s.batch = batch
	return nil
}

// entry appends an entry, or replaces the log from its index on.
func (s *scan) entry(e *raftpb.Entry) error {
	index := e.GetIndex()
	if index == 0 || index > s.last.index+1 {
		return fmt.Errorf("entry %d follows entry %d", index, s.last.index)
	}
	s.last = position{index, e.GetTerm()}
	if index > s.after {
		s.Entries = append(s.Entries[:index-s.after-1], e)
	} else {
		s.Entries = s.Entries[:0]
		if s.term = 0; index == s.after {
			s.term = e.GetTerm()
		}
	}
	return nil
}

// stop decides what it means that there is no good frame at offset at: the end, what a
// crash left of the last batch, or damage. Size is that of the bad frame, if known.
func (s *scan) stop(box *seal.Box, data []byte, at, size int, why error, last bool) error {
	if !last {
		if s.open {
			return damage(s.file, int64(at), "the record is damaged: %w", why)
		}
		return nil // chain knows whether this is the end
	}
	rest := data[at:]
	if !s.open && allZero(rest) {
		return nil
	}
	for later := 8; later < len(rest); later += 8 {
		if f, err := box.Next(rest[later:]); err == nil && f.Tag>>1 > s.batch+1 {
			return damage(s.file, int64(at), "the record is damaged: %w; a good one follows at offset %d", why, at+later)
		}
	}
	if !torn(data, at, size) {
		return damage(s.file, int64(at), "the last record is damaged: %w; this is not what a crash leaves", why)
	}
	s.Cut = &Cut{File: s.file, Offset: s.end, Bytes: int64(len(data)) - s.end}
	return nil
}

// torn reports whether a crash during the write of a frame explains that it is bad: its
// end is missing, or whole sectors are. What is missing reads as zeros, since that is
// what was there before; a frame itself has no such zeros, see package seal.
func torn(data []byte, at, size int) bool {
	const sector = 512
	rest := data[at:]
	if size == 0 { // even its header is bad
		if len(rest) <= seal.FrameHeaderSize || allZero(rest[seal.FrameHeaderSize:]) {
			return true
		}
		size = seal.FrameHeaderSize
	}
	if len(rest) < size || rest[size-1] == 0 && size > seal.FrameHeaderSize {
		return true
	}
	for from := at; from < at+size; {
		to := min(from+sector-from%sector, at+size)
		if allZero(data[from:to]) {
			return true
		}
		from = to
	}
	return false
}

func allZero(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
	}
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
