package memnet

import (
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

const (
	// DefaultWindow is how many bytes may be on the way in one direction, unread.
	DefaultWindow = 256 << 10
	// shortestRetransmit and retransmitMax bound the time after which lost bytes are sent
	// again, as on Linux.
	shortestRetransmit = 200 * time.Millisecond
	retransmitMax      = 120 * time.Second
)

// Link is what one direction between two hosts is like. The zero value delivers
// at once.
type Link struct {
	Latency time.Duration
	Jitter  time.Duration // added to the latency of each write, uniformly from 0
	// Loss is the chance, from 0 to below 1, that what is written has to be sent
	// again, which delays it and what is written after it.
	Loss float64
	// Bandwidth is in bytes a second and shared by all connections; 0 is no limit.
	Bandwidth int
}

// Net is a network. Make it with New, inside the bubble that uses it.
type Net struct {
	seed   uint64
	window int

	// mu guards all of the network: hosts, links, listeners and connections. It is
	// held for memory operations only.
	mu    sync.Mutex
	hosts map[string]*Host
	byIP  map[netip.Addr]*Host
	links map[pair]*link
	base  Link
	lost  map[pair]bool // client, server: answers do not pass
	conns map[*conn]struct{}
}

type pair struct{ from, to *Host }

// link is one direction between two hosts.
type link struct {
	Link
	cut    bool
	freeAt time.Time // when what was written before has left, if bandwidth is limited
	opened uint64    // connections so far
	dials  *rand.Rand
}

// New makes a network without hosts.
func New(seed uint64) *Net {
	return &Net{
		seed: seed, window: DefaultWindow,
		hosts: make(map[string]*Host), byIP: make(map[netip.Addr]*Host), links: make(map[pair]*link),
		lost: make(map[pair]bool), conns: make(map[*conn]struct{}),
	}
}

// SetWindow says how many unread bytes each direction of connections made from
// now on holds.
func (n *Net) SetWindow(bytes int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.window = bytes
}

// AddHost adds a host that is up. It panics if the name or the address is taken or
// the address is none: that is a mistake in the test.
func (n *Net) AddHost(name, ip string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr := netip.MustParseAddr(ip)
	if n.hosts[name] != nil || n.byIP[addr] != nil {
		panic("memnet: host " + name + " or address " + ip + " is there already")
	}
	h := &Host{net: n, name: name, ip: addr, up: true, listeners: make(map[string]*listener), nextPort: firstEphemeral, processes: make(map[*Process]bool)}
	h.own = h.start()
	n.hosts[name], n.byIP[addr] = h, h
	return h
}

// Host is the host of that name. It panics if there is none.
func (n *Net) Host(name string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.host(name)
}

func (n *Net) host(name string) *Host {
	h := n.hosts[name]
	if h == nil {
		panic("memnet: there is no host " + name)
	}
	return h
}

// link returns one direction between two hosts. Within a host nothing is slow or cut.
func (n *Net) link(from, to *Host) *link {
	key := pair{from, to}
	l := n.links[key]
	if l == nil {
		l = &link{dials: n.generator(from, to, 0)}
		if from != to {
			l.Link = n.base
		}
		n.links[key] = l
	}
	return l
}

func (n *Net) generator(from, to *Host, number uint64) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(from.name + "\x00" + to.name)) // a hash never fails
	return rand.New(rand.NewPCG(n.seed^h.Sum64(), number))
}

// SetLinks says what every link between different hosts is like, also of hosts to
// come.
func (n *Net) SetLinks(l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.base = l
	for key, known := range n.links {
		if key.from != key.to {
			known.Link = l
		}
	}
}

// SetLink says what the link from one host to another is like.
func (n *Net) SetLink(from, to string, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link(n.host(from), n.host(to)).Link = l
}

// Cut stops everything from one host to the other, and not the other way. Nobody is
// told.
func (n *Net) Cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.setCut(n.host(from), n.host(to), true)
}

// Mend ends what Cut began.
func (n *Net) Mend(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.setCut(n.host(from), n.host(to), false)
}

// Partition cuts, both ways, every link between hosts of different groups, and mends
// every link within a group. Hosts that are in no group keep their links.
func (n *Net) Partition(groups ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, group := range groups {
		for j, other := range groups {
			for _, from := range group {
				for _, to := range other {
					if from != to {
						n.setCut(n.host(from), n.host(to), i != j)
					}
				}
			}
		}
	}
}

// Isolate cuts a host off from all others, both ways.
func (n *Net) Isolate(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.host(name)
	for _, other := range n.hosts {
		if other != h {
			n.setCut(h, other, true)
			n.setCut(other, h, true)
		}
	}
}

// Heal mends every link and lets answers pass again. Links stay as slow as they are.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key := range n.links {
		n.setCut(key.from, key.to, false)
	}
	for key := range n.lost {
		n.restore(key)
	}
}

func (n *Net) setCut(from, to *Host, cut bool) {
	l := n.link(from, to)
	if from == to || l.cut == cut {
		return
	}
	n.change(func() { l.cut = cut }, func(d *direction) bool {
		return d.from.host == from && d.to.host == to || d.from.host == to && d.to.host == from
	})
}

// change carries out f, which may open or close some directions.
func (n *Net) change(f func(), touched func(*direction) bool) {
	var of []*direction
	for c := range n.conns {
		if touched(&c.out) {
			c.out.settle()
			of = append(of, &c.out)
		}
	}
	f()
	for _, d := range of {
		d.changed()
	}
}

// DropAnswers lets the requests of a client through to a server on connections that
// the client opens or has opened, and nothing back on them.
func (n *Net) DropAnswers(client, server string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := pair{n.host(client), n.host(server)}
	n.change(func() { n.lost[key] = true }, answers(key))
}

// RestoreAnswers ends what DropAnswers began. The connections that missed answers
// are reset: what was lost stays lost.
func (n *Net) RestoreAnswers(client, server string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.restore(pair{n.host(client), n.host(server)})
}

func (n *Net) restore(key pair) {
	if !n.lost[key] {
		return
	}
	missed := answers(key)
	for c := range n.conns {
		if missed(&c.out) && len(c.out.flight) > 0 {
			c.out.flight = nil
			c.peer.reset()
			c.reset()
		}
	}
	n.change(func() { delete(n.lost, key) }, missed)
}

// answers finds the directions in which a server answers a client.
func answers(key pair) func(*direction) bool {
	return func(d *direction) bool {
		return d.to.dialer && d.to.host == key.from && d.from.host == key.to
	}
}

// Reset resets all connections between two hosts: both ends learn it at once.
func (n *Net) Reset(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	one, two := n.host(a), n.host(b)
	for c := range n.conns {
		if c.host == one && c.peer.host == two || c.host == two && c.peer.host == one {
			c.reset()
		}
	}
}

// Open counts the ends of connections that are open.
func (n *Net) Open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	open := 0
	for c := range n.conns {
		if !c.dead {
			open++
		}
	}
	return open
}
