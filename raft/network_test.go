package raft_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/raft"
	"skep/vfs"
)

// network carries messages between the members of a group in one process.
type network struct {
	ctx context.Context
	wg  sync.WaitGroup

	mu     sync.Mutex
	random *rand.Rand
	nodes  map[uint64]*raft.Node
	wires  map[uint64]*wire
	links  map[link]chan packet
	cut    map[link]bool
	met    map[link][2]*raft.Node // who has a connection
	loss   float64
	delay  time.Duration
	jitter time.Duration
	seen   map[raftpb.MessageType]int

	breakAfter         int // chunks of a snapshot, then the connection breaks
	snapshots, resumed int // that came whole; attempts that went on
}

type link struct{ from, to uint64 }

// packet is a message; without one, what a member knows of the others.
type packet struct {
	due time.Time
	m   *raftpb.Message
}

// connects is how often members look for those to whom they have no connection.
const connects = 20 * time.Millisecond

func newNetwork(t *testing.T, seed uint64) *network {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	n := &network{
		ctx: ctx, random: rand.New(rand.NewPCG(seed, 7)), delay: time.Millisecond,
		nodes: map[uint64]*raft.Node{}, wires: map[uint64]*wire{}, links: map[link]chan packet{}, cut: map[link]bool{},
		met: map[link][2]*raft.Node{}, seen: map[raftpb.MessageType]int{},
	}
	n.wg.Go(n.connect)
	t.Cleanup(func() {
		cancel()
		n.wg.Wait()
	})
	return n
}

// wire is one member's transport.
type wire struct {
	net *network
	id  uint64

	mu      sync.Mutex
	members []*api.RaftMember
}

func (w *wire) SetMembers(members []*api.RaftMember) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.members = members
}

func (w *wire) knows(id uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.members, func(m *api.RaftMember) bool { return m.GetRaftId() == id })
}

func (w *wire) Send(messages []*raftpb.Message) {
	for _, m := range messages {
		if m.GetFrom() != w.id || m.GetTo() == w.id || m.GetTo() == 0 {
			panic(fmt.Sprintf("%x sends a %s of %x to %x", w.id, m.GetType(), m.GetFrom(), m.GetTo()))
		}
		if w.knows(m.GetTo()) {
			w.net.send(link{w.id, m.GetTo()}, proto.CloneOf(m))
		}
	}
}

func (w *wire) Tell() {
	w.mu.Lock()
	members := w.members
	w.mu.Unlock()
	for _, m := range members {
		if m.GetRaftId() != w.id {
			w.net.send(link{w.id, m.GetRaftId()}, nil)
		}
	}
}

// connect makes connections and has the two ends tell each other what they know.
func (n *network) connect() {
	ticker := time.NewTicker(connects)
	defer ticker.Stop()
	for {
		n.set(n.meet)
		select {
		case <-ticker.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// meet is called with the lock held.
func (n *network) meet() {
	for from, a := range n.nodes {
		for to, b := range n.nodes {
			l, both := link{from, to}, [2]*raft.Node{a, b}
			switch {
			case from == to || n.met[l] == both && !n.cut[l]:
			case n.cut[l] || n.cut[link{to, from}]:
				delete(n.met, l)
			case n.wires[from].knows(to):
				n.met[l] = both
				b.Told(from, a.Had())
				a.Told(to, b.Had())
			}
		}
	}
}

func (n *network) send(l link, m *raftpb.Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m != nil {
		n.seen[m.GetType()]++
	}
	queue := n.links[l]
	if queue == nil {
		queue = make(chan packet, 4096)
		n.links[l] = queue
		n.wg.Go(func() { n.carry(l, queue) })
	}
	due := time.Now().Add(n.delay)
	if n.jitter > 0 {
		due = due.Add(time.Duration(n.random.Int64N(int64(n.jitter))))
	}
	if n.loss > 0 && n.random.Float64() < n.loss {
		return
	}
	select {
	case queue <- packet{due, m}:
	default:
	}
}

func (n *network) carry(l link, queue <-chan packet) {
	for {
		select {
		case <-n.ctx.Done():
			return
		case p := <-queue:
			select {
			case <-time.After(time.Until(p.due)):
			case <-n.ctx.Done():
				return
			}
			n.deliver(l, p.m)
		}
	}
}

func (n *network) deliver(l link, m *raftpb.Message) {
	n.mu.Lock()
	from, to, cut := n.nodes[l.from], n.nodes[l.to], n.cut[l]
	n.mu.Unlock()
	switch {
	case from == nil:
	case m == nil:
		if to != nil && !cut {
			to.Told(l.from, from.Had())
		}
	case to == nil || cut:
		from.ReportUnreachable(l.to)
		if m.GetType() == raftpb.MsgSnap {
			from.ReportSnapshot(l.to, false)
		}
	case m.GetType() == raftpb.MsgSnap:
		n.wg.Go(func() { n.snapshot(l, from, m) })
	default:
		if err := to.Step(n.ctx, m); errors.Is(err, raft.ErrRemoved) {
			from.Removed()
			return
		}
		from.ReportReachable(l.to)
		to.ReportReachable(l.from)
	}
}

// snapshot sends the snapshot of a MsgSnap in chunks, each of which takes as long as a
// message, in as many attempts as it takes while both members are there.
func (n *network) snapshot(l link, from *raft.Node, m *raftpb.Message) {
	out, err := from.OpenSnapshot(m.GetSnapshot().GetMetadata().GetIndex())
	if err != nil {
		from.ReportSnapshot(l.to, false)
		return
	}
	defer out.State.Close()
	m.Snapshot = &raftpb.Snapshot{Metadata: out.Meta}
	for attempt := 0; n.ctx.Err() == nil; attempt++ {
		n.mu.Lock()
		same, to, limit := n.nodes[l.from] == from, n.nodes[l.to], n.breakAfter
		n.mu.Unlock()
		if !same || to == nil || attempt > 100 {
			break
		}
		switch err := n.attempt(l, to, m, out, limit); {
		case err == nil:
			from.ReportSnapshot(l.to, true)
			return
		case errors.Is(err, raft.ErrRemoved):
			from.Removed()
			return
		}
	}
	from.ReportSnapshot(l.to, false)
}

// attempt sends at most limit chunks, if that is not zero.
func (n *network) attempt(l link, to *raft.Node, m *raftpb.Message, out *raft.OutgoingSnapshot, limit int) error {
	in, err := to.ReceiveSnapshot(m, raft.SnapshotHeader{ID: out.ID, Members: out.Members, Removed: out.Removed})
	if err != nil {
		<-time.After(10 * n.delay) // of the bubble
		return err
	}
	if in.Offset() > 0 {
		n.set(func() { n.resumed++ })
	}
	if _, err := out.State.Seek(in.Offset(), io.SeekStart); err != nil {
		return err
	}
	chunk := make([]byte, 1000)
	for sent := 0; ; sent++ {
		select {
		case <-time.After(n.delay):
		case <-n.ctx.Done():
			return n.ctx.Err()
		}
		n.mu.Lock()
		cut := n.cut[l] || n.nodes[l.to] != to || limit > 0 && sent == limit
		n.mu.Unlock()
		if cut {
			return errors.New("cut")
		}
		k, err := io.ReadFull(out.State, chunk)
		if errors.Is(err, io.EOF) {
			n.set(func() { n.snapshots++ })
			return in.Commit(n.ctx)
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if _, err := in.Write(chunk[:k]); err != nil {
			return err
		}
	}
}

func (n *network) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

// part cuts all links between the groups.
func (n *network) part(groups ...[]uint64) {
	n.set(func() {
		for i, a := range groups {
			for j, b := range groups {
				for _, from := range a {
					for _, to := range b {
						if i != j {
							n.cut[link{from, to}] = true
						}
					}
				}
			}
		}
	})
}

func (n *network) heal() {
	n.set(func() { clear(n.cut); n.loss, n.jitter = 0, 0 })
}

// group is several members.
type group struct {
	t       *testing.T
	net     *network
	change  func(*raft.Config)
	disks   map[uint64]*vfs.Mem
	configs map[uint64]raft.Config
	running map[uint64]*running
}

// newGroup starts members 1 to n, the first as a new group, which the others join.
func newGroup(t *testing.T, seed uint64, n int, change func(*raft.Config)) *group {
	t.Helper()
	g := &group{
		t: t, net: newNetwork(t, seed), change: change,
		disks: map[uint64]*vfs.Mem{}, configs: map[uint64]raft.Config{}, running: map[uint64]*running{},
	}
	g.start(1, nil)
	g.running[1].lead(t)
	for id := uint64(2); id <= uint64(n); id++ {
		g.join(id)
	}
	g.settle("all vote", func(s raft.Status) bool { return len(s.Members) == n && len(s.Learners) == 0 })
	return g
}

func (g *group) start(id uint64, join *raft.JoinInfo) {
	g.t.Helper()
	if g.disks[id] == nil {
		g.disks[id] = vfs.NewMem()
	}
	cfg := config(g.disks[id])
	cfg.ID, cfg.NodeID, cfg.Addr = id, fmt.Sprint("node", id), fmt.Sprintf("10.0.0.%d:2377", id)
	w := &wire{net: g.net, id: id}
	cfg.Transport, cfg.Join = w, join
	if g.change != nil {
		g.change(&cfg)
	}
	g.configs[id] = cfg
	r := start(g.t, cfg)
	g.running[id] = r
	g.net.set(func() { g.net.nodes[id], g.net.wires[id] = r.node, w })
}

// halt ends a member as it is: nothing that it would still do reaches others.
func (g *group) halt(id uint64) {
	g.net.set(func() { delete(g.net.nodes, id) })
	if err := g.running[id].stop(); err != nil {
		g.t.Errorf("member %d: %v", id, err)
	}
	delete(g.running, id)
}

// crash cuts a member's power.
func (g *group) crash(id uint64, r *rand.Rand) {
	g.net.set(func() { delete(g.net.nodes, id) }) // or it would be heard saying what this disk does not have
	g.disks[id] = g.disks[id].Crash(r)
	g.halt(id)
}

func member(id uint64) *api.RaftMember {
	return &api.RaftMember{RaftId: id, NodeId: fmt.Sprint("node", id), Addr: fmt.Sprintf("10.0.0.%d:2377", id)}
}

// join adds a member through the leader and starts it.
func (g *group) join(id uint64) {
	g.t.Helper()
	leader := g.leader()
	if err := leader.node.AddMember(g.t.Context(), member(id)); err != nil {
		g.t.Fatal(err)
	}
	s := leader.node.Status()
	g.start(id, &raft.JoinInfo{ID: id, Members: s.Members, Removed: s.Removed})
}

// leader waits until one leads that a majority of the running members follows.
func (g *group) leader() *running {
	g.t.Helper()
	for range 1000 {
		for id, r := range g.running {
			r.mu.Lock()
			leads := r.term != 0
			r.mu.Unlock()
			follow := 0
			for _, other := range g.running {
				if other.node.Status().Leader == id {
					follow++
				}
			}
			if leads && 2*follow > len(g.running) {
				return r
			}
		}
		<-time.After(10 * time.Millisecond) // of the bubble
	}
	g.t.Fatal("nobody leads")
	return nil
}

// settle waits until all running members are at the same index and ok holds of their status.
func (g *group) settle(what string, ok func(raft.Status) bool) {
	g.t.Helper()
	for range 3000 {
		<-time.After(10 * time.Millisecond) // of the bubble
		same, index := true, uint64(0)
		for _, r := range g.running {
			s := r.node.Status()
			if index == 0 {
				index = s.Applied
			}
			same = same && s.Leader != 0 && s.Applied == index && s.LastIndex == index && (ok == nil || ok(s))
		}
		if same {
			g.same()
			return
		}
	}
	for id, r := range g.running {
		g.t.Logf("member %d: %+v", id, r.node.Status())
	}
	g.t.Fatalf("waited in vain until %s", what)
}

// same checks that the members, which are settled, have the same state.
func (g *group) same() {
	g.t.Helper()
	var first []string
	have := false
	for id, r := range g.running {
		state := r.contents()
		if !have {
			first, have = state, true
		}
		if !slices.Equal(state, first) {
			g.t.Errorf("member %d has %d entries, another %d, and they differ", id, len(state), len(first))
		}
	}
}
