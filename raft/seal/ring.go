package seal

import (
	"errors"
	"slices"
	"sync"
)

// Ring is the data encryption keys of a directory: one that is written with, and others
// that files may still be sealed with. It may be used by several goroutines. It prints
// nothing.
type Ring struct {
	mu      sync.Mutex
	current Key
	others  []Key
}

// NewRing returns a ring that writes with current and reads with others, too.
func NewRing(current Key, others ...Key) *Ring {
	return &Ring{current: current, others: slices.Clone(others)}
}

// Current returns the key to write with.
func (r *Ring) Current() Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// Rotate makes key the one to write with. What was written before stays readable.
func (r *Ring) Rotate(key Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if key == r.current {
		return
	}
	r.others = append(slices.DeleteFunc(r.others, func(k Key) bool { return k == key }), r.current)
	r.current = key
}

// Forget drops all keys but the current one: nothing on disk needs them.
func (r *Ring) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.others = nil
}

// Open is like the function Open with whichever key fits, which it returns. Its error is
// ErrKey if none does.
func (r *Ring) Open(kind Kind, header []byte) (*Box, Key, error) {
	r.mu.Lock()
	keys := append([]Key{r.current}, r.others...)
	r.mu.Unlock()
	var err error
	for _, key := range keys {
		var box *Box
		if box, _, err = Open(kind, key, header); err == nil {
			return box, key, nil
		}
		if !errors.Is(err, ErrKey) {
			break
		}
	}
	return nil, Key{}, err
}

// String keeps keys out of messages.
func (*Ring) String() string { return "[secret]" }

// GoString keeps keys out of %#v.
func (*Ring) GoString() string { return "[secret]" }
