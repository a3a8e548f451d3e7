package caserver

import (
	"net"
	"sync"

	"skep/model"
)

// waitingEach is how many requests without a certificate may wait for each
// address: as many nodes may join at once from behind one of them.
const waitingEach = 1024

// waiting counts the requests that wait, by the address that they come from.
type waiting struct {
	most int
	mu   sync.Mutex
	of   map[string]int // never holds a zero
}

// enter counts one more from an address, "host:port", until done is called. The
// error is of kind Exhausted when there are enough already.
func (w *waiting) enter(addr string) (done func(), err error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[host] >= w.most {
		return nil, model.Errorf(model.Exhausted, "certificate status: %d requests without a certificate wait already for %s: let them be answered, then ask again", w.most, host)
	}
	w.of[host]++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.of[host]--; w.of[host] == 0 {
			delete(w.of, host)
		}
	}, nil
}
