package rpc

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/credentials"

	"skep/model"
)

// from is a connection that only has a remote address.
type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr { return address(f.addr) }

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// patient shakes hands when it is told to.
type patient struct {
	credentials.TransportCredentials
	begun chan string
	free  chan struct{}
}

func (p *patient) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	p.begun <- raw.RemoteAddr().String()
	<-p.free
	return nil, nil, errors.New("done")
}

func TestNoPeerTakesMoreThanItsShareOfHandshakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		under := &patient{begun: make(chan string, 1000), free: make(chan struct{})}
		p := newPolitely(under)
		ended := make(chan error, 1000)
		shake := func(addr string) {
			_, _, err := p.ServerHandshake(from{addr: addr})
			ended <- err
		}
		for range handshakesPerPeer + 10 {
			go shake("10.0.0.1:1")
		}
		synctest.Wait()
		if n := len(under.begun); n != handshakesPerPeer {
			t.Fatalf("%d handshakes of one peer at once, want %d", n, handshakesPerPeer)
		}
		go shake("10.0.0.2:1")
		synctest.Wait()
		if n := len(under.begun); n != handshakesPerPeer+1 {
			t.Error("another peer has to wait for it")
		}
		time.Sleep(connectTimeout)
		synctest.Wait()
		for range 10 {
			if err := <-ended; model.KindOf(err) != model.Exhausted {
				t.Errorf("who waited too long got %v", err)
			}
		}
		close(under.free)
		synctest.Wait()
		if len(ended) != handshakesPerPeer+1 || len(p.peers) != 0 {
			t.Errorf("%d ended, %d peers are remembered", len(ended), len(p.peers))
		}
	})
}
