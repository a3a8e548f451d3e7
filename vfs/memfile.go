package vfs

import (
	"io"
	"io/fs"
	"path"
	"sync"
	"syscall"
	"time"
)

// memFile is an open file of a Mem. Its offset has a lock of its own, as the
// kernel's has; everything else is under the lock of the file system.
type memFile struct {
	fs       *Mem
	node     *inode
	writable bool

	mu     sync.Mutex
	offset int64
	closed bool
}

// write changes the content of a file, with the lock held.
func (m *Mem) write(n *inode, w write) {
	before := len(n.data)
	n.data = w.apply(n.data)
	n.writes = append(n.writes, w)
	n.modified = time.Now()
	m.used += int64(len(n.data) - before)
}

// room returns how much of a write of size bytes at off fits, with the lock held.
func (m *Mem) room(n *inode, off int64, size int) int {
	if m.capacity == 0 {
		return size
	}
	grow := off + int64(size) - int64(len(n.data))
	free := max(m.capacity-m.used, 0)
	if grow <= free {
		return size
	}
	return max(size-int(grow-free), 0)
}

// fail returns the error of an operation, with the lock of the file system not held.
func (f *memFile) fail(op Op, err error) error {
	return pathError(op, f.name(), err)
}

func pathError(op Op, name string, err error) error {
	return &fs.PathError{Op: op.String(), Path: name, Err: err}
}

// name returns the name that the file has now: a rule or a trace goes by that.
func (f *memFile) name() string {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.node.name
}

// usable checks that the file is open, and writable if that matters.
func (f *memFile) usable(write bool) error {
	switch {
	case f.closed:
		return fs.ErrClosed
	case write && !f.writable:
		return syscall.EBADF
	case f.node.isDir:
		return syscall.EISDIR
	}
	return nil
}

func (f *memFile) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.readAt(p, f.offset)
	f.offset += int64(n)
	if n > 0 && err == io.EOF { //nolint:errorlint // our own, bare
		err = nil
	}
	return n, err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.readAt(p, off)
}

func (f *memFile) readAt(p []byte, off int64) (int, error) {
	if err := f.usable(false); err != nil {
		return 0, f.fail(OpRead, err)
	}
	if off < 0 {
		return 0, f.fail(OpRead, syscall.EINVAL)
	}
	if err := f.fs.before(OpRead, f.name()); err != nil {
		return 0, f.fail(OpRead, err)
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.writeAt(p, f.offset)
	f.offset += int64(n)
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writeAt(p, off)
}

func (f *memFile) writeAt(p []byte, off int64) (int, error) {
	if err := f.usable(true); err != nil {
		return 0, f.fail(OpWrite, err)
	}
	if off < 0 {
		return 0, f.fail(OpWrite, syscall.EINVAL)
	}
	err := f.fs.before(OpWrite, f.name())
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err != nil {
		p = p[:len(p)/2] // a failed write may have been half done
	}
	if n := f.fs.room(f.node, off, len(p)); n < len(p) {
		p = p[:n]
		if err == nil {
			err = syscall.ENOSPC
		}
	}
	if len(p) > 0 {
		f.fs.write(f.node, write{off: off, data: append([]byte(nil), p...)})
	}
	if err != nil {
		return len(p), pathError(OpWrite, f.node.name, err)
	}
	return len(p), nil
}

func (f *memFile) Seek(offset int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.usable(false); err != nil {
		return 0, f.fail(OpRead, err)
	}
	switch whence {
	case io.SeekCurrent:
		offset += f.offset
	case io.SeekEnd:
		f.fs.mu.Lock()
		offset += int64(len(f.node.data))
		f.fs.mu.Unlock()
	}
	if offset < 0 {
		return 0, f.fail(OpRead, syscall.EINVAL)
	}
	f.offset = offset
	return offset, nil
}

func (f *memFile) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.usable(true); err != nil {
		return f.fail(OpTruncate, err)
	}
	if size < 0 {
		return f.fail(OpTruncate, syscall.EINVAL)
	}
	if err := f.fs.before(OpTruncate, f.name()); err != nil {
		return f.fail(OpTruncate, err)
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.write(f.node, write{off: size, truncate: true})
	return nil
}

// Sync makes durable what was written before it was called; a write that comes
// while a slow sync lasts is not part of it.
func (f *memFile) Sync() error {
	f.mu.Lock()
	err := f.usable(false)
	f.mu.Unlock()
	if err != nil {
		return f.fail(OpSync, err)
	}
	f.fs.mu.Lock()
	covered := len(f.node.writes)
	f.fs.mu.Unlock()
	err = f.fs.before(OpSync, f.name())
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n := f.node
	covered = min(covered, len(n.writes)) // another sync may have been faster
	if err != nil {
		for i := range n.writes[:covered] {
			n.writes[i].doomed = true
		}
		return pathError(OpSync, n.name, err)
	}
	for _, w := range n.writes[:covered] {
		if !w.doomed {
			n.durable = w.apply(n.durable)
		}
	}
	n.writes = append([]write(nil), n.writes[covered:]...)
	return nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, f.fail(OpStat, fs.ErrClosed)
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.node.info(path.Base(f.node.name)), nil
}

func (f *memFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.fail(OpClose, fs.ErrClosed)
	}
	f.closed = true
	return nil
}

// memInfo describes a file as it was when it was asked about.
type memInfo struct {
	name     string
	size     int64
	isDir    bool
	modified time.Time
}

func (n *inode) info(name string) memInfo {
	return memInfo{name: name, size: int64(len(n.data)), isDir: n.isDir, modified: n.modified}
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return i.modified }
func (i memInfo) IsDir() bool        { return i.isDir }
func (i memInfo) Sys() any           { return nil }

func (i memInfo) Mode() fs.FileMode {
	if i.isDir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
