package memnet

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// largest is the most that is written at once over a link whose bandwidth is
// limited, so that connections share it.
const largest = 16 << 10

// conn is one end of a connection. Its fields are guarded by the network's mutex.
type conn struct {
	net           *Net
	host          *Host
	owner         *Process
	peer          *conn
	local, remote net.Addr
	dialer        bool // this end opened the connection

	out direction // what this end writes

	ready       []byte // what has arrived and is not read
	ended       bool   // the peer has written all
	err         error  // why reads and writes fail: the connection was reset, or is closed
	dead        bool   // this end is closed or gone; what arrives is answered with a reset
	wroteAll    bool
	readsNone   bool
	readable    sync.Cond
	writable    sync.Cond
	readBefore  deadline
	writeBefore deadline
}

// direction is the stream from one end to the other.
type direction struct {
	from, to *conn
	rand     *rand.Rand
	window   int
	flight   []segment // written, not arrived
	last     time.Time // when the last one arrives
	unacked  int       // bytes written of which the writer does not know that they were read
	unheard  int       // bytes read whose acknowledgement could not pass
	stuck    time.Time // since when nothing passes; zero if all is well
	timer    *time.Timer
}

type segment struct {
	data  []byte
	at    time.Time
	fin   bool
	reset bool
}

func (n *Net) connect(from, to *Host, local, remote net.Addr) (near, far *conn) {
	l := n.link(from, to)
	l.opened++
	near = &conn{net: n, host: from, local: local, remote: remote, dialer: true}
	far = &conn{net: n, host: to, local: remote, remote: local}
	near.peer, far.peer = far, near
	for _, c := range []*conn{near, far} {
		c.readable.L, c.writable.L = &n.mu, &n.mu
		c.readBefore.wake, c.writeBefore.wake = &c.readable, &c.writable
		c.out = direction{from: c, to: c.peer, window: n.window, rand: n.generator(c.host, c.peer.host, l.opened)}
		n.conns[c] = struct{}{}
	}
	return near, far
}

func (l *link) delay(r *rand.Rand) time.Duration {
	d := l.Latency
	if l.Jitter > 0 {
		d += time.Duration(r.Int64N(int64(l.Jitter)))
	}
	if l.Loss > 0 {
		for again := shortestRetransmit; r.Float64() < l.Loss && again < retransmitMax; again *= 2 {
			d += again
		}
	}
	return d
}

// blocked reports whether nothing passes in this direction.
func (d *direction) blocked() bool {
	n, from, to := d.from.net, d.from.host, d.to.host
	if from == to {
		return false
	}
	return !from.up || !to.up || n.link(from, to).cut || d.to.dialer && n.lost[pair{to, from}]
}

// send puts a segment on its way.
func (d *direction) send(s segment) {
	l := d.from.net.link(d.from.host, d.to.host)
	now := time.Now()
	s.at = now.Add(l.delay(d.rand))
	if l.Bandwidth > 0 {
		if l.freeAt.Before(now) {
			l.freeAt = now
		}
		l.freeAt = l.freeAt.Add(time.Duration(len(s.data)) * time.Second / time.Duration(l.Bandwidth))
		s.at = s.at.Add(l.freeAt.Sub(now))
	}
	if s.at.Before(d.last) {
		s.at = d.last
	}
	d.last = s.at
	d.flight = append(d.flight, s)
	d.settle()
}

// settle delivers what is due, and asks to be woken for what is not.
func (d *direction) settle() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.blocked() {
		if d.stuck.IsZero() {
			d.stuck = time.Now()
		}
		return
	}
	for len(d.flight) > 0 {
		s := d.flight[0]
		if wait := time.Until(s.at); wait > 0 {
			d.timer = time.AfterFunc(wait, func() {
				d.from.net.mu.Lock()
				defer d.from.net.mu.Unlock()
				d.settle()
			})
			return
		}
		d.flight = d.flight[1:]
		d.deliver(s)
	}
	d.flight = nil
	d.forget()
}

func (d *direction) deliver(s segment) {
	to := d.to
	switch {
	case s.reset:
		to.fail(syscall.ECONNRESET)
	case to.dead:
		d.read(len(s.data))
		if len(s.data) > 0 && !to.out.blocked() {
			to.out.send(segment{reset: true})
		}
	case to.readsNone:
		d.read(len(s.data))
		to.ended = to.ended || s.fin
	default:
		to.ready = append(to.ready, s.data...)
		to.ended = to.ended || s.fin
		to.readable.Broadcast()
	}
}

// read acknowledges bytes to the writer, if that can pass.
func (d *direction) read(bytes int) {
	d.unheard += bytes
	if d.to.out.blocked() {
		return
	}
	d.unacked -= d.unheard
	d.unheard = 0
	d.from.writable.Broadcast()
}

// changed is called when this direction, or the other one, may have opened or closed.
func (d *direction) changed() {
	d.read(0)
	if !d.blocked() && !d.stuck.IsZero() {
		// TCP waits twice as long after each attempt: when it tries next after the way is
		// open is anywhere within the time for which it was not.
		now := time.Now()
		limit := min(max(now.Sub(d.stuck), shortestRetransmit), retransmitMax)
		next := now.Add(time.Duration(d.rand.Int64N(int64(limit))))
		for i := range d.flight {
			if d.flight[i].at.Before(next) {
				d.flight[i].at = next
			}
		}
		if len(d.flight) > 0 && d.last.Before(next) {
			d.last = next
		}
		d.stuck = time.Time{}
	}
	d.settle()
}

// forget drops a connection of which nothing is left: what is on its way between two
// ends that are gone reaches nobody.
func (d *direction) forget() {
	if !d.from.dead || !d.to.dead {
		return
	}
	for _, c := range []*conn{d.from, d.to} {
		if c.out.timer != nil {
			c.out.timer.Stop()
			c.out.timer = nil
		}
		c.out.flight = nil
		delete(c.net.conns, c)
	}
}

// fail ends this end with an error: what has arrived can still be read.
func (c *conn) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.dead = true
	if c.out.timer != nil {
		c.out.timer.Stop()
		c.out.timer = nil
	}
	c.out.flight = nil
	c.readBefore.stop()
	c.writeBefore.stop()
	c.readable.Broadcast()
	c.writable.Broadcast()
	c.out.forget()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// reset resets both ends at once.
func (c *conn) reset() {
	c.fail(syscall.ECONNRESET)
	c.peer.fail(syscall.ECONNRESET)
}

// die is the end of whoever held this end. The peer is told with a reset, if that can
// pass.
func (c *conn) die(err error, tell bool) {
	if c.dead {
		return
	}
	c.out.settle()
	c.dead, c.ready = true, nil
	tell = tell && !c.out.blocked()
	if !tell {
		c.fail(err)
		return
	}
	flight := c.out.flight
	c.fail(err)
	c.out.flight = flight
	c.out.send(segment{reset: true})
}

func (c *conn) Read(p []byte) (int, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for {
		switch {
		case c.err != nil && (errors.Is(c.err, net.ErrClosed) || len(c.ready) == 0):
			return 0, c.opError("read", c.err)
		case c.readsNone:
			return 0, io.EOF
		case c.readBefore.passed():
			return 0, c.opError("read", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		case len(c.ready) > 0:
			n := copy(p, c.ready)
			if c.ready = c.ready[n:]; len(c.ready) == 0 {
				c.ready = nil
			}
			c.peer.out.read(n)
			return n, nil
		case c.ended:
			return 0, io.EOF
		}
		c.readable.Wait()
	}
}

func (c *conn) Write(p []byte) (int, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	written := 0
	for {
		switch {
		case c.err != nil:
			return written, c.opError("write", c.err)
		case c.wroteAll:
			return written, c.opError("write", syscall.EPIPE)
		case c.writeBefore.passed():
			return written, c.opError("write", os.ErrDeadlineExceeded)
		case len(p) == written:
			return written, nil
		}
		room := min(c.out.window-c.out.unacked, len(p)-written)
		if c.net.link(c.host, c.peer.host).Bandwidth > 0 {
			room = min(room, largest)
		}
		if room <= 0 {
			c.writable.Wait()
			continue
		}
		c.out.unacked += room
		c.out.send(segment{data: append([]byte(nil), p[written:written+room]...)})
		written += room
	}
}

// Close ends both directions. Who has not read all that arrived resets the
// connection, as TCP does.
func (c *conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if errors.Is(c.err, net.ErrClosed) {
		return c.opError("close", net.ErrClosed)
	}
	c.peer.out.read(len(c.ready))
	unread := len(c.ready) > 0 && !c.out.blocked()
	c.ready = nil
	failed := c.err != nil
	flight := c.out.flight
	c.err = nil
	c.fail(net.ErrClosed)
	if failed {
		return nil
	}
	c.out.flight = flight
	switch {
	case unread:
		c.out.send(segment{reset: true})
	case !c.wroteAll:
		c.out.send(segment{fin: true})
	default:
		c.out.settle()
	}
	return nil
}

// CloseWrite says that this end writes no more; it still reads.
func (c *conn) CloseWrite() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.err != nil {
		return c.opError("close", c.err)
	}
	if !c.wroteAll {
		c.wroteAll = true
		c.out.send(segment{fin: true})
		c.writable.Broadcast()
	}
	return nil
}

// CloseRead says that this end reads no more.
func (c *conn) CloseRead() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.err != nil {
		return c.opError("close", c.err)
	}
	c.readsNone = true
	c.peer.out.read(len(c.ready))
	c.ready = nil
	c.readable.Broadcast()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	return c.setDeadlines(t, &c.readBefore, &c.writeBefore)
}

func (c *conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, &c.readBefore) }

func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, &c.writeBefore) }

func (c *conn) setDeadlines(t time.Time, of ...*deadline) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if errors.Is(c.err, net.ErrClosed) {
		return c.opError("set", net.ErrClosed)
	}
	for _, d := range of {
		d.set(t)
	}
	return nil
}

func (c *conn) opError(op string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}
