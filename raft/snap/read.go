package snap

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"skep/raft/seal"
	"skep/vfs"
)

// maxFrame is more than any frame takes: those of the state have chunkBytes, and the
// metadata is small.
const maxFrame = 64 << 20

// Reader reads one snapshot's state.
type Reader struct {
	// Meta is the snapshot's metadata.
	Meta Meta

	name   string
	file   vfs.File
	box    *seal.Box
	key    seal.Key
	number uint32
	offset int64
	buf    []byte
	chunk  []byte // what is left of the present frame
	err    error
}

// Open opens the snapshot at index. Its error is a *seal.DamageError if the beginning of
// the file is not as it was written.
func (d Dir) Open(index uint64) (*Reader, error) {
	name := d.File(index)
	file, err := d.FS.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open raft snapshot: %w", err)
	}
	r := &Reader{name: name, file: file}
	if err := r.begin(d, index); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return r, nil
}

func (r *Reader) begin(d Dir, index uint64) error {
	header := make([]byte, seal.HeaderSize)
	n, err := io.ReadFull(r.file, header)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read raft snapshot %s: %w", r.name, err)
	}
	if r.box, r.key, err = d.keys().Open(kind(), header[:n]); err != nil {
		return kind().Damage(r.name, 0, err)
	}
	r.offset = seal.HeaderSize
	content, err := r.frame()
	if err != nil {
		return err
	}
	if err := r.Meta.unmarshal(content); err != nil {
		return kind().Damage(r.name, seal.HeaderSize, fmt.Errorf("its metadata cannot be read: %w", err))
	}
	if r.Meta.Index != index {
		return kind().Damage(r.name, seal.HeaderSize, fmt.Errorf("it is the snapshot at %d under another name", r.Meta.Index))
	}
	return nil
}

// frame reads the next frame.
func (r *Reader) frame() ([]byte, error) {
	r.buf = slices.Grow(r.buf[:0], seal.FrameHeaderSize)
	n, err := r.read(r.buf[:seal.FrameHeaderSize])
	if err != nil {
		return nil, err
	}
	frame, bad := r.box.Next(r.buf[:n])
	if errors.Is(bad, seal.ErrShort) && frame.Size > n && frame.Size <= maxFrame {
		r.buf = slices.Grow(r.buf[:n], frame.Size-n)
		more, err := r.read(r.buf[n:frame.Size])
		if err != nil {
			return nil, err
		}
		frame, bad = r.box.Next(r.buf[:n+more])
	}
	switch {
	case bad != nil:
		return nil, kind().Damage(r.name, r.offset, fmt.Errorf("the record is damaged: %w", bad))
	case frame.Number != r.number || frame.Tag > 1:
		return nil, kind().Damage(r.name, r.offset, fmt.Errorf("the record is number %d, want %d", frame.Number, r.number))
	}
	r.number++
	r.offset += int64(frame.Size)
	if frame.Tag == 1 {
		r.err = io.EOF
	}
	return frame.Plain, nil
}

// read fills b as far as the file goes.
func (r *Reader) read(b []byte) (int, error) {
	n, err := io.ReadFull(r.file, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return n, fmt.Errorf("read raft snapshot %s: %w", r.name, err)
	}
	return n, nil
}

// Read implements io.Reader. Its error is a *seal.DamageError if the file is not as it was
// written.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.chunk) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.chunk, r.err = r.next()
	}
	n := copy(p, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

// next returns the next frame's content, with io.EOF if it is the last.
func (r *Reader) next() ([]byte, error) {
	chunk, err := r.frame()
	if err != nil {
		return nil, err
	}
	return chunk, r.err
}

// Rewind makes the next Read begin again with the first byte of the state. The file may have
// lost its name since it was opened.
func (r *Reader) Rewind() error {
	if _, err := r.file.Seek(seal.HeaderSize, io.SeekStart); err != nil {
		return fmt.Errorf("read raft snapshot %s: %w", r.name, err)
	}
	r.number, r.offset, r.chunk, r.err = 0, seal.HeaderSize, nil, nil
	_, err := r.frame() // the metadata
	return err
}

// Close closes the file.
func (r *Reader) Close() error { return r.file.Close() }

// OldKeys returns the indexes of the snapshots that are not sealed with the current key.
// One whose beginning is damaged needs none.
func (d Dir) OldKeys() ([]uint64, error) {
	indexes, err := d.List()
	if err != nil {
		return nil, err
	}
	var old []uint64
	for _, index := range indexes {
		r, err := d.Open(index)
		var damage *seal.DamageError
		switch {
		case errors.Is(err, seal.ErrKey):
			old = append(old, index)
		case errors.As(err, &damage):
		case err != nil:
			return nil, err
		default:
			if r.key != d.keys().Current() {
				old = append(old, index)
			}
			if err := r.Close(); err != nil {
				return nil, fmt.Errorf("read raft snapshot %s: %w", r.name, err)
			}
		}
	}
	return old, nil
}

// Verify reads all of the snapshot at index and returns its metadata.
func (d Dir) Verify(index uint64) (Meta, error) {
	r, err := d.Open(index)
	if err != nil {
		return Meta{}, err
	}
	_, err = io.Copy(io.Discard, r)
	return r.Meta, errors.Join(err, r.Close())
}
