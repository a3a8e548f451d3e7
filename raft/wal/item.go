package wal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	itemOrigin    = 1
	itemHardState = 2
	itemEntry     = 3
)

// HardState is what raft must not forget: its term, whom it voted for in it, and up to
// where it knows the log to be committed (which it may forget).
type HardState struct{ Term, Vote, Commit uint64 }

// origin is how a segment begins.
type origin struct {
	segment   uint64
	prevEnd   uint64 // of the segment before
	prevBatch uint64
	before    position
	state     HardState
	id        uint64
	owner     string
}

func appendOrigin(b []byte, o origin) []byte {
	b = append(b, itemOrigin)
	for _, v := range [...]uint64{
		o.segment, o.prevEnd, o.prevBatch, o.before.index, o.before.term,
		o.state.Term, o.state.Vote, o.state.Commit, o.id, uint64(len(o.owner)),
	} {
		b = binary.AppendUvarint(b, v)
	}
	return append(b, o.owner...)
}

func appendHardState(b []byte, s HardState) []byte {
	b = append(b, itemHardState)
	b = binary.AppendUvarint(b, s.Term)
	b = binary.AppendUvarint(b, s.Vote)
	return binary.AppendUvarint(b, s.Commit)
}

func appendEntry(b []byte, e *raftpb.Entry) []byte {
	b = append(b, itemEntry)
	b = binary.AppendUvarint(b, e.GetIndex())
	b = binary.AppendUvarint(b, e.GetTerm())
	b = binary.AppendUvarint(b, uint64(e.GetType()))
	b = binary.AppendUvarint(b, uint64(len(e.GetData())))
	return append(b, e.GetData()...)
}

// reader reads items; the first error stays.
type reader struct {
	b   []byte
	err error
}

var errItem = errors.New("it decrypts to something that is no log item")

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err = errItem
		r.b = nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.err = errItem
		r.b = nil
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) origin() origin {
	return origin{
		segment: r.uint(), prevEnd: r.uint(), prevBatch: r.uint(),
		before: position{r.uint(), r.uint()},
		state:  HardState{Term: r.uint(), Vote: r.uint(), Commit: r.uint()},
		id:     r.uint(), owner: string(r.bytes()),
	}
}

func (r *reader) hardState() HardState {
	return HardState{Term: r.uint(), Vote: r.uint(), Commit: r.uint()}
}

func (r *reader) entry() *raftpb.Entry {
	index, term, typ, data := r.uint(), r.uint(), r.uint(), r.bytes()
	e := &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryType(typ).Enum()}
	if len(data) > 0 {
		e.Data = data
	}
	return e
}

// items is the content of one frame.
type items struct {
	origin *origin
	state  *HardState
	// entries alias the frame.
	entries []*raftpb.Entry
}

// parse reads the content of a frame.
func parse(plain []byte) (items, error) {
	var out items
	r := reader{b: plain}
	for len(r.b) > 0 && r.err == nil {
		kind := r.b[0]
		r.b = r.b[1:]
		switch kind {
		case itemOrigin:
			if out.origin != nil {
				return items{}, fmt.Errorf("%w: two origins", errItem)
			}
			o := r.origin()
			out.origin = &o
		case itemHardState:
			s := r.hardState()
			out.state = &s
		case itemEntry:
			out.entries = append(out.entries, r.entry())
		default:
			return items{}, fmt.Errorf("%w: kind %d", errItem, kind)
		}
	}
	return out, r.err
}
