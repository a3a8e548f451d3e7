package snap

import (
	"bufio"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"

	"skep/raft/seal"
	"skep/vfs"
)

// ErrFull is wrapped by errors of Adopt when the disk is full: the directory has no room for
// another name.
var ErrFull = errors.New("the disk is full")

// arriving marks a snapshot that is being received, or was, and has not taken its place.
const arriving = ".recv"

// Incoming is a snapshot that is written piece by piece. It is no snapshot before Adopt:
// List does not know it, Tidy leaves it alone, and Forsake removes what a process left of
// it. Its methods are called one at a time.
type Incoming struct {
	dir   Dir
	index uint64
	name  string
	file  vfs.File
	key   seal.Key
	w     *writer
	buf   *bufio.Writer
}

// Receive begins a snapshot whose state comes in pieces. Number tells apart those of one
// process. After an error of any method nothing is left of it.
func (d Dir) Receive(meta Meta, number uint64) (*Incoming, error) {
	s := &Incoming{dir: d, index: meta.Index, key: d.keys().Current()}
	s.name = path.Join(d.Path, fmt.Sprintf("%016x-%x%s", meta.Index, number, arriving))
	header, box, err := seal.New(kind(), s.key)
	if err != nil {
		return nil, err
	}
	content, err := meta.marshal()
	if err != nil {
		return nil, err
	}
	if s.file, err = d.FS.Create(s.name); err != nil {
		return nil, s.about(err)
	}
	s.w = &writer{file: s.file, box: box}
	s.buf = bufio.NewWriterSize(&chunks{w: s.w}, chunkBytes)
	if err := s.w.write(header); err != nil {
		return nil, s.fail(err)
	}
	if err := s.w.frame(content, 0); err != nil {
		return nil, s.fail(err)
	}
	return s, nil
}

// Key is what it is sealed with.
func (s *Incoming) Key() seal.Key { return s.key }

// Write takes the next piece of the state.
func (s *Incoming) Write(p []byte) (int, error) {
	n, err := s.buf.Write(p)
	if err != nil {
		return n, s.fail(err)
	}
	return n, nil
}

// Finish says that all of the state was written, and makes it durable.
func (s *Incoming) Finish() error {
	err := s.buf.Flush()
	if err == nil {
		err = s.w.frame(nil, 1)
	}
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		return s.fail(err)
	}
	err = s.file.Close()
	s.file = nil
	if err != nil {
		return s.fail(err)
	}
	return nil
}

// Adopt makes it the snapshot of its index, durably, after Finish. A failure may leave it
// either way; only after ErrFull nothing has changed, and it may be tried again.
func (s *Incoming) Adopt() error {
	err := s.dir.FS.Rename(s.name, s.dir.File(s.index))
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, s.about(err))
	}
	if err != nil {
		return s.about(err)
	}
	if err := s.dir.FS.SyncDir(s.dir.Path); err != nil {
		return s.about(err)
	}
	return nil
}

// Discard removes it.
func (s *Incoming) Discard() error {
	var err error
	if s.file != nil {
		err = s.file.Close()
		s.file = nil
	}
	return errors.Join(err, s.dir.FS.Remove(s.name))
}

func (s *Incoming) fail(err error) error { return errors.Join(s.about(err), s.Discard()) }

func (s *Incoming) about(err error) error {
	return fmt.Errorf("write raft snapshot %s, which another member sends: %w", s.name, err)
}

// Forsake removes what was received and never adopted. It is for the start of a process.
func (d Dir) Forsake() error {
	names, err := d.FS.List(d.Path)
	if err != nil {
		return fmt.Errorf("list raft snapshots: %w", err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, arriving) {
			continue
		}
		if err := d.FS.Remove(path.Join(d.Path, name)); err != nil {
			return fmt.Errorf("remove a raft snapshot that was not received whole: %w", err)
		}
	}
	return nil
}
