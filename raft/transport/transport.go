package transport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"

	"skep/api"
	"skep/api/skep"
)

// Transport sends a member's messages to the others. Its methods may be called at once, and
// before Run: what is sent then waits in the queues.
type Transport struct {
	cfg     Config
	metrics *metrics
	started atomic.Bool

	mu      sync.Mutex
	peers   map[uint64]*member
	guest   *member       // that is one of peers and no member yet, or nil
	changed chan struct{} // has one element when peers may differ from what runs
}

// New returns a transport without members.
func New(cfg Config) (*Transport, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Transport{cfg: cfg, metrics: newMetrics(), peers: map[uint64]*member{}, changed: make(chan struct{}, 1)}, nil
}

// Bind says for whom the transport works, where the member can be made only after its
// transport. It comes before all other methods.
func (t *Transport) Bind(self uint64, host Host) { t.cfg.Self, t.cfg.Host = self, host }

// Run carries messages until ctx ends. When it returns, all goroutines that it started have
// ended and no connection is left. It may be called once.
func (t *Transport) Run(ctx context.Context) error {
	switch {
	case t.cfg.Host == nil || t.cfg.Self == 0:
		return errors.New("raft transport: it works for nobody: set Config.Self and Config.Host, or call Bind")
	case t.started.Swap(true):
		return errors.New("raft transport: Run was called before")
	}
	if err := t.metrics.register(t.cfg.Metrics); err != nil {
		return fmt.Errorf("register the metrics of the raft transport: %w", err)
	}
	defer t.metrics.unregister(t.cfg.Metrics)
	var all sync.WaitGroup
	defer all.Wait()
	ctx, stopAll := context.WithCancel(ctx)
	defer stopAll()
	running := map[*member]context.CancelFunc{}
	for {
		peers := t.members()
		for p, stop := range running {
			if peers[p.id] != p {
				stop()
				delete(running, p)
			}
		}
		for _, p := range peers {
			if running[p] == nil {
				ctx, stop := context.WithCancel(ctx)
				running[p] = stop
				all.Go(func() { p.run(ctx) })
			}
		}
		select {
		case <-t.changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// members returns a copy of who is there.
func (t *Transport) members() map[uint64]*member {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[uint64]*member, len(t.peers))
	for id, p := range t.peers {
		out[id] = p
	}
	return out
}

// SetMembers says who the members are and where they are reached. The one that sends may be
// among them. Connections to others are closed, connections to another address are replaced.
func (t *Transport) SetMembers(members []*api.RaftMember) {
	if g := t.setMembers(members); g != nil && g.link.Load() != nil {
		t.cfg.Host.ReportReachable(g.id) // it said so of no member before
	}
}

// setMembers returns the guest that has become a member, or nil.
func (t *Transport) setMembers(members []*api.RaftMember) *member {
	t.mu.Lock()
	defer t.mu.Unlock()
	peers := make(map[uint64]*member, len(members))
	for _, m := range members {
		if m.GetRaftId() == t.cfg.Self {
			continue
		}
		p := t.peers[m.GetRaftId()]
		if p == nil || p.nodeID != m.GetNodeId() {
			p = newMember(t, m)
		}
		p.setAddr(m.GetAddr())
		peers[p.id] = p
	}
	named := t.guest
	if named != nil && peers[named.id] == nil {
		peers[named.id], named = named, nil
	} else {
		t.guest = nil
	}
	t.set(peers)
	return named
}

func (t *Transport) set(peers map[uint64]*member) {
	t.peers = peers
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// Meet says that a node writes as a member that SetMembers did not name: it leads, and became one
// while this member was away. It is answered like one from now on, at the address of its node, if
// that was another member before, or where the others say that it is; until SetMembers names it,
// or another one is met.
func (t *Transport) Meet(id uint64, nodeID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers[id] != nil || id == t.cfg.Self {
		return
	}
	p := newMember(t, &api.RaftMember{RaftId: id, NodeId: nodeID})
	peers := maps.Clone(t.peers)
	if t.guest != nil {
		delete(peers, t.guest.id)
	}
	for _, other := range peers {
		if other.nodeID == nodeID {
			p.addr.Store(other.addr.Load())
		}
	}
	peers[id], t.guest = p, p
	t.set(peers)
}

// Send hands messages over, in order for each receiver. What finds its queue full is dropped
// and reported, and so is what is too large to send; what is for nobody who is a member is
// dropped. The messages must not be changed any more.
func (t *Transport) Send(messages []*raftpb.Message) {
	var full []uint64
	t.mu.Lock()
	for _, m := range messages {
		p := t.peers[m.GetTo()]
		if p == nil {
			continue
		}
		switch m.GetType() {
		case raftpb.MsgProp: // nobody takes it: who wants to propose asks the leader
		case raftpb.MsgSnap:
			p.snapshots.offer(m)
		default:
			p.snapshots.outdate(m)
			if !p.queue.put(m) {
				t.metrics.dropped.Inc()
				if len(full) == 0 || full[len(full)-1] != p.id {
					full = append(full, p.id)
				}
			}
		}
	}
	t.mu.Unlock()
	for _, id := range full {
		t.cfg.Host.ReportUnreachable(id)
	}
}

// Announce tells all members what the state of this one amounts to at an index.
func (t *Transport) Announce(index uint64, hash []byte) {
	h := &skep.StateHash{Index: index, Hash: hash}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.peers {
		p.queue.announce(h)
	}
}

// Tell says that the host knows more of what members had: all of them are told. What is told
// is what is known when it is sent, however often Tell was called.
func (t *Transport) Tell() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.peers {
		p.queue.renew()
	}
}

// Reachable reports whether a connection to a member stands.
func (t *Transport) Reachable(id uint64) bool {
	t.mu.Lock()
	p := t.peers[id]
	t.mu.Unlock()
	return p != nil && p.link.Load() != nil
}

// Address returns where a member is reached over the connection that stands, "" if none does.
func (t *Transport) Address(id uint64) string {
	if id == t.cfg.Self {
		return t.cfg.Addr
	}
	t.mu.Lock()
	p := t.peers[id]
	t.mu.Unlock()
	if p != nil {
		if l := p.link.Load(); l != nil {
			return l.addr
		}
	}
	return ""
}

// Found says that a member may be at an address, whatever the group's record has. It is looked
// for there too, until that record changes; who answers there has to show the member's
// certificate as anywhere. It does not wait.
func (t *Transport) Found(id uint64, addr string) {
	t.mu.Lock()
	p := t.peers[id]
	t.mu.Unlock()
	if p != nil {
		p.hint(addr)
	}
}

// foundNode is Found for whoever has a certificate.
func (t *Transport) foundNode(nodeID, addr string) {
	for _, p := range t.members() {
		if p.nodeID == nodeID {
			p.hint(addr)
		}
	}
}

// elsewhere returns the configured addresses that no member's record has, and where none is
// connected to.
func (t *Transport) elsewhere() []string {
	taken := map[string]bool{t.cfg.Addr: true}
	for _, p := range t.members() {
		taken[*p.addr.Load()] = true
		if l := p.link.Load(); l != nil {
			taken[l.addr] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(t.cfg.Elsewhere()), func(addr string) bool { return taken[addr] })
}

// resolve asks the members to whom a connection stands where another one is.
func (t *Transport) resolve(ctx context.Context, id uint64) string {
	for _, p := range t.members() {
		l := p.link.Load()
		if l == nil || p.id == id {
			continue
		}
		r, err := api.NewRaftClient(l.conn).ResolveAddress(ctx, &api.ResolveAddressRequest{RaftId: id})
		if err == nil && r.GetAddr() != "" {
			return r.GetAddr()
		}
	}
	return ""
}
