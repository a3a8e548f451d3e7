package vfs

import (
	"path"
	"strings"
	"sync/atomic"
	"time"
)

// Op is a set of operations of a file system.
type Op uint16

// The operations that can be made to fail and be traced.
const (
	OpCreate Op = 1 << iota
	OpOpen
	OpRead
	OpWrite
	OpTruncate
	OpSync
	OpClose
	OpRemove
	OpRename
	OpMkdir
	OpSyncDir
	OpList
	OpStat
)

// String returns the names of the operations in o.
func (o Op) String() string {
	var names []string
	for i, name := range [...]string{
		"create", "open", "read", "write", "truncate", "sync", "close",
		"remove", "rename", "mkdir", "syncdir", "list", "stat",
	} {
		if o&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// Rule says which operations go wrong, and how.
type Rule struct {
	// Op are the operations it is about.
	Op Op
	// Name is a pattern of path.Match for the last element of the name; empty
	// means any. A rename goes by its old name.
	Name string
	// Skip is how many matching operations pass before the rule takes hold.
	Skip int
	// Count is how often it takes hold; 0 means always.
	Count int
	// Delay is how long the operation waits before anything else happens.
	Delay time.Duration
	// Err is what it fails with; nil only delays. A write that fails has written
	// the first half. What was pending at a failed sync is never made durable.
	Err error
}

// Fault is a Rule at work.
type Fault struct {
	fs      *Mem
	rule    Rule
	matches int
	hits    atomic.Int64
}

// Inject puts a rule to work. Of several that match, the first takes hold.
func (m *Mem) Inject(r Rule) *Fault {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &Fault{fs: m, rule: r}
	m.faults = append(m.faults, f)
	return f
}

// Hits returns how often the fault has taken hold.
func (f *Fault) Hits() int { return int(f.hits.Load()) }

// Remove ends the fault.
func (f *Fault) Remove() {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	kept := f.fs.faults[:0:0]
	for _, other := range f.fs.faults {
		if other != f {
			kept = append(kept, other)
		}
	}
	f.fs.faults = kept
}

// holds reports whether the fault concerns an operation, which it counts.
func (f *Fault) holds(op Op, name string) bool {
	if f.rule.Op&op == 0 {
		return false
	}
	if f.rule.Name != "" {
		if ok, err := path.Match(f.rule.Name, path.Base(name)); !ok || err != nil {
			return false
		}
	}
	f.matches++
	n := f.matches - f.rule.Skip
	return n > 0 && (f.rule.Count == 0 || n <= f.rule.Count)
}

// Trace calls f before each operation that changes something or makes it durable,
// without holding a lock: f may look at the file system or take a crash image of it.
func (m *Mem) Trace(f func(op Op, name string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trace = f
}

const changing = OpCreate | OpWrite | OpTruncate | OpSync | OpRemove | OpRename | OpMkdir | OpSyncDir

// before runs trace and faults for one operation.
func (m *Mem) before(op Op, name string) error {
	m.mu.Lock()
	trace := m.trace
	var fault *Fault
	for _, f := range m.faults {
		if f.holds(op, name) {
			fault = f
			break
		}
	}
	m.mu.Unlock()
	if trace != nil && op&changing != 0 {
		trace(op, name)
	}
	if fault == nil {
		return nil
	}
	fault.hits.Add(1)
	if fault.rule.Delay > 0 {
		<-time.After(fault.rule.Delay)
	}
	return fault.rule.Err
}
