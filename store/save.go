package store

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"

	"skep/api"
	"skep/model"
	"skep/store/hamt"
)

// The form of a saved state: magic, format, version of the last transaction;
// then a record for each object, in the order of kinds and IDs, which is a
// StoreAction behind its length; then a zero and the number of records, so that
// a stream that was cut short is not taken for a smaller state.
const (
	magic     = "skepstor"
	format    = 1
	maxRecord = 64 << 20
)

// WriteTo writes the state; equal states are written as equal bytes. In memory
// it holds the encoding of one object, and the order of one kind's objects at
// sixteen bytes each.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	out := &counter{w: w}
	b := bufio.NewWriterSize(out, 64<<10)
	b.WriteString(magic) // errors stay with b until Flush
	b.Write(binary.AppendUvarint(nil, format))
	b.Write(binary.AppendUvarint(nil, s.version))
	n, err := s.writeRecords(b)
	if err != nil {
		return out.n, err
	}
	b.Write(binary.AppendUvarint(nil, 0))
	b.Write(binary.AppendUvarint(nil, n))
	err = b.Flush()
	return out.n, err
}

func (s *Snapshot) writeRecords(w io.Writer) (n uint64, err error) {
	e := newEncoder()
	var length []byte
	for kind, t := range s.tables() {
		objects := slices.AppendSeq(make([]Object, 0, t.count()), t.all())
		slices.SortFunc(objects, func(a, b Object) int { return cmp.Compare(a.GetId(), b.GetId()) })
		for _, o := range objects {
			record, err := e.encodeAction(api.StoreActionKind_STORE_ACTION_CREATE, kind, o)
			if err != nil {
				return n, fmt.Errorf("save %s %s: %w", kind, o.GetId(), err)
			}
			length = binary.AppendUvarint(length[:0], uint64(len(record)))
			if _, err := w.Write(length); err != nil {
				return n, err
			}
			if _, err := w.Write(record); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Restore replaces the state by a saved one, behind which nothing may follow. Subscribers
// are told to resync. With an error the state is as it was.
func (s *Store) Restore(r io.Reader) error {
	next, err := load(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		return fmt.Errorf("restore the state: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committed.Store(next)
	s.metrics.replaced(next)
	s.feed.replaced()
	s.strand(model.Unknown, lostInFlight) // it may be in there, or not
	s.rebase()
	return nil
}

func load(r *bufio.Reader) (*Snapshot, error) {
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	if string(head) != magic {
		return nil, fmt.Errorf("it begins with %q: this is not a saved state", head)
	}
	f, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, fmt.Errorf("read the format: %w", err)
	}
	if f != format {
		return nil, fmt.Errorf("it has format %d, this version reads %d: a newer version wrote it", f, format)
	}
	version, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, fmt.Errorf("read the version: %w", err)
	}
	s := empty().begin()
	s.version = version
	if err := s.readRecords(r); err != nil {
		return nil, err
	}
	switch _, err := r.ReadByte(); {
	case err == nil:
		return nil, errors.New("something follows the state")
	case !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("read the end: %w", err)
	}
	s.seal()
	return s, nil
}

// readRecords decodes on as many goroutines as there are processors, and makes the tasks'
// tables when all are there: that is most of what a manager does when it starts.
func (s *Snapshot) readRecords(r *bufio.Reader) error {
	var last decoded
	var tasks []*api.Task
	d := newDecoder()
	for b := range ahead(readBatches(r), recordBatch.decode) {
		for i := range b.actions {
			a := &b.actions[i]
			if err := a.follows(&last); err != nil {
				return fmt.Errorf("object %d: %w", b.first+uint64(i), err)
			}
			if err := d.complete(a); err != nil {
				return fmt.Errorf("object %d: %w", b.first+uint64(i), err)
			}
			s.share(nil, *a)
			if t, ok := a.object.(*api.Task); ok {
				tasks = append(tasks, t)
			} else {
				s.replace(a.kind, nil, a.object)
			}
			last = *a
		}
		if b.err != nil {
			return b.err
		}
	}
	s.fill(tasks)
	return nil
}

// follows reports whether a may stand behind another record.
func (a *decoded) follows(last *decoded) error {
	id := a.object.GetId()
	switch {
	case a.action != api.StoreActionKind_STORE_ACTION_CREATE:
		return fmt.Errorf("%s %s is not one to create", a.kind, id)
	case a.kind < last.kind, a.kind == last.kind && id <= last.object.GetId():
		return fmt.Errorf("%s %s is out of order", a.kind, id)
	}
	return nil
}

// recordBatch is records that are decoded together.
type recordBatch struct {
	first   uint64 // the number of the first, from 1
	data    []byte // of all, one behind the other
	ends    []int
	actions []decoded
	err     error // of what comes behind the records, or behind the actions
}

const (
	// batchBytes is how much is decoded at a time.
	batchBytes = 128 << 10
	// usualRecord is more than most records have.
	usualRecord = 4 << 10
)

// readBatches yields all records.
func readBatches(r *bufio.Reader) iter.Seq[recordBatch] {
	return func(yield func(recordBatch) bool) {
		for first, more := uint64(1), true; more; {
			b := recordBatch{first: first, data: make([]byte, 0, batchBytes+usualRecord)}
			more = b.read(r)
			first += uint64(len(b.ends))
			if !yield(b) {
				return
			}
		}
	}
}

// read takes as many records as make a batch. It reports false at the end.
func (b *recordBatch) read(r *bufio.Reader) (more bool) {
	for len(b.data) < batchBytes {
		n := b.first + uint64(len(b.ends))
		length, err := binary.ReadUvarint(r)
		switch {
		case err != nil:
			b.err = fmt.Errorf("read object %d: cut short: %w", n, err)
		case length == 0:
			b.err = readEnd(r, n-1)
		case length > maxRecord:
			b.err = fmt.Errorf("read object %d: it claims %d bytes, more than %d", n, length, maxRecord)
		default:
			if b.data, err = appendFrom(b.data, r, int(length)); err == nil {
				b.ends = append(b.ends, len(b.data))
				continue
			}
			b.err = fmt.Errorf("read object %d: cut short: %w", n, err)
		}
		return false
	}
	return true
}

// appendFrom appends n bytes. It grows with what comes, not with what is claimed.
func appendFrom(b []byte, r io.Reader, n int) ([]byte, error) {
	for n > 0 {
		at, some := len(b), min(n, batchBytes)
		b = slices.Grow(b, some)[:at+some]
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return b, err
		}
		n -= some
	}
	return b, nil
}

func readEnd(r *bufio.Reader, n uint64) error {
	want, err := binary.ReadUvarint(r)
	if err != nil {
		return fmt.Errorf("read the number of objects: %w", err)
	}
	if want != n {
		return fmt.Errorf("it has %d objects and says %d", n, want)
	}
	return nil
}

// decode decodes the records.
func (b recordBatch) decode() recordBatch {
	var room scratch
	b.actions = make([]decoded, 0, len(b.ends))
	from := 0
	for i, end := range b.ends {
		a, err := room.decodeAction(b.data[from:end])
		if err != nil {
			b.err = fmt.Errorf("object %d: %w", b.first+uint64(i), err)
			break
		}
		b.actions = append(b.actions, a)
		from = end
	}
	return b
}

// fill makes the tables of the tasks.
func (s *Snapshot) fill(tasks []*api.Task) {
	var group sync.WaitGroup
	group.Go(func() {
		s.Tasks.objects = hamt.Collect(xxhash.Sum64String, len(tasks), func(yield func(string, *api.Task) bool) {
			for _, t := range tasks {
				if !yield(t.Id, t) {
					return
				}
			}
		})
	})
	group.Go(func() { s.byService = collect(xxhash.Sum64String, tasks, (*api.Task).GetServiceId) })
	group.Go(func() { s.byNode = collect(xxhash.Sum64String, tasks, (*api.Task).GetNodeId) })
	group.Go(func() { s.bySlot = collect(hashSlot, tasks, slotOf) })
	group.Wait()
}
