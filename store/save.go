package store

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"skep/api"
	"skep/model"
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

// Restore replaces the state by a saved one. Subscribers are told to resync.
// With an error the state is as it was.
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
	s.seal()
	return s, nil
}

func (s *Snapshot) readRecords(r *bufio.Reader) error {
	var n uint64
	var lastKind Kind
	var lastID string
	var buf bytes.Buffer
	d := newDecoder()
	for {
		length, err := binary.ReadUvarint(r)
		if err != nil {
			return fmt.Errorf("read object %d: cut short: %w", n+1, err)
		}
		if length == 0 {
			break
		}
		if length > maxRecord {
			return fmt.Errorf("read object %d: it claims %d bytes, more than %d", n+1, length, maxRecord)
		}
		buf.Reset()
		if _, err := io.CopyN(&buf, r, int64(length)); err != nil { // grows with what comes, not with what is claimed
			return fmt.Errorf("read object %d: cut short: %w", n+1, err)
		}
		a, err := d.decodeAction(buf.Bytes())
		if err != nil {
			return fmt.Errorf("object %d: %w", n+1, err)
		}
		id := a.object.GetId()
		switch {
		case a.action != api.StoreActionKind_STORE_ACTION_CREATE:
			return fmt.Errorf("object %d: %s %s is not one to create", n+1, a.kind, id)
		case a.kind < lastKind, a.kind == lastKind && id <= lastID:
			return fmt.Errorf("object %d: %s %s is out of order", n+1, a.kind, id)
		}
		s.share(nil, a)
		d.remember(a)
		s.replace(a.kind, nil, a.object)
		lastKind, lastID = a.kind, id
		n++
	}
	want, err := binary.ReadUvarint(r)
	if err != nil {
		return fmt.Errorf("read the number of objects: %w", err)
	}
	if want != n {
		return fmt.Errorf("it has %d objects and says %d", n, want)
	}
	return nil
}
