package manager

import (
	"errors"
	"sync"

	"google.golang.org/grpc"
)

// conns are the connections to other managers, one for each address, which requests
// that are forwarded share.
type conns struct {
	dial func(addr string) (*grpc.ClientConn, error)

	mu     sync.Mutex
	byAddr map[string]*grpc.ClientConn
}

// to returns the connection to addr, which is made at its first request.
func (c *conns) to(addr string) (grpc.ClientConnInterface, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
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

// keep closes all connections but those to addrs.
func (c *conns) keep(addrs map[string]bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for addr, conn := range c.byAddr {
		if !addrs[addr] {
			errs = append(errs, conn.Close())
			delete(c.byAddr, addr)
		}
	}
	return errors.Join(errs...)
}
