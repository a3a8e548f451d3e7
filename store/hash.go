package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/cespare/xxhash/v2"
)

// Hash returns a digest of every object in the state. Managers that applied the
// same entries have the same one. It costs what writing the state costs.
func (s *Snapshot) Hash() ([sha256.Size]byte, error) {
	h := sha256.New()
	if _, err := s.writeRecords(h); err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("hash the state: %w", err)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// Digest is a digest of a state that is made from the digest of another one: it costs what
// the two differ in. Equal states have equal digests, whatever their history and wherever
// they were applied or restored. It finds what went wrong, not what was forged. The zero
// Digest is that of the empty state.
type Digest struct {
	of *Snapshot
	// sums are, modulo 2^64, those of two hashes of each object.
	sums [2]uint64
}

// digestFormat is what the bytes of a digest begin with. It changes with what is hashed: the
// order of kinds, how objects are encoded.
const digestFormat = 1

// Bytes returns the digest as it is compared: only with one that has the same first byte.
func (d Digest) Bytes() []byte {
	b := []byte{digestFormat}
	b = binary.BigEndian.AppendUint64(b, d.sums[0])
	return binary.BigEndian.AppendUint64(b, d.sums[1])
}

// Comparable reports whether two digests, as bytes, say something about each other.
func Comparable(a, b []byte) bool { return len(a) > 0 && len(b) > 0 && a[0] == b[0] }

// Next returns the digest of s.
func (d Digest) Next(s *Snapshot) (Digest, error) {
	return d.NextAtEase(s, func() error { return nil })
}

// NextAtEase is Next for whoever has time: rest is called after each object that differs, and
// may wait. Its error ends the work and is returned.
func (d Digest) NextAtEase(s *Snapshot, rest func() error) (Digest, error) {
	from := d.of
	if from == nil {
		from = empty()
	}
	h := hasher{encoder: newEncoder(), sums: d.sums}
	for kind, t := range s.tables() {
		for old, new := range t.since(from.table(kind)) {
			if err := h.add(kind, old, false); err != nil {
				return d, err
			}
			if err := h.add(kind, new, true); err != nil {
				return d, err
			}
			if err := rest(); err != nil {
				return d, err
			}
		}
	}
	return Digest{of: s, sums: h.sums}, nil
}

type hasher struct {
	encoder *encoder
	sums    [2]uint64
	seeded  xxhash.Digest
}

// add adds an object, if it is one, or takes it off again.
func (h *hasher) add(kind Kind, o Object, is bool) error {
	if o == nil {
		return nil
	}
	b, err := h.encoder.encodeObject(o)
	if err != nil {
		return fmt.Errorf("hash %s %s: %w", kind, o.GetId(), err)
	}
	h.encoder.object = b
	for i := range h.sums {
		h.seeded.ResetWithSeed(uint64(kind)<<1 | uint64(i))
		_, _ = h.seeded.Write(b) // never fails
		if is {
			h.sums[i] += h.seeded.Sum64()
		} else {
			h.sums[i] -= h.seeded.Sum64()
		}
	}
	return nil
}

// since yields what differs from old, a table of the same kind: what was there and what is,
// nil for nothing.
func (t *Table[T]) since(old table) iter.Seq2[Object, Object] {
	return func(yield func(Object, Object) bool) {
		same := func(a, b T) bool { return Object(a) == Object(b) }
		for _, d := range t.objects.Since(old.(*Table[T]).objects, same) {
			if !yield(orNil(d.Old, d.HadOld), orNil(d.New, d.HasNew)) {
				return
			}
		}
	}
}

func orNil[T Object](o T, there bool) Object {
	if !there {
		return nil
	}
	return o
}
