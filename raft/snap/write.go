package snap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"skep/raft/seal"
	"skep/vfs"
)

// Dir is a directory of snapshots.
type Dir struct {
	FS   vfs.FS
	Path string
	// Key is the data encryption key. Keys, if it is set, takes its place: a snapshot is
	// sealed with the current key of the ring and read with any of them.
	Key  seal.Key
	Keys *seal.Ring
}

func (d Dir) keys() *seal.Ring {
	if d.Keys != nil {
		return d.Keys
	}
	return seal.NewRing(d.Key)
}

func kind() seal.Kind { return seal.Kind{Name: "raft snapshot", Magic: "SKEPSNAP", Format: 1} }

const (
	suffix     = ".snap"
	unfinished = ".tmp"
	// chunkBytes is how much of the state a frame holds at most.
	chunkBytes = 256 << 10
	// syncBytes is how much is written between two syncs: one sync of a large file
	// at the end would hold up those of the log.
	syncBytes = 1 << 20
)

// File returns the name of the file for a snapshot.
func (d Dir) File(index uint64) string {
	return path.Join(d.Path, fmt.Sprintf("%016x%s", index, suffix))
}

// Write makes a snapshot of what write writes, and returns its size. It exists when
// Write returned nil. After an error it may exist, or a file that Tidy removes.
func (d Dir) Write(meta Meta, write func(io.Writer) error) (int64, error) {
	name := d.File(meta.Index)
	size, err := d.write(name, meta, write)
	if err != nil {
		return 0, fmt.Errorf("write raft snapshot %s: %w", name, err)
	}
	return size, nil
}

func (d Dir) write(name string, meta Meta, write func(io.Writer) error) (size int64, err error) {
	header, box, err := seal.New(kind(), d.keys().Current())
	if err != nil {
		return 0, err
	}
	content, err := meta.marshal()
	if err != nil {
		return 0, err
	}
	file, err := d.FS.Create(name + unfinished)
	if err != nil {
		return 0, err
	}
	w := &writer{file: file, box: box}
	err = w.write(header)
	if err == nil {
		err = w.frame(content, 0)
	}
	if err == nil {
		err = w.state(write)
	}
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		// What could not be written should not take up the space it lacked.
		return 0, errors.Join(err, d.FS.Remove(name+unfinished))
	}
	if err := d.FS.Rename(name+unfinished, name); err != nil {
		return 0, err
	}
	return w.size, d.FS.SyncDir(d.Path)
}

// writer writes frames to a file.
type writer struct {
	file   vfs.File
	box    *seal.Box
	number uint32
	sealed []byte
	size   int64
	synced int64
}

func (w *writer) write(b []byte) error {
	if _, err := w.file.Write(b); err != nil {
		return err
	}
	if w.size += int64(len(b)); w.size-w.synced < syncBytes {
		return nil
	}
	w.synced = w.size
	return w.file.Sync()
}

func (w *writer) frame(content []byte, tag uint64) error {
	w.sealed = w.box.Seal(w.sealed[:0], w.number, tag, content)
	w.number++
	return w.write(w.sealed)
}

// state writes the frames after the first.
func (w *writer) state(write func(io.Writer) error) error {
	chunks := &chunks{w: w}
	buffered := bufio.NewWriterSize(chunks, chunkBytes)
	if err := write(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return w.frame(nil, 1)
}

// chunks makes a frame of each write, or several of a large one.
type chunks struct{ w *writer }

func (c *chunks) Write(p []byte) (int, error) {
	n := 0
	for chunk := range slices.Chunk(p, chunkBytes) {
		if err := c.w.frame(chunk, 0); err != nil {
			return n, err
		}
		n += len(chunk)
	}
	return n, nil
}

// List returns the indexes of all snapshots, the newest first.
func (d Dir) List() ([]uint64, error) {
	names, err := d.FS.List(d.Path)
	if err != nil {
		return nil, fmt.Errorf("list raft snapshots: %w", err)
	}
	var indexes []uint64
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, suffix)
		if !ok || len(digits) != 16 {
			continue
		}
		if index, err := strconv.ParseUint(digits, 16, 64); err == nil {
			indexes = append(indexes, index)
		}
	}
	slices.Sort(indexes)
	slices.Reverse(indexes)
	return indexes, nil
}

// Tidy removes all snapshots but those with the indexes in keep, and what was not
// finished.
func (d Dir) Tidy(keep ...uint64) error {
	names, err := d.FS.List(d.Path)
	if err != nil {
		return fmt.Errorf("list raft snapshots: %w", err)
	}
	removed := false
	for _, name := range names {
		digits, isSnapshot := strings.CutSuffix(name, suffix)
		index, err := strconv.ParseUint(digits, 16, 64)
		if isSnapshot && (err != nil || slices.Contains(keep, index)) || !isSnapshot && !strings.HasSuffix(name, suffix+unfinished) {
			continue
		}
		if err := d.FS.Remove(path.Join(d.Path, name)); err != nil {
			return fmt.Errorf("remove an old raft snapshot: %w", err)
		}
		removed = true
	}
	if !removed {
		return nil
	}
	if err := d.FS.SyncDir(d.Path); err != nil {
		return fmt.Errorf("remove old raft snapshots: %w", err)
	}
	return nil
}
