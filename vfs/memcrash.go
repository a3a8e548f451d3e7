package vfs

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
)

// sector is the unit that a disk writes or does not write.
const sector = 512

// Copy returns the file system as programs see it, all of it durable: what is left
// when a process is killed and the machine goes on.
func (m *Mem) Copy() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.image(func(n *inode) []byte { return n.data }, func(n *inode) map[string]*inode { return n.names })
}

// Crash returns one state that a power cut at this moment may leave, chosen by r.
// Of what was not synced any part may be there: writes of a file in any
// combination, each whole, cut short at a byte, or with sectors missing; and so may
// names that were given and taken. The file system itself goes on.
func (m *Mem) Crash(r *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.image(
		func(n *inode) []byte {
			b := slices.Clone(n.durable)
			keep := r.Float64()
			for _, w := range n.writes {
				switch {
				case r.Float64() < keep:
					b = w.apply(b)
				case w.truncate || len(w.data) == 0 || r.IntN(2) == 0:
				case r.IntN(2) == 0:
					b = w.prefix(r.IntN(len(w.data))).apply(b)
				default:
					for _, part := range w.sectors() {
						if r.IntN(2) == 0 {
							b = part.apply(b)
						}
					}
				}
			}
			return b
		},
		func(n *inode) map[string]*inode {
			names := maps.Clone(n.durableNames)
			keep := r.Float64()
			for _, c := range n.changes {
				if r.Float64() < keep {
					c.apply(names)
				}
			}
			return names
		})
}

// CrashImages enumerates the states that a power cut at this moment may leave, each
// with a line that says which it is. For one file they are: every subset of the
// writes that were not synced (if there are more than six: every prefix, and every
// prefix without one of them); and, with all before it present, each write cut
// short at every byte (of a write over 4 KiB: near its ends and the sector borders),
// and with every subset of its sectors (of more than six: each one alone, and each
// one missing). For a directory they are the subsets of its changes. The states of
// several files and directories are combined, so leave little that is not synced.
func (m *Mem) CrashImages() iter.Seq2[string, *Mem] {
	return func(yield func(string, *Mem) bool) {
		m.mu.Lock()
		var nodes []*inode
		choices := map[*inode][]choice{}
		m.root.walk(map[*inode]bool{}, "", func(name string, n *inode) {
			if c := n.choices(name); len(c) > 1 {
				nodes = append(nodes, n)
				choices[n] = c
			}
		})
		m.mu.Unlock()
		picked := map[*inode]choice{}
		var each func(i int) bool
		each = func(i int) bool {
			if i == len(nodes) {
				var says []string
				for _, n := range nodes {
					says = append(says, picked[n].says)
				}
				return yield(strings.Join(says, "; "), m.pick(picked))
			}
			for _, c := range choices[nodes[i]] {
				picked[nodes[i]] = c
				if !each(i + 1) {
					return false
				}
			}
			return true
		}
		each(0)
	}
}

// choice is one state that a crash may leave of an inode: what it is in words, and
// which operations happened.
type choice struct {
	says    string
	writes  []write
	changes []change
}

func (m *Mem) pick(picked map[*inode]choice) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.image(
		func(n *inode) []byte {
			b := slices.Clone(n.durable)
			for _, w := range picked[n].writes {
				b = w.apply(b)
			}
			return b
		},
		func(n *inode) map[string]*inode {
			names := maps.Clone(n.durableNames)
			for _, c := range picked[n].changes {
				c.apply(names)
			}
			return names
		})
}

// walk visits every inode that some crash image may contain.
func (n *inode) walk(seen map[*inode]bool, name string, visit func(string, *inode)) {
	if seen[n] {
		return
	}
	seen[n] = true
	visit(name, n)
	if !n.isDir {
		return
	}
	below := maps.Clone(n.durableNames)
	for _, c := range n.changes {
		if c.add != "" {
			below[c.add] = c.node
		}
	}
	for _, child := range slices.Sorted(maps.Keys(below)) {
		below[child].walk(seen, name+"/"+child, visit)
	}
}

func (n *inode) choices(name string) []choice {
	var out []choice
	if n.isDir {
		for set := range subsets(len(n.changes)) {
			c := choice{says: fmt.Sprintf("%s/: changes %v of %d", name, set, len(n.changes))}
			for _, i := range set {
				c.changes = append(c.changes, n.changes[i])
			}
			out = append(out, c)
		}
		return out
	}
	for set := range subsets(len(n.writes)) {
		c := choice{says: fmt.Sprintf("%s: writes %v of %d", name, set, len(n.writes))}
		for _, i := range set {
			c.writes = append(c.writes, n.writes[i])
		}
		out = append(out, c)
	}
	for i, w := range n.writes {
		if w.truncate {
			continue
		}
		for _, cut := range cuts(w) {
			out = append(out, choice{
				says:   fmt.Sprintf("%s: %d writes and %d of %d bytes", name, i, cut, len(w.data)),
				writes: append(slices.Clone(n.writes[:i]), w.prefix(cut)),
			})
		}
		parts := w.sectors()
		if len(parts) < 2 {
			continue
		}
		for _, set := range sectorSets(len(parts)) {
			c := choice{
				says:   fmt.Sprintf("%s: %d writes and sectors %v of %d", name, i, set, len(parts)),
				writes: slices.Clone(n.writes[:i]),
			}
			for _, j := range set {
				c.writes = append(c.writes, parts[j])
			}
			out = append(out, c)
		}
	}
	return out
}

func (w write) prefix(n int) write { return write{off: w.off, data: w.data[:n]} }

// sectors splits a write at the borders of the disk's sectors.
func (w write) sectors() []write {
	var parts []write
	for at := 0; at < len(w.data); {
		end := min(at+sector-int((w.off+int64(at))%sector), len(w.data))
		parts = append(parts, write{off: w.off + int64(at), data: w.data[at:end]})
		at = end
	}
	return parts
}

// cuts returns the lengths at which a write is cut short.
func cuts(w write) []int {
	const every, near = 4096, 16
	var out []int
	for n := 1; n < len(w.data); n++ {
		inSector := int((w.off + int64(n)) % sector)
		if len(w.data) <= every || n < 4*near || n > len(w.data)-4*near || inSector < 2 || inSector == sector-1 {
			out = append(out, n)
		}
	}
	return out
}

const manyOps = 6

// subsets yields the subsets of 0…n-1 that CrashImages promises.
func subsets(n int) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		if n <= manyOps {
			for bits := range 1 << n {
				if !yield(ones(bits, n)) {
					return
				}
			}
			return
		}
		for end := range n + 1 {
			if !yield(without(end, -1)) {
				return
			}
			for skip := range end - 1 {
				if !yield(without(end, skip)) {
					return
				}
			}
		}
	}
}

// sectorSets returns the sets of a write's n sectors that CrashImages promises.
func sectorSets(n int) [][]int {
	var out [][]int
	if n <= manyOps {
		for bits := 1; bits < 1<<n-1; bits++ {
			out = append(out, ones(bits, n))
		}
		return out
	}
	for i := range n {
		out = append(out, []int{i}, without(n, i))
	}
	return out
}

func ones(bits, n int) []int {
	var set []int
	for i := range n {
		if bits&(1<<i) != 0 {
			set = append(set, i)
		}
	}
	return set
}

func without(n, skip int) []int {
	var set []int
	for i := range n {
		if i != skip {
			set = append(set, i)
		}
	}
	return set
}

// image builds a file system whose inodes have the content and names that the
// functions say, all durable. The lock is held.
func (m *Mem) image(content func(*inode) []byte, names func(*inode) map[string]*inode) *Mem {
	made := map[*inode]*inode{}
	var build func(at string, n *inode) *inode
	build = func(at string, n *inode) *inode {
		if done, ok := made[n]; ok {
			return done
		}
		c := &inode{isDir: n.isDir, name: at, modified: n.modified}
		made[n] = c
		if !n.isDir {
			c.data = slices.Clone(content(n))
			c.durable = slices.Clone(c.data)
			return c
		}
		c.names, c.durableNames = map[string]*inode{}, map[string]*inode{}
		below := names(n)
		for _, name := range slices.Sorted(maps.Keys(below)) {
			child := build(path.Join(at, name), below[name])
			c.names[name], c.durableNames[name] = child, child
		}
		return c
	}
	out := &Mem{root: build("", m.root), capacity: m.capacity}
	out.used = out.root.size()
	return out
}
