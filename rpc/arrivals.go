package rpc

import (
	"net"
	"sync"
	"time"
)

// arrivals is a listener that, when it is closed, closes the connections that do
// not speak HTTP/2 yet. grpc.Server waits for those when it stops, so that whoever
// connects and says nothing could hold up the end of the process.
type arrivals struct {
	deadlineListener

	mu     sync.Mutex
	closed bool
	coming map[*arrival]struct{}
}

func newArrivals(l deadlineListener) *arrivals {
	return &arrivals{deadlineListener: l, coming: make(map[*arrival]struct{})}
}

// Accept returns the next connection.
func (a *arrivals) Accept() (net.Conn, error) {
	conn, err := a.deadlineListener.Accept()
	if err != nil {
		return nil, err
	}
	c := &arrival{Conn: conn, of: a}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		_ = conn.Close() // as the listener's end would have
		return nil, net.ErrClosed
	}
	a.coming[c] = struct{}{}
	return c, nil
}

// Close closes the listener and what has not arrived.
func (a *arrivals) Close() error {
	err := a.deadlineListener.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for c := range a.coming {
		_ = c.Conn.Close() // nothing was said on it
	}
	clear(a.coming)
	return err
}

func (a *arrivals) left(c *arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.coming, c)
}

// arrival is a connection until it speaks HTTP/2. The server gives it until a
// deadline for that, and takes the deadline away when it does.
type arrival struct {
	net.Conn
	of *arrivals
}

// SetDeadline notes that the connection has arrived when the deadline is taken away.
func (c *arrival) SetDeadline(t time.Time) error {
	if t.IsZero() {
		c.of.left(c)
	}
	return c.Conn.SetDeadline(t)
}

// Close closes the connection.
func (c *arrival) Close() error {
	c.of.left(c)
	return c.Conn.Close()
}
