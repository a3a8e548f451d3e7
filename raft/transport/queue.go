package transport

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"skep/api/skep"
)

// queue holds what is to be sent to one member. urgent goes before bulk.
type queue struct {
	mu     sync.Mutex
	urgent fifo
	bulk   fifo
	hashes []*skep.StateHash
	tell   bool          // what the host knows of the others is new
	wake   chan struct{} // has one element when there may be something
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

// fifo is a queue of messages and their sizes.
type fifo struct {
	messages []*raftpb.Message
	sizes    []int
	bytes    int
}

func (f *fifo) push(m *raftpb.Message, size int) bool {
	if len(f.messages) >= queueMessages || f.bytes+size > queueBytes && len(f.messages) > 0 {
		return false
	}
	f.messages, f.sizes, f.bytes = append(f.messages, m), append(f.sizes, size), f.bytes+size
	return true
}

// take moves messages to batch until it has batchBytes, at least one if batch is empty.
func (f *fifo) take(batch []*raftpb.Message, bytes int) ([]*raftpb.Message, int) {
	n := 0
	for n < len(f.messages) && (len(batch) == 0 || bytes+f.sizes[n] <= batchBytes) {
		batch, bytes = append(batch, f.messages[n]), bytes+f.sizes[n]
		f.messages[n] = nil // or the array would hold what is sent
		f.bytes -= f.sizes[n]
		n++
	}
	f.messages, f.sizes = f.messages[n:], f.sizes[n:]
	if len(f.messages) == 0 {
		f.messages, f.sizes = nil, nil
	}
	return batch, bytes
}

// put adds a message, if there is room.
func (q *queue) put(m *raftpb.Message) bool {
	size := sizeOf(m)
	if size > maxMessage {
		return false
	}
	q.mu.Lock()
	to := &q.bulk
	if urgent(m.GetType()) {
		to = &q.urgent
	}
	ok := to.push(m, size)
	q.mu.Unlock()
	if ok {
		q.ring()
	}
	return ok
}

// announce adds a hash; the oldest goes when there are too many.
func (q *queue) announce(h *skep.StateHash) {
	q.mu.Lock()
	if len(q.hashes) == queueHashes {
		q.hashes = q.hashes[1:]
	}
	q.hashes = append(q.hashes, h)
	q.mu.Unlock()
	q.ring()
}

// renew notes that what the host knows of the others is new.
func (q *queue) renew() {
	q.mu.Lock()
	q.tell = true
	q.mu.Unlock()
	q.ring()
}

// untold reports whether that is so, and takes it as told. A connection that breaks then has
// lost nothing: the next one begins with all that is known.
func (q *queue) untold() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	tell := q.tell
	q.tell = false
	return tell
}

func (q *queue) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns the next batch and about how many bytes it has; nothing if there is none.
func (q *queue) take() (batch []*raftpb.Message, hashes []*skep.StateHash, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch, bytes = q.urgent.take(batch, bytes)
	batch, bytes = q.bulk.take(batch, bytes)
	hashes, q.hashes = q.hashes, nil
	return batch, hashes, bytes
}

// drop empties the queue and reports whether a message was in it.
func (q *queue) drop() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	had := len(q.urgent.messages)+len(q.bulk.messages) > 0
	q.urgent, q.bulk, q.hashes = fifo{}, fifo{}, nil
	return had
}

// urgent reports whether a message goes before entries. A follower's answers are all in one
// queue, so that they keep their order.
func urgent(t raftpb.MessageType) bool { return t != raftpb.MsgApp }

// sizeOf returns a bound of a message's encoded size that is cheap to tell.
func sizeOf(m *raftpb.Message) int {
	const message, entry = 128, 48
	size := message + len(m.GetContext()) + len(m.GetSnapshot().GetData())
	for _, e := range m.GetEntries() {
		size += entry + len(e.GetData())
	}
	return size
}
