package rpc

import (
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"skep/model"
)

// handshakesPerPeer is how many connections of one address shake hands at once;
// more wait for their turn. Who opens many and says nothing delays only itself,
// and of a thousand nodes behind one address the first are done before the last
// have begun.
const handshakesPerPeer = 64

// politely wraps credentials so that no peer takes more than its share of
// handshakes.
type politely struct {
	credentials.TransportCredentials

	mu    sync.Mutex
	peers map[string]*turns
}

// turns are those of one peer's address.
type turns struct {
	free  chan struct{}
	users int // connections that shake hands or wait; guarded by politely.mu
}

func newPolitely(c credentials.TransportCredentials) *politely {
	return &politely{TransportCredentials: c, peers: make(map[string]*turns)}
}

func (p *politely) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	addr := raw.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		addr = host
	}
	t := p.enter(addr)
	defer p.leave(addr, t)
	timer := time.NewTimer(connectTimeout)
	defer timer.Stop()
	select {
	case t.free <- struct{}{}:
	case <-timer.C:
		return nil, nil, model.Errorf(model.Exhausted, "%s opens connections faster than it finishes them", addr)
	}
	defer func() { <-t.free }()
	conn, info, err := p.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("connection from %s: %w", addr, err)
	}
	return conn, info, nil
}

// Clone returns p: its turns are counted in one place.
func (p *politely) Clone() credentials.TransportCredentials { return p }

func (p *politely) enter(addr string) *turns {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.peers[addr]
	if t == nil {
		t = &turns{free: make(chan struct{}, handshakesPerPeer)}
		p.peers[addr] = t
	}
	t.users++
	return t
}

func (p *politely) leave(addr string, t *turns) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(p.peers, addr)
	}
}
