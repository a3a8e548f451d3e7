package vfs

import (
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Mem is a file system in memory that keeps apart what a program sees and what a
// power cut would leave. It is a real implementation of FS for tests and
// simulations: see [Mem.Crash], [Mem.CrashImages], [Mem.Inject], [Mem.SetCapacity]
// and [Mem.Trace]. Its root directory exists; "a" and "/a" are the same file.
type Mem struct {
	mu       sync.Mutex
	root     *inode
	faults   []*Fault
	trace    func(Op, string)
	capacity int64 // 0: unlimited
	used     int64
}

// NewMem returns an empty file system.
func NewMem() *Mem { return &Mem{root: newDir()} }

// inode is a file or a directory: what is seen, what is durable, and the
// operations that lead from the durable state to the seen one.
type inode struct {
	isDir    bool
	name     string // of a file: the last one it was given
	modified time.Time

	data    []byte
	durable []byte
	writes  []write

	names        map[string]*inode
	durableNames map[string]*inode
	changes      []change
}

// write is one change of a file's content: data at off, or, if truncate is set, a
// new size off.
type write struct {
	off      int64
	data     []byte
	truncate bool
	// doomed writes were pending when a sync failed: the kernel may have dropped
	// them, and no later sync makes them durable.
	doomed bool
}

// change is one change of a directory: a name removed, a name given, or both at
// once, which is a rename.
type change struct {
	remove string
	add    string
	node   *inode
}

func newDir() *inode {
	return &inode{isDir: true, modified: time.Now(), names: map[string]*inode{}, durableNames: map[string]*inode{}}
}

func (w write) apply(b []byte) []byte {
	if w.truncate {
		return resize(b, w.off)
	}
	if end := w.off + int64(len(w.data)); end > int64(len(b)) {
		b = resize(b, end)
	}
	copy(b[w.off:], w.data)
	return b
}

func resize(b []byte, size int64) []byte {
	n := int(size)
	if n <= len(b) {
		clear(b[n:]) // what is cut off reads as zeros when the file grows again
		return b[:n]
	}
	if n <= cap(b) {
		return b[:n]
	}
	return append(b, make([]byte, n-len(b))...)
}

func (c change) apply(names map[string]*inode) {
	if c.remove != "" {
		delete(names, c.remove)
	}
	if c.add != "" {
		names[c.add] = c.node
	}
}

func (n *inode) change(c change) {
	c.apply(n.names)
	n.changes = append(n.changes, c)
	n.modified = time.Now()
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// find returns the inode of a cleaned name.
func (m *Mem) find(name string) (*inode, error) {
	n := m.root
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			continue
		}
		if !n.isDir {
			return nil, syscall.ENOTDIR
		}
		next, ok := n.names[part]
		if !ok {
			return nil, syscall.ENOENT
		}
		n = next
	}
	return n, nil
}

// parent returns the directory that holds a cleaned name, and the name in it.
func (m *Mem) parent(name string) (*inode, string, error) {
	dir, base := path.Split(name)
	if base == "" {
		return nil, "", syscall.EINVAL
	}
	d, err := m.find(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return nil, "", err
	}
	if !d.isDir {
		return nil, "", syscall.ENOTDIR
	}
	return d, base, nil
}

// do runs f under the lock after faults and trace had their say.
func (m *Mem) do(op Op, name string, f func(name string) error) error {
	name = clean(name)
	err := m.before(op, name)
	if err == nil {
		m.mu.Lock()
		err = f(name)
		m.mu.Unlock()
	}
	if err != nil {
		return pathError(op, name, err)
	}
	return nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	var file *memFile
	err := m.do(OpCreate, name, func(name string) error {
		d, base, err := m.parent(name)
		if err != nil {
			return err
		}
		n, ok := d.names[base]
		switch {
		case !ok:
			n = &inode{name: name, modified: time.Now()}
			d.change(change{add: base, node: n})
		case n.isDir:
			return syscall.EISDIR
		default:
			m.write(n, write{truncate: true})
		}
		file = &memFile{fs: m, node: n, writable: true}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenReadWrite implements FS.
func (m *Mem) OpenReadWrite(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, writable bool) (File, error) {
	var file *memFile
	err := m.do(OpOpen, name, func(name string) error {
		n, err := m.find(name)
		if err != nil {
			return err
		}
		if n.isDir && writable {
			return syscall.EISDIR
		}
		file = &memFile{fs: m, node: n, writable: writable}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	return m.do(OpRemove, name, func(name string) error {
		d, base, err := m.parent(name)
		if err != nil {
			return err
		}
		n, ok := d.names[base]
		if !ok {
			return syscall.ENOENT
		}
		if n.isDir && len(n.names) > 0 {
			return syscall.ENOTEMPTY
		}
		m.unlink(d, base, n)
		return nil
	})
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	return m.do(OpRemove, name, func(name string) error {
		d, base, err := m.parent(name)
		if err == syscall.ENOENT { //nolint:errorlint // find returns it bare
			return nil
		}
		if err != nil {
			return err
		}
		if n, ok := d.names[base]; ok {
			m.unlink(d, base, n)
		}
		return nil
	})
}

func (m *Mem) unlink(d *inode, base string, n *inode) {
	m.used -= n.size()
	d.change(change{remove: base})
}

// size is the space that an inode and all below it take.
func (n *inode) size() int64 {
	size := int64(len(n.data))
	for _, child := range n.names {
		size += child.size()
	}
	return size
}

// Rename implements FS. A rename to another directory is two changes, of which a
// crash may leave either.
func (m *Mem) Rename(oldname, newname string) error {
	newname = clean(newname)
	return m.do(OpRename, oldname, func(oldname string) error {
		from, oldbase, err := m.parent(oldname)
		if err != nil {
			return err
		}
		to, newbase, err := m.parent(newname)
		if err != nil {
			return err
		}
		n, ok := from.names[oldbase]
		if !ok {
			return syscall.ENOENT
		}
		if target, ok := to.names[newbase]; ok {
			switch {
			case target == n:
				return nil
			case target.isDir && !n.isDir:
				return syscall.EISDIR
			case n.isDir && !target.isDir:
				return syscall.ENOTDIR
			case len(target.names) > 0:
				return syscall.ENOTEMPTY
			}
			m.used -= target.size()
		}
		n.name = newname
		if from == to {
			from.change(change{remove: oldbase, add: newbase, node: n})
			return nil
		}
		to.change(change{add: newbase, node: n})
		from.change(change{remove: oldbase})
		return nil
	})
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string, _ fs.FileMode) error {
	return m.do(OpMkdir, dir, func(dir string) error {
		n := m.root
		for part := range strings.SplitSeq(dir, "/") {
			if part == "" {
				continue
			}
			next, ok := n.names[part]
			if !ok {
				next = newDir()
				n.change(change{add: part, node: next})
			}
			if !next.isDir {
				return syscall.ENOTDIR
			}
			n = next
		}
		return nil
	})
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	return m.do(OpSyncDir, dir, func(dir string) error {
		n, err := m.find(dir)
		if err != nil {
			return err
		}
		if !n.isDir {
			return syscall.ENOTDIR
		}
		for _, c := range n.changes {
			c.apply(n.durableNames)
		}
		n.changes = nil
		return nil
	})
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	var names []string
	err := m.do(OpList, dir, func(dir string) error {
		n, err := m.find(dir)
		if err != nil {
			return err
		}
		if !n.isDir {
			return syscall.ENOTDIR
		}
		for name := range n.names {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil
	})
	return names, err
}

// Stat implements FS.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	var info fs.FileInfo
	err := m.do(OpStat, name, func(name string) error {
		n, err := m.find(name)
		if err != nil {
			return err
		}
		info = n.info(path.Base(name))
		return nil
	})
	return info, err
}

// SetCapacity bounds the bytes of all files together. A write beyond it writes what
// fits and fails with ENOSPC. Zero takes the bound away.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Used returns how many bytes all files that have a name take together.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}
