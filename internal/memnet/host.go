package memnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	firstEphemeral = 49152
	lastPort       = 65535
	// backlog is how many connections wait to be accepted.
	backlog = 1024
	// dialFirst is when a request to connect that got no answer is sent again; each
	// time after that twice as late. dialLimit is when the dialer gives up. As on Linux.
	dialFirst = time.Second
	dialLimit = 127 * time.Second
)

// Host is a machine of the network. Its methods may be used concurrently.
type Host struct {
	net       *Net
	name      string
	ip        netip.Addr
	up        bool
	listeners map[string]*listener // by "tcp ip:port" or "unix path"
	nextPort  int
	processes map[*Process]bool
	// own is the process of those who use the host itself.
	own *Process
}

// Process is a process on a host. What it holds ends with it, and it reaches nothing
// afterwards, however long its goroutines go on.
type Process struct {
	host  *Host
	ended bool
}

// Start starts a process.
func (h *Host) Start() *Process {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.start()
}

func (h *Host) start() *Process {
	p := &Process{host: h}
	h.processes[p] = true
	return p
}

// Kill ends the process: its listeners are gone and its connections are reset, as a
// kernel does for a process that is killed.
func (p *Process) Kill() {
	p.host.net.mu.Lock()
	defer p.host.net.mu.Unlock()
	p.host.end(p, true)
}

// Listen is Host.Listen for this process.
func (p *Process) Listen(network, address string) (net.Listener, error) {
	return p.host.listen(p, network, address)
}

// DialContext is Host.DialContext for this process.
func (p *Process) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return p.host.dial(ctx, p, network, address)
}

// Name is the host's name, which others may dial too.
func (h *Host) Name() string { return h.name }

// IP is the host's address.
func (h *Host) IP() string {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.ip.String()
}

// SetIP gives the host another address. Connections of the old one fall silent on
// the other side and are reset on this one.
func (h *Host) SetIP(ip string) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	addr := netip.MustParseAddr(ip)
	if other := h.net.byIP[addr]; other != nil {
		panic("memnet: address " + ip + " is " + other.name + "'s")
	}
	for c := range h.net.conns {
		if c.host == h && c.peer.host != h {
			c.die(syscall.ENETDOWN, false)
		}
	}
	delete(h.net.byIP, h.ip)
	h.ip = addr
	h.net.byIP[addr] = h
}

// Kill kills all processes of the host, see Process.Kill. The host stays up.
func (h *Host) Kill() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.endAll(true)
}

// PowerOff ends all that the host holds, silently: its peers learn nothing until it is
// up again.
func (h *Host) PowerOff() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.endAll(false)
	h.net.change(func() { h.up = false }, h.touches)
}

// PowerOn brings the host back, without listeners or connections.
func (h *Host) PowerOn() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.net.change(func() { h.up = true }, h.touches)
}

func (h *Host) touches(d *direction) bool { return d.from.host == h || d.to.host == h }

func (h *Host) endAll(tell bool) {
	for p := range h.processes {
		h.end(p, tell)
	}
	h.own = h.start()
}

func (h *Host) end(p *Process, tell bool) {
	p.ended = true
	delete(h.processes, p)
	for _, l := range h.listeners {
		if l.owner == p {
			l.close(tell)
		}
	}
	for c := range h.net.conns {
		if c.owner == p {
			c.die(net.ErrClosed, tell)
		}
	}
}

// Listen listens on "tcp" at an address of this host, or on "unix" at a path that
// only this host knows. What it returns has SetDeadline too.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	return h.listen(nil, network, address)
}

func (h *Host) listen(p *Process, network, address string) (net.Listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if p == nil {
		p = h.own
	}
	fail := func(err error) (net.Listener, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: textAddr{network, address}, Err: err}
	}
	if !h.up || p.ended {
		return fail(os.NewSyscallError("socket", syscall.ENETDOWN))
	}
	l := &listener{host: h, owner: p}
	switch network {
	case "unix":
		l.addr = &net.UnixAddr{Name: address, Net: network}
	case "tcp", "tcp4":
		addr, err := h.listenAddr(address)
		if err != nil {
			return fail(err)
		}
		l.addr = addr
	default:
		return fail(net.UnknownNetworkError(network))
	}
	l.key = key(l.addr)
	if h.listeners[l.key] != nil {
		return fail(os.NewSyscallError("bind", syscall.EADDRINUSE))
	}
	l.arrived.L = &h.net.mu
	l.deadline.wake = &l.arrived
	h.listeners[l.key] = l
	return l, nil
}

func (h *Host) listenAddr(address string) (*net.TCPAddr, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > lastPort {
		return nil, &net.AddrError{Err: "invalid port", Addr: address}
	}
	ip := netip.IPv4Unspecified()
	switch host {
	case "", "0.0.0.0", "::":
	case "localhost":
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case h.name:
		ip = h.ip
	default:
		if ip, err = netip.ParseAddr(host); err != nil {
			return nil, err
		}
		if !ip.IsLoopback() && ip != h.ip {
			return nil, os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)
		}
	}
	if port == 0 {
		port = h.ephemeral()
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port))), nil
}

// ephemeral is a port that no listener has.
func (h *Host) ephemeral() int {
	for {
		port := h.nextPort
		if h.nextPort++; h.nextPort > lastPort {
			h.nextPort = firstEphemeral
		}
		if h.listener("tcp", netip.AddrPortFrom(h.ip, uint16(port)).String()) == nil {
			return port
		}
	}
}

// listener finds who listens at an address of this host.
func (h *Host) listener(network, address string) *listener {
	if l := h.listeners[network+" "+address]; l != nil || network != "tcp" {
		return l
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	return h.listeners["tcp 0.0.0.0:"+port]
}

func key(a net.Addr) string { return a.Network() + " " + a.String() }

// DialContext connects to an address of this or another host, by IP or name, or to a
// unix socket of this host.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	h.net.mu.Lock()
	own := h.own
	h.net.mu.Unlock()
	return h.dial(ctx, own, network, address)
}

func (h *Host) dial(ctx context.Context, p *Process, network, address string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: textAddr{network, address}, Err: err}
	}
	switch network {
	case "unix", "tcp", "tcp4":
	default:
		return fail(net.UnknownNetworkError(network))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, dialLimit, os.NewSyscallError("connect", syscall.ETIMEDOUT))
	defer cancel()
	again := dialFirst
	for {
		if err := ctx.Err(); err != nil {
			return fail(dialError(ctx))
		}
		delay, ok, err := p.request(network, address)
		if err != nil {
			return fail(err)
		}
		if !ok {
			delay, again = again, 2*again
		}
		if !sleep(ctx, delay) {
			return fail(dialError(ctx))
		}
		if !ok {
			continue
		}
		c, err := p.connect(network, address)
		if err != nil {
			return fail(err)
		}
		if c != nil {
			return c, nil
		}
		if !sleep(ctx, again) {
			return fail(dialError(ctx))
		}
		again *= 2
	}
}

// dialError is the reason why a dialer stops, which is a timeout of its own kind when
// the caller's time is over, as in package net.
func dialError(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, context.DeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	return cause
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// target is the host of an address and the address as that host's listeners know it.
func (p *Process) target(network, address string) (to *Host, at string, err error) {
	h := p.host
	if !h.up || p.ended {
		return nil, "", os.NewSyscallError("connect", syscall.ENETDOWN)
	}
	if network == "unix" {
		return h, address, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", err
	}
	if host == "" || host == "localhost" || host == "0.0.0.0" {
		host = "127.0.0.1"
	}
	if named := h.net.hosts[host]; named != nil {
		return named, net.JoinHostPort(named.ip.String(), port), nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return nil, "", &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if ip.IsLoopback() {
		return h, net.JoinHostPort(host, port), nil
	}
	return h.net.byIP[ip], net.JoinHostPort(host, port), nil
}

// request sends a request to connect. It says how long the answer takes, or that none
// will come.
func (p *Process) request(network, address string) (delay time.Duration, answered bool, err error) {
	h := p.host
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	to, _, err := p.target(network, address)
	if err != nil || to == nil || !h.net.open(h, to) {
		return 0, false, err
	}
	there, back := h.net.link(h, to), h.net.link(to, h)
	return there.delay(there.dials) + back.delay(back.dials), true, nil
}

// open reports whether packets pass between two hosts, both ways.
func (n *Net) open(a, b *Host) bool {
	return a.up && b.up && !n.link(a, b).cut && !n.link(b, a).cut
}

// connect makes the connection. It is nil without an error if there was no answer.
func (p *Process) connect(network, address string) (net.Conn, error) {
	h := p.host
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	to, at, err := p.target(network, address)
	if err != nil || to == nil || !h.net.open(h, to) {
		return nil, err
	}
	if network == "tcp4" {
		network = "tcp"
	}
	l := to.listener(network, at)
	switch {
	case l == nil && network == "unix":
		return nil, os.NewSyscallError("connect", syscall.ENOENT)
	case l == nil:
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	case len(l.waiting) >= backlog:
		return nil, nil
	}
	var local, remote net.Addr
	if network == "unix" {
		local, remote = &net.UnixAddr{Net: network}, l.addr
	} else {
		there := netip.MustParseAddrPort(at)
		ip := h.ip
		if there.Addr().IsLoopback() {
			ip = there.Addr()
		}
		local = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(h.ephemeral())))
		remote = net.TCPAddrFromAddrPort(there)
	}
	near, far := h.net.connect(h, to, local, remote)
	near.owner, far.owner = p, l.owner
	l.waiting = append(l.waiting, far)
	l.arrived.Signal()
	return near, nil
}

// textAddr is an address as somebody wrote it.
type textAddr struct{ network, address string }

func (a textAddr) Network() string { return a.network }
func (a textAddr) String() string  { return a.address }
