package linear

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// Kind is what an operation does.
type Kind int

// The operations on an object.
const (
	Create Kind = iota + 1
	Update      // takes effect only if the object has the version Expected
	Read
)

func (k Kind) String() string { return [...]string{"?", "create", "update", "read"}[k] }

// outcome is what is known of an operation.
type outcome int

const (
	unknown outcome = iota
	done
	refused // a create of what exists, an update of another version, a read of what is not there
	never   // nothing was carried out
)

func (o outcome) String() string {
	return [...]string{"nobody knows", "done", "refused", "never happened"}[o]
}

// Op is an operation of a client on the object Key.
type Op struct {
	Client   int
	Key      string
	Kind     Kind
	Expected uint64
	Value    string

	outcome     outcome
	version     uint64
	read        string
	call, ended int64
}

func (o Op) String() string {
	s := fmt.Sprintf("%d–%d client %d: %s %s", o.call, o.ended, o.Client, o.Kind, o.Key)
	if o.Kind == Update {
		s += fmt.Sprintf(" of version %d", o.Expected)
	}
	if o.Kind != Read {
		s += fmt.Sprintf(" to %q", o.Value)
	}
	s += ": " + o.outcome.String()
	if o.outcome == done {
		s += fmt.Sprintf(", version %d", o.version)
		if o.Kind == Read {
			s += fmt.Sprintf(" is %q", o.read)
		}
	}
	return s
}

// History is what clients did, in the order in which they did it. The zero value is
// empty; it is safe for concurrent use.
type History struct {
	mu    sync.Mutex
	clock int64
	ops   []*Op
}

// Pending is an operation that has begun.
type Pending struct {
	history *History
	op      *Op
}

// Begin notes that an operation is about to be asked for.
func (h *History) Begin(op Op) Pending {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	op.call = h.clock
	op.outcome, op.ended = unknown, 0
	h.ops = append(h.ops, &op)
	return Pending{h, &op}
}

// Done notes that the operation was carried out, and the object's version after it;
// value is what was read.
func (p Pending) Done(version uint64, value string) {
	p.end(done)
	p.op.version, p.op.read = version, value
}

// Refused notes that the state of the object forbade it: it exists, or does not, or has
// another version.
func (p Pending) Refused() { p.end(refused) }

// Never notes that the operation is known not to have been carried out, and never to be.
func (p Pending) Never() { p.end(never) }

func (p Pending) end(o outcome) {
	p.history.mu.Lock()
	defer p.history.mu.Unlock()
	p.history.clock++
	p.op.ended, p.op.outcome = p.history.clock, o
}

// Len is how many operations began.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// Writes counts the creates and updates that were acknowledged.
func (h *History) Writes() int {
	count := 0
	for _, op := range h.all() {
		if op.Kind != Read && op.outcome == done {
			count++
		}
	}
	return count
}

// all copies what matters, in order of the beginnings.
func (h *History) all() []Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Op
	for _, op := range h.ops {
		if op.outcome == never || op.Kind == Read && op.outcome == unknown {
			continue
		}
		out = append(out, *op)
	}
	return out
}

// Keys returns the objects of which at least one operation was carried out, sorted.
func (h *History) Keys() []string {
	var keys []string
	for _, op := range h.all() {
		if op.outcome == done {
			keys = append(keys, op.Key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Object is an object as it is read at the end.
type Object struct {
	Value   string
	Version uint64
}

// Present checks that every acknowledged write is there: an object is as the newest
// write left it that was acknowledged, or as a newer one did of which nobody was told.
func (h *History) Present(objects map[string]Object) error {
	newest := make(map[string]Op)
	maybe := make(map[string]bool)
	for _, op := range h.all() {
		switch {
		case op.Kind == Read:
		case op.outcome == unknown:
			maybe[op.Key+"\x00"+op.Value] = true
		case op.outcome == done && op.version > newest[op.Key].version:
			newest[op.Key] = op
		}
	}
	var lost []string
	for key, op := range newest {
		is, there := objects[key]
		switch {
		case !there:
			lost = append(lost, fmt.Sprintf("%s is not there; %s", key, op))
		case is.Version < op.version, is.Version == op.version && is.Value != op.Value:
			lost = append(lost, fmt.Sprintf("%s is %q of version %d; %s", key, is.Value, is.Version, op))
		case is.Version > op.version && !maybe[key+"\x00"+is.Value]:
			lost = append(lost, fmt.Sprintf("%s is %q of version %d, which nobody wrote; %s", key, is.Value, is.Version, op))
		}
	}
	if len(lost) == 0 {
		return nil
	}
	slices.SortFunc(lost, cmp.Compare[string])
	return fmt.Errorf("%d acknowledged writes are lost: %s", len(lost), lost[:min(len(lost), 5)])
}
