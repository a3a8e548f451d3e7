package memnet

import (
	"net"
	"os"
	"sync"
	"time"
)

// listener accepts connections. Its fields are guarded by the network's mutex.
type listener struct {
	host     *Host
	owner    *Process
	addr     net.Addr
	key      string
	waiting  []*conn
	arrived  sync.Cond
	deadline deadline
	closed   bool
}

func (l *listener) Accept() (net.Conn, error) {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	for {
		switch {
		case l.closed:
			return nil, &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
		case l.deadline.passed():
			return nil, &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: os.ErrDeadlineExceeded}
		case len(l.waiting) > 0:
			c := l.waiting[0]
			l.waiting = l.waiting[1:]
			return c, nil
		}
		l.arrived.Wait()
	}
}

func (l *listener) Close() error {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	if l.closed {
		return &net.OpError{Op: "close", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
	}
	l.close(true)
	return nil
}

func (l *listener) close(tell bool) {
	l.closed = true
	l.deadline.set(time.Time{})
	if l.host.listeners[l.key] == l {
		delete(l.host.listeners, l.key)
	}
	for _, c := range l.waiting {
		c.die(net.ErrClosed, tell)
	}
	l.waiting = nil
	l.arrived.Broadcast()
}

func (l *listener) Addr() net.Addr { return l.addr }

// SetDeadline ends an Accept that waits at t. The zero time is none.
func (l *listener) SetDeadline(t time.Time) error {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.deadline.set(t)
	return nil
}

// deadline wakes who waits at a time. It is guarded by the network's mutex.
type deadline struct {
	at    time.Time
	timer *time.Timer
	wake  *sync.Cond
}

func (d *deadline) set(t time.Time) {
	d.at = t
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if !t.IsZero() {
		if wait := time.Until(t); wait > 0 {
			d.timer = time.AfterFunc(wait, func() {
				d.wake.L.Lock()
				defer d.wake.L.Unlock()
				d.wake.Broadcast()
			})
		}
	}
	d.wake.Broadcast()
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }
