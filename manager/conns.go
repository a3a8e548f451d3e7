package manager

import (
	"sync"
	"time"

	"google.golang.org/grpc"

	"skep/model"
)

// answerLimit is how long a manager that has left the group may take to answer what it was asked
// before, as a leader that was demoted does.
const answerLimit = 10 * time.Second

// conns are the connections to other managers, one for each address, which requests
// that are forwarded share.
type conns struct {
	dial func(addr string) (*grpc.ClientConn, error)

	mu     sync.Mutex
	byAddr map[string]*grpc.ClientConn
	// retired are those that are closed when their timer fires.
	retired map[*grpc.ClientConn]*time.Timer
	closed  bool
}

// to returns the connection to addr, which is made at its first request.
func (c *conns) to(addr string) (grpc.ClientConnInterface, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, model.Errorf(model.Unavailable, "reach the manager at %s: this manager is stopping", addr)
	}
	if conn := c.byAddr[addr]; conn != nil {
		return conn, nil
	}
	conn, err := c.dial(addr)
	if err != nil {
		return nil, err
	}
	if c.byAddr == nil {
		c.byAddr = map[string]*grpc.ClientConn{}
	}
	c.byAddr[addr] = conn
	return conn, nil
}

// keep gives up all connections but those to addrs. What they carry still has answerLimit to end.
func (c *conns) keep(addrs map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, conn := range c.byAddr {
		if addrs[addr] {
			continue
		}
		delete(c.byAddr, addr)
		if c.retired == nil {
			c.retired = map[*grpc.ClientConn]*time.Timer{}
		}
		c.retired[conn] = time.AfterFunc(answerLimit, func() {
			c.mu.Lock()
			delete(c.retired, conn)
			c.mu.Unlock()
			_ = conn.Close()
		})
	}
}

// close closes all connections, and lets no other be made.
func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.byAddr {
		_ = conn.Close()
	}
	for conn, timer := range c.retired {
		timer.Stop()
		_ = conn.Close()
	}
	c.byAddr, c.retired = nil, nil
}
