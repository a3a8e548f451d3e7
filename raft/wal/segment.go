package wal

import (
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
	number  uint32 // of the next frame
	offset  int64  // end of the last batch
	zeroed  int64  // up to where the file was written ahead
}

// newWriter makes a segment with one batch in it, so that it gets its name only when all
// of that is durable.
func newWriter(cfg Config, number, batch uint64, content []byte, entries []*raftpb.Entry) (*writer, error) {
	name := segmentPath(cfg.Dir, number)
	header, box, err := seal.New(kind(), cfg.Key)
	if err != nil {
		return nil, err
	}
	file, err := cfg.FS.Create(name + unfinished)
	if err != nil {
		return nil, err
	}
	w := &writer{file: file, name: name, segment: number, box: box}
	err = w.write(w.frames(header, batch, content, entries), cfg.AheadBytes)
	if err == nil {
		err = cfg.FS.Rename(name+unfinished, name)
	}
	if err == nil {
		err = cfg.FS.SyncDir(cfg.Dir)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return w, nil
}

// frames appends a batch to dst: content and entries in as many frames as it takes.
func (w *writer) frames(dst []byte, batch uint64, content []byte, entries []*raftpb.Entry) []byte {
	for _, e := range entries {
		if len(content) > 0 && len(content)+len(e.GetData()) > frameBytes {
			dst = w.frame(dst, batch<<1, content)
			content = content[:0]
		}
		content = appendEntry(content, e)
	}
	return w.frame(dst, batch<<1|1, content)
}

func (w *writer) frame(dst []byte, tag uint64, content []byte) []byte {
	dst = w.box.Seal(dst, w.number, tag, content)
	w.number++
	return dst
}

// write writes b at the end and syncs.
func (w *writer) write(b []byte, ahead int64) error {
	end := w.offset + int64(len(b))
	if end > w.zeroed {
		n := (end - w.zeroed + ahead - 1) / ahead * ahead
		if _, err := w.file.WriteAt(make([]byte, n), w.zeroed); err != nil {
			return err
		}
		w.zeroed += n
	}
	if _, err := w.file.WriteAt(b, w.offset); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	w.offset = end
	return nil
}
