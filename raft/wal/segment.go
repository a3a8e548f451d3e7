package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"go.etcd.io/raft/v3/raftpb"

	"skep/raft/seal"
	"skep/vfs"
)

func kind() seal.Kind { return seal.Kind{Name: "raft log", Magic: "SKEPRLOG", Format: 1} }

const (
	suffix = ".log"
	// unfinished marks a segment that is being made.
	unfinished = ".tmp"
	// frameBytes is the content from which on a batch goes on in another frame.
	frameBytes = 1 << 20
)

func segmentPath(dir string, number uint64) string {
	return path.Join(dir, fmt.Sprintf("%016x%s", number, suffix))
}

// segmentNumber returns the number of the segment that is called name.
func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil && n > 0
}

// writer writes one segment.
type writer struct {
	file    vfs.File
	name    string
	segment uint64
	box     *seal.Box
	key     seal.Key
	number  uint32 // of the next frame
	offset  int64  // end of the last batch
	zeroed  int64  // up to where the file was written ahead
	zeros   []byte // what it is written ahead with
	content []byte // of the frame being made, kept for its space
}

// newWriter makes a segment with one batch in it, so that it gets its name only when all
// of that is durable.
func newWriter(cfg Config, number, batch uint64, content []byte, entries []*raftpb.Entry) (*writer, error) {
	name := segmentPath(cfg.Dir, number)
	key := cfg.Keys.Current()
	header, box, err := seal.New(kind(), key)
	if err != nil {
		return nil, err
	}
	file, err := cfg.FS.Create(name + unfinished)
	if err != nil {
		return nil, full(err, cfg.AheadBytes)
	}
	w := &writer{file: file, name: name, segment: number, box: box, key: key, zeros: make([]byte, cfg.AheadBytes)}
	if err := w.ahead(int64(len(header)) + batchSize(content, entries)); err != nil {
		// It should not take up the space that others lack.
		return nil, errors.Join(err, file.Close(), cfg.FS.Remove(name+unfinished))
	}
	err = w.write(w.frames(header, batch, content, entries))
	if err == nil {
		err = cfg.FS.Rename(name+unfinished, name)
	}
	if err != nil {
		// It has no name yet: nothing that was sealed in it is kept, and another attempt
		// seals with another nonce.
		return nil, errors.Join(full(err, cfg.AheadBytes), file.Close(), cfg.FS.Remove(name+unfinished))
	}
	if err := cfg.FS.SyncDir(cfg.Dir); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return w, nil
}

// frames appends a batch to dst: begin and entries in as many frames as it takes.
func (w *writer) frames(dst []byte, batch uint64, begin []byte, entries []*raftpb.Entry) []byte {
	w.content = append(w.content[:0], begin...)
	for _, e := range entries {
		if len(w.content) > 0 && len(w.content)+len(e.GetData()) > frameBytes {
			dst = w.frame(dst, batch<<1)
			w.content = w.content[:0]
		}
		w.content = appendEntry(w.content, e)
	}
	dst = w.frame(dst, batch<<1|1)
	if cap(w.content) > 4*frameBytes {
		w.content = nil // that was an exceptional entry
	}
	return dst
}

func (w *writer) frame(dst []byte, tag uint64) []byte {
	dst = w.box.Seal(dst, w.number, tag, w.content)
	w.number++
	return dst
}

// batchSize returns how many bytes a batch takes at most.
func batchSize(content []byte, entries []*raftpb.Entry) int64 {
	const fields = 1 + 4*binary.MaxVarintLen64 // of an entry, but its data
	size := int64(seal.FrameSize(len(content)))
	for _, e := range entries {
		size += int64(seal.FrameSize(fields + len(e.GetData()))) // as if it had a frame of its own
	}
	return size
}

// ahead writes zeros where the next size bytes will be. Space that is missing is noticed
// here, before a frame is sealed: no frame is ever made twice with one number.
func (w *writer) ahead(size int64) error {
	for end := w.offset + size; w.zeroed < end; w.zeroed += int64(len(w.zeros)) {
		if _, err := w.file.WriteAt(w.zeros, w.zeroed); err != nil {
			chunk := int64(len(w.zeros))
			return full(err, (end-w.zeroed+chunk-1)/chunk*chunk)
		}
	}
	return nil
}

// write writes b at the end, where zeros are, and syncs.
func (w *writer) write(b []byte) error {
	end := w.offset + int64(len(b))
	if _, err := w.file.WriteAt(b, w.offset); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	w.offset = end
	return nil
}
