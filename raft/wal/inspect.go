package wal

// Inspection is what Inspect finds.
type Inspection struct {
	// Recovered is as Open returns it; Entries are all that the segments hold.
	Recovered
	// BeforeIndex and BeforeTerm are those of the entry before the oldest segment,
	// zero if the log is there from its beginning.
	BeforeIndex, BeforeTerm uint64
	// Behind is the index of a snapshot from another member that the log has not got to, or
	// zero: the next start begins the log anew after it, and needs none of Entries.
	Behind uint64
	// Segments are the files that make up the log, the oldest first.
	Segments []SegmentInfo
	// Unused are files that are no part of the log and that the next start removes or
	// passes over: segments that were not finished, from before a gap, or from before the log
	// began anew after a snapshot of another member.
	Unused []string
}

// SegmentInfo is one file of the log.
type SegmentInfo struct {
	File string
	// Bytes is how much of the file holds records, Size how large it is.
	Bytes, Size int64
	// BeforeIndex is the index of the last entry when the segment began.
	BeforeIndex uint64
	// OldKey: it is sealed with another key than the current one.
	OldKey bool
}

// Inspect reads the whole log in cfg.Dir and changes nothing: it begins no segment,
// cuts nothing off and removes no file. Its errors are those of Open. With an error that
// is about one place of the log, the inspection holds what precedes that place.
func Inspect(cfg Config, after uint64) (*Inspection, error) {
	cfg = cfg.withDefaults()
	s := &scan{after: after}
	found := &Inspection{}
	if err := s.list(cfg); err != nil {
		return found, err
	}
	for _, name := range s.unfinished {
		found.Unused = append(found.Unused, cfg.Dir+"/"+name)
	}
	// Whether what Open needs is there.
	if _, err := s.first(cfg); err != nil {
		return found, err
	}
	oldest := len(s.segments) - 1
	for oldest > 0 && s.segments[oldest-1].number == s.segments[oldest].number-1 {
		oldest--
	}
	for _, seg := range s.segments[:oldest] {
		found.Unused = append(found.Unused, segmentPath(cfg.Dir, seg.number))
	}
	s.segments = s.segments[oldest:]
	name := segmentPath(cfg.Dir, s.segments[0].number)
	o, _, err := readOrigin(cfg, name, s.segments[0].number)
	if err != nil {
		return found, err
	}
	s.start(o)
	s.after = o.before.index
	found.BeforeIndex, found.BeforeTerm = o.before.index, o.before.term
	err = s.all(cfg, found, after)
	if err == nil && cfg.Restart != nil && s.lacks(found, position{after, *cfg.Restart}) {
		found.Behind = after
		found.Recovered = s.Recovered
		found.State = s.State.including(after, *cfg.Restart)
		found.LastIndex, found.LastTerm = after, *cfg.Restart
		return found, nil
	}
	if err == nil && s.last.index < after {
		err = damage(s.file, s.end, "the log ends with entry %d, before the snapshot at %d", s.last.index, after)
	}
	if err == nil && s.State.Commit > s.last.index {
		err = damage(s.file, s.end, "the log ends with entry %d and says that %d is committed", s.last.index, s.State.Commit)
	}
	found.Recovered = s.Recovered
	found.LastIndex, found.LastTerm = s.last.index, s.last.term
	return found, err
}

// lacks reports whether the log has no entry p.
func (s *scan) lacks(found *Inspection, p position) bool {
	switch {
	case s.last.index < p.index:
		return true
	case found.BeforeIndex == p.index:
		return found.BeforeTerm != p.term
	}
	return s.Entries[p.index-s.after-1].GetTerm() != p.term
}

// anew reports whether the log begins anew with a segment: it goes on after the snapshot of another
// member, whatever entries there were before.
func (s *scan) anew(o origin, after uint64) bool {
	return o.before != s.last && o.before.index <= after && o.prevEnd == uint64(s.end) && o.prevBatch == s.batch //nolint:gosec // an offset in a file
}

// all reads all segments.
func (s *scan) all(cfg Config, found *Inspection, after uint64) error {
	current := cfg.Keys.Current()
	for i, seg := range s.segments {
		first := i == 0
		if o, _, err := readOrigin(cfg, segmentPath(cfg.Dir, seg.number), seg.number); !first && err == nil && s.anew(o, after) {
			for _, old := range found.Segments {
				found.Unused = append(found.Unused, old.File)
			}
			found.Segments, s.Entries, first = nil, nil, true
			s.start(o)
			s.after = o.before.index
			found.BeforeIndex, found.BeforeTerm = o.before.index, o.before.term
		}
		before := s.last.index
		err := s.segment(cfg, i, first, i == len(s.segments)-1)
		info := SegmentInfo{File: segmentPath(cfg.Dir, seg.number), Size: seg.size, BeforeIndex: before}
		if s.file == info.File {
			info.Bytes = s.end
		}
		if _, key, opened := readOrigin(cfg, info.File, seg.number); opened == nil {
			info.OldKey = key != current
		}
		found.Segments = append(found.Segments, info)
		if err != nil {
			return err
		}
	}
	return nil
}
